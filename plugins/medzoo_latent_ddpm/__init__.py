"""Diffusion on vectors: a variational autoencoder to one vector an image, and an MLP that denoises them (study D)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_latent_ddpm.settings import LatentDDPMConfig


def build(config: LatentDDPMConfig, image: ImageSpec, device: str) -> Generator:
    """A diffusion model on an autoencoder's vectors, fresh weights, on `device`."""
    from medzoo_latent_ddpm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `latent-ddpm`."""
    return [
        GeneratorSpec(
            contract=2,
            name="latent-ddpm",
            summary="diffusion on one latent vector per image, with additive labels and classifier-free guidance",
            config="medzoo_latent_ddpm.settings:LatentDDPMConfig",
            presets=files(__name__) / "presets",
            build=build,
            multi_label=True,
        )
    ]
