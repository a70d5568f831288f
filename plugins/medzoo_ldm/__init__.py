"""Latent diffusion: an autoencoder, and a U-Net on its latents that attends to label tokens (Rombach et al. 2022)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_ldm.settings import LDMConfig


def build(config: LDMConfig, image: ImageSpec, device: str) -> Generator:
    """Build a latent diffusion model with fresh weights on `device`."""
    from medzoo_ldm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `ldm`."""
    return [
        GeneratorSpec(
            contract=3,
            name="ldm",
            summary="diffusion on an autoencoder's latents, with label tokens and classifier-free guidance",
            config="medzoo_ldm.settings:LDMConfig",
            presets=files(__name__) / "presets",
            build=build,
            varies_images=True,
            takes_unlabeled=True,
            multi_label=True,
        )
    ]
