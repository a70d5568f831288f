"""DDPM with learned variance and cross-attention on label tokens (Nichol & Dhariwal 2021; study A)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_ddpm_var.settings import DDPMVarConfig


def build(config: DDPMVarConfig, image: ImageSpec, device: str) -> Generator:
    """Build a DDPM with learned variance and fresh weights on `device`."""
    from medzoo_ddpm_var.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `ddpm-var`."""
    return [
        GeneratorSpec(
            contract=3,
            name="ddpm-var",
            summary="diffusion on pixels with learned variance, label tokens and classifier-free guidance",
            config="medzoo_ddpm_var.settings:DDPMVarConfig",
            presets=files(__name__) / "presets",
            build=build,
            varies_images=True,
            takes_unlabeled=True,
        )
    ]
