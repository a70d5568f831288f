"""DDPM with learned variance and cross-attention on label tokens (Nichol & Dhariwal 2021; study A)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import (
    DiffusionSettings,
    ImageSettings,
    LossSettings,
    SamplingSettings,
    TrainingSettings,
)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The U-Net and the label embedding it attends to."""

    widths: tuple[int, ...] = setting((128, 256, 256, 512), "channels at each resolution", low=1)
    layers: int = setting(2, "residual blocks at each resolution", low=1)
    attention_from: int = setting(1, "first resolution (counted from 0) with cross-attention", low=0)
    heads: int = setting(8, "attention heads", low=1)
    groups: int = setting(32, "groups of the group normalisation", low=1)
    dropout: float = setting(0.0, "dropout in residual blocks", low=0.0, high=1.0)
    tokens: int = setting(8, "label tokens", low=1)
    token_width: int = setting(256, "width of a label token", low=1)
    token_hidden: int = setting(512, "hidden width of the label embedding", low=1)
    patch: int = setting(1, "pixels a side folded into channels before the network (2 quarters its work)", low=1)


@dataclass(frozen=True, kw_only=True)
class DDPMVarConfig:
    """Settings of `ddpm-var`."""

    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


def build(config: DDPMVarConfig, image: ImageSpec, device: str) -> Generator:
    """A DDPM with learned variance, fresh weights, on `device`."""
    from medzoo_ddpm_var.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `ddpm-var`."""
    return [
        GeneratorSpec(
            name="ddpm-var",
            summary="diffusion on pixels with learned variance, label tokens and classifier-free guidance",
            config=DDPMVarConfig,
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
