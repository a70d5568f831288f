"""What `medzoo export` needs of a generator: its networks, and how to sample with them as numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medzoo.specs import ImageSpec
from medzoo.toolkit.diffusion.process import (
    DiffusionModel,
    is_guided,
    make_scheduler,
    network_input,
    signal_and_noise,
    to_clean,
)
from medzoo.toolkit.nn.unet import TokenUNet
from medzoo.toolkit.settings import DiffusionSettings, SamplingSettings
from medzoo.toolkit.spectrum import change_spectrum, gain_matrices, remove_pattern


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network to export: `module(*inputs.values())` returns a tensor called `output`.

    `inputs` are examples by name, on the CPU; the first dimension of all is that of the batch, at least 2 here.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is exported of a generator; `sampling` and `pipeline` hold JSON values.

    `networks` are written as ONNX or as programs of torch. Where `sampling` has `steps`, as `export_diffusion` gives
    them, they are a "denoiser" of (noisy data, timesteps (N,), labels) and a "decoder" of clean data; otherwise a
    "generator" of (noise, labels). The last one returns images, float32 (N, C, H, W) in [0, 1]. `noise_shape` is the
    noise of one image, standard normal.

    `components` are those of the pipeline of diffusers, by the names that `publishing/exported/pipeline.py` takes:
    models and schedulers of diffusers, and networks for all that diffusers has no class for; empty, they are the
    `networks`. `pipeline` is added to `sampling` in its settings, where `steps` are left out.
    """

    networks: Mapping[str, Network]
    noise_shape: tuple[int, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    components: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ExportableGenerator(Protocol):
    """A generator that `medzoo export` can write for use without medzoo."""

    def export(self) -> Export:
        """Return its networks, in float32, on the CPU, frozen and in evaluation mode."""


class ToImages(nn.Module):
    """Maps what a network makes, in [-1, 1], to images in [0, 1].

    `decode`, if given, comes first and makes images (N, C, H, W) of latents. A pattern of `pattern` pixels a side is
    removed, and `gain` applied to their spectrum (`toolkit.spectrum`).
    """

    rows: Tensor
    columns: Tensor
    factors: Tensor

    def __init__(self, size: int, gain: Sequence[float], decode: nn.Module | None = None, *, pattern: int = 1) -> None:
        super().__init__()
        self.decode = decode
        self.pattern = pattern
        self.has_gain = bool(gain)
        if gain:
            for name, matrix in zip(("rows", "columns", "factors"), gain_matrices(size, size, gain), strict=True):
                self.register_buffer(name, matrix.float())

    def forward(self, made: Tensor) -> Tensor:
        """Return images, float32 (N, C, H, W) in [0, 1]."""
        images = made if self.decode is None else self.decode(made)
        cut = ((remove_pattern(images, self.pattern) + 1.0) / 2.0).clamp(0.0, 1.0)
        if not self.has_gain:
            return cut
        return change_spectrum(cut, self.rows, self.columns, self.factors)


def export_diffusion(
    model: DiffusionModel[Any],
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    decoder: nn.Module,
    limit: float = 1.0,
    learned_variance: bool = False,
) -> Export:
    """Return what is exported of a diffusion model on data `(N, *shape)`, with the settings of sampling it has.

    `network` and `limit` are those of `DiffusionModel.sample_clean`, and `decoder` makes images of clean data.
    """
    sampling, diffusion = model.settings.sampling, model.settings.diffusion
    alpha, sigma = signal_and_noise(diffusion)
    ancestral = learned_variance and sampling.scheduler == "ddpm"
    scheduler = make_scheduler(sampling, diffusion, learned_variance=learned_variance)
    noisy, labels = torch.zeros(2, *shape), example_labels(model.image)
    networks = {
        "denoiser": Network(
            module=frozen(network),
            inputs={"noisy": noisy, "timesteps": torch.zeros(2, dtype=torch.int64), "labels": labels},
            output="prediction",
        ),
        "decoder": Network(module=frozen(decoder), inputs={"clean": noisy}, output="images"),
    }
    steps = [
        {**_preconditioning(alpha[timestep].item(), sigma[timestep].item(), sampling, diffusion), **step}
        for timestep, step in zip(
            scheduler.timesteps.tolist(), sampling_steps(scheduler, learned_variance=ancestral), strict=True
        )
    ]
    return Export(
        networks=networks,
        noise_shape=shape,
        sampling={
            "guidance_scale": sampling.guidance_scale,
            "guidance_interval": list(sampling.guidance_interval),
            "null_label": model.null.tolist(),
            "prediction_type": diffusion.prediction_type,
            "sigma_data": diffusion.sigma_data if diffusion.prediction_type == "edm" else None,
            "limit": limit,
            "alphas_cumprod": (alpha.double() ** 2).tolist(),
            "steps": steps,
        },
        components={**networks, "scheduler": scheduler},
        pipeline={"timesteps": scheduler.timesteps.tolist()},
    )


def _preconditioning(
    alpha: float, sigma: float, sampling: SamplingSettings, diffusion: DiffusionSettings
) -> dict[str, float]:
    """Return the factors c_in, c_skip and c_out (Karras et al. 2022, table 1) and the guidance at one noise level.

    The network is given c_in noisy, and the clean data are c_skip noisy + c_out prediction.
    """
    unit = torch.ones((), dtype=torch.float64)
    guided = is_guided(sampling.guidance_interval, sigma / alpha)
    return {
        "c_in": network_input(unit, alpha=alpha, sigma=sigma, settings=diffusion).item(),
        "c_skip": to_clean(0.0 * unit, unit, alpha=alpha, sigma=sigma, settings=diffusion).item(),
        "c_out": to_clean(unit, 0.0 * unit, alpha=alpha, sigma=sigma, settings=diffusion).item(),
        "guidance_scale": sampling.guidance_scale if guided else 1.0,
    }


def with_token_unet(found: Export, network: TokenUNet, image: ImageSpec) -> Export:
    """Return `found` with the U-Net that attends to label tokens as diffusers knows it, and its label embedding."""
    rest = {name: part for name, part in found.components.items() if name != "denoiser"}
    embedding = Network(
        module=frozen(network.embedding), inputs={"labels": example_labels(image)}, output="encoder_hidden_states"
    )
    return replace(
        found,
        components={"unet": frozen(network.unet), "label_embedding": embedding, **rest},
        pipeline={**found.pipeline, "patch_size": network.patch},
    )


def frozen(module: nn.Module) -> Any:
    """Return a copy of `module` on the CPU, in evaluation mode and without gradients."""
    return copy.deepcopy(module).cpu().eval().requires_grad_(False)


def example_labels(image: ImageSpec) -> Tensor:
    """Return labels of two images: int64 (2,), or float32 multi-hot (2, K)."""
    return torch.zeros(2, len(image.classes)) if image.multi_label else torch.zeros(2, dtype=torch.int64)


def sampling_steps(scheduler: Any, *, learned_variance: bool) -> list[dict[str, Any]]:
    """Return each step of a diffusers `scheduler` of clean estimates as numbers, for a loop without diffusers.

    With noisy data x, the estimate c of the clean data at `timestep`, that of the step before p, and standard normal
    noise z, the next noisy data are `sample` x + `clean` c + `previous` p + `noise` z. The schedulers that medzoo takes
    are linear, so the factors are read off by stepping with zeros and ones. A step without `noise` draws none. A
    learned variance v in [-1, 1] draws between `noise` (-1) and `noise_max` (1), linear in the logarithm. The last
    step has no factors: its clean estimate is the result.
    """
    *visited, last = scheduler.timesteps.tolist()
    bounds = (-1.0, 1.0) if learned_variance else (None, None)
    lowest, highest = (_factors(copy.deepcopy(scheduler), visited, variance=bound) for bound in bounds)
    steps: list[dict[str, Any]] = []
    for timestep, low, high in zip(visited, lowest, highest, strict=True):
        most = {"noise_max": high["noise"]} if learned_variance and "noise" in low else {}
        steps.append({"timestep": timestep, **low, **most})
    return [*steps, {"timestep": last}]


def _factors(scheduler: Any, timesteps: Sequence[int], *, variance: float | None) -> list[dict[str, float]]:
    """Return the factors of each step. Row 0 steps from zeros, row 1 from x = 1, row 2 + k from c = 1 at step k."""
    rows = 2 + len(timesteps)
    noisy = torch.zeros(rows, 1)
    noisy[1] = 1.0
    found = []
    for step, timestep in enumerate(timesteps):
        clean = torch.zeros(rows, 1)
        clean[2 + step] = 1.0
        output = clean if variance is None else torch.cat([clean, torch.full((rows, 1), variance)], dim=1)
        draws = [torch.Generator().manual_seed(0) for _ in range(rows)]  # the same noise for each row
        made = scheduler.step(output, timestep, noisy, generator=draws, return_dict=False)[0].double().flatten()
        ahead = torch.Generator().manual_seed(0)
        unit = torch.randn(1, generator=ahead).item()
        drawn = bool((draws[0].get_state() == ahead.get_state()).all())
        factors = {"sample": (made[1] - made[0]).item(), "clean": (made[2 + step] - made[0]).item()}
        factors["previous"] = (made[1 + step] - made[0]).item() if step else 0.0
        found.append(factors | ({"noise": made[0].item() / unit} if drawn else {}))
    return found
