"""Seeds, precision, and the copy that samples."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import nn

from medzoo.errors import ResourceError
from medzoo.seeds import derive_seed, generator
from medzoo.toolkit import devices
from medzoo.toolkit.devices import inference_copy, keep_freed_memory, reproducible_kernels, resolve_precision

CPU = torch.device("cpu")


THRESHOLDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its malloc is glibc's")
def test_keep_freed_memory_unless_environment_says(monkeypatch):
    for name in THRESHOLDS:
        monkeypatch.delenv(name, raising=False)
    assert keep_freed_memory.__wrapped__()
    for name in THRESHOLDS:
        monkeypatch.setenv(name, "1")
        assert not keep_freed_memory.__wrapped__()
        monkeypatch.delenv(name)


def test_derive_seed_depends_on_parts_and_order():
    parts = [(0,), (1,), (0, 1), (1, 0), (0, "1", 2), ("a", "b"), ("ab",), (12, 3), (1, 23)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "step", 3) == derive_seed(0, "step", 3)


def test_derive_seed_known_value():
    assert derive_seed("udder", 7) == 1424258468035065852


def test_generator_repeats_without_global_random_state():
    before = torch.get_rng_state()
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))
    assert not torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "b")))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_resolve_precision_auto_uses_native_bf16(native, expected, monkeypatch):
    monkeypatch.setattr(devices, "has_bf16", lambda device: native)
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resolve_precision_explicit(precision):
    assert resolve_precision(precision, CPU) == precision


def test_resolve_precision_fp16_needs_gpu():
    assert resolve_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(ResourceError, match=r"fp16 needs a GPU .set precision to bf16 or fp32"):
        resolve_precision("fp16", CPU)


class Net(nn.Module):
    """One convolution, drop-out, a counter and a scale."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, images):
        return self.drop(self.conv(images)) * self.scale.view(1, -1, 1, 1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_inference_copy_dtype_and_layout(precision, dtype):
    network = Net().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = inference_copy(network, precision)
    assert {fast.conv.weight.dtype, fast.conv.bias.dtype, fast.scale.dtype} == {dtype}
    assert fast.count.dtype == torch.int64
    assert fast.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not fast.training
    assert not any(weight.requires_grad for weight in fast.parameters())
    images = torch.rand(2, 2, 8, 8)
    with torch.no_grad():
        plain = network.eval()(images)
        assert torch.allclose(fast(images.to(dtype)).float(), plain, atol=1e-6 if dtype == torch.float32 else 0.02)
        fast.conv.weight.zero_()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert all(weight.dtype == torch.float32 and weight.requires_grad for weight in network.parameters())


def test_reproducible_kernels_leaves_cudnn_on_and_restores_flags():
    def flags():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32

    before = flags()
    with reproducible_kernels():
        assert flags() == (True, True, False, False)
        with torch.backends.cudnn.flags(enabled=False), reproducible_kernels():
            assert flags()[0] is False, "who switched cuDNN off wants it off"
    assert flags() == before
