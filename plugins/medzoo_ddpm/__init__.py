"""DDPM: a class-conditional diffusion model on pixels (Ho et al. 2020; studies A and B)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import PixelDiffusionSettings, UNetSettings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(UNetSettings):
    """The U-Net and its self-attention."""

    attention_head_dim: int = setting(8, "channels of an attention head", min=1)


@dataclass(frozen=True, kw_only=True)
class DDPMConfig(PixelDiffusionSettings):
    """Settings of `ddpm`; the defaults are a mid-sized model for 64 pixels."""

    network: NetworkSettings = NetworkSettings()


def build(config: DDPMConfig, image: ImageSpec, device: str) -> Generator:
    """A DDPM with fresh weights on `device`."""
    from medzoo_ddpm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `ddpm`."""
    return [
        GeneratorSpec(
            contract=2,
            name="ddpm",
            summary="class-conditional diffusion on pixels, optional classifier-free guidance",
            config=DDPMConfig,
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
