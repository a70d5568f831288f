"""Precision and memory layout for the hardware at hand."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medzoo.errors import ResourceError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_HEAP_BLOCK, _KEPT_TOP = 32 << 20, 1 << 30  # the former is the most that glibc allows
_OWN_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def has_bf16(device: torch.device) -> bool:
    """Return whether bf16 arithmetic is native on `device`."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return "AVX512" in capability and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return "fp32", "bf16" or "fp16" for `device`; "auto" is bf16 where it is native, else fp32.

    Raises:
        ResourceError: fp16 on a CPU.
    """
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise ResourceError("fp16 needs a GPU", "set precision to bf16 or fp32")
    return precision


@contextlib.contextmanager
def reproducible_kernels() -> Iterator[None]:
    """Let cuDNN take deterministic algorithms, unmeasured, and compute fp32 in fp32, not in TF32, which keeps 10 bits.

    So an image depends as little on its batch on a GPU as on a CPU. For the duration of a `with`, or of a function as
    its decorator.
    """
    enabled = torch.backends.cudnn.enabled  # without this argument, cuDNN would be off
    with torch.backends.cudnn.flags(enabled=enabled, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor, most often of draws on the CPU, to `device`; a GPU's queued work is not waited for."""
    return tensor.to(device, non_blocking=device.type == "cuda")


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to a gibibyte of freed memory in this process, and return whether it does.

    Sampling and training allocate the same large blocks at every step. glibc returns them to the system in between, and
    the page faults of getting them back take a sixth to a quarter of the processor time (bench/RESULTS.md). Elsewhere,
    and where the environment has thresholds of its own, nothing is changed.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    if any(name in os.environ for name in _OWN_CHOICES):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK) and libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_TOP))


class FastSampling(nn.Module):
    """A module that samples with frozen copies of its submodules: `fast` makes them once, new weights discard them."""

    def __init__(self) -> None:
        super().__init__()
        self._fast: list[Any] = []  # a list, so that copies are no submodules and stay out of state_dict

    def fast(self, precision: str, *parts: nn.Module) -> list[Any]:
        """Return the copies of `parts`, in `precision`."""
        if not self._fast:
            self._fast += [inference_copy(part, precision) for part in parts]
        return self._fast

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights and discard the copies of the old ones."""
        self._fast.clear()
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def sampling_layout(device: torch.device) -> torch.memory_format:
    """Return the layout of images that samples fastest: channels-last on a CPU, contiguous on a GPU.

    There a U-Net of 3.8 million parameters samples 1.2 to 1.3 times as many images in large batches (bench/RESULTS.md).
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def inference_copy(network: nn.Module, precision: str) -> nn.Module:
    """Return a frozen copy of `network` in `precision` and in the layout that samples fastest."""
    device = next(network.parameters()).device
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[resolve_precision(precision, device)]
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    for tensor in (*fast.parameters(), *fast.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return fast.to(memory_format=sampling_layout(device))
