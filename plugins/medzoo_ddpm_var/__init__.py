"""DDPM with learned variance and cross-attention on label tokens (Nichol & Dhariwal 2021; study A)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import PixelDiffusionSettings, UNetSettings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(UNetSettings):
    """The U-Net and the label tokens it attends to."""

    heads: int = setting(8, "attention heads", low=1)
    tokens: int = setting(8, "label tokens", low=1)
    token_width: int = setting(256, "width of a label token", low=1)
    token_hidden: int = setting(512, "hidden width of the label embedding", low=1)


@dataclass(frozen=True, kw_only=True)
class DDPMVarConfig(PixelDiffusionSettings):
    """Settings of `ddpm-var`."""

    network: NetworkSettings = NetworkSettings()


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
