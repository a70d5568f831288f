"""DCGAN: a convolutional generative adversarial network (Goodfellow et al. 2014, Radford et al. 2016; study C)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_dcgan.settings import DCGANConfig


def build(config: DCGANConfig, image: ImageSpec, device: str) -> Generator:
    """Build a DCGAN with fresh weights on `device`."""
    from medzoo_dcgan.model import DCGAN

    return DCGAN(config, image).to(device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `dcgan`."""
    return [
        GeneratorSpec(
            contract=2,
            name="dcgan",
            summary="class-conditional convolutional GAN; one forward pass per image",
            config="medzoo_dcgan.settings:DCGANConfig",
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
