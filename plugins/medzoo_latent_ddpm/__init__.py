"""Diffusion on vectors: a variational autoencoder with one vector per image, and a denoising MLP (study D)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_latent_ddpm.settings import LatentDDPMConfig


def build(config: LatentDDPMConfig, image: ImageSpec, device: str) -> Generator:
    """Build a diffusion model on an autoencoder's vectors, with fresh weights on `device`."""
    from medzoo_latent_ddpm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `latent-ddpm`."""
    return [
        GeneratorSpec(
            contract=3,
            name="latent-ddpm",
            summary="diffusion on one latent vector per image, with additive labels and classifier-free guidance",
            config="medzoo_latent_ddpm.settings:LatentDDPMConfig",
            presets=files(__name__) / "presets",
            build=build,
            varies_images=True,
            takes_unlabeled=True,
            multi_label=True,
        )
    ]
