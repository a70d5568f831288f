"""DDPM: a class-conditional diffusion model on pixels (Ho et al. 2020; studies A and B)."""

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
    """The U-Net."""

    widths: tuple[int, ...] = setting((128, 128, 256, 256, 512, 512), "channels at each resolution", low=1)
    layers: int = setting(2, "residual blocks at each resolution", low=1)
    attention_from: int = setting(4, "first resolution (counted from 0) with self-attention", low=0)
    head_width: int = setting(8, "channels of an attention head", low=1)
    groups: int = setting(32, "groups of the group normalisation", low=1)
    dropout: float = setting(0.0, "dropout in residual blocks", low=0.0, high=1.0)
    patch: int = setting(1, "pixels a side folded into channels before the network (2 quarters its work)", low=1)


@dataclass(frozen=True, kw_only=True)
class DDPMConfig:
    """Settings of `ddpm`; the defaults are a mid-sized model for 64 pixels."""

    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


def build(config: DDPMConfig, image: ImageSpec, device: str) -> Generator:
    """A DDPM with fresh weights on `device`."""
    from medzoo_ddpm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `ddpm`."""
    return [
        GeneratorSpec(
            name="ddpm",
            summary="class-conditional diffusion on pixels, optional classifier-free guidance",
            config=DDPMConfig,
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
