"""Classical augmentation of real images: flips, brightness, rotation, shift, shear, zoom (studies B and C)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_classic.settings import ClassicConfig


def build(config: ClassicConfig, image: ImageSpec, device: str) -> Generator:
    """Build a generator that augments its init_images on their own device; it has no weights."""
    from medzoo_classic.model import Classic

    return Classic(config, image)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `classic`."""
    return [
        GeneratorSpec(
            contract=2,
            name="classic",
            summary="classical augmentation: flips, brightness; optional rotation, shift, shear, zoom, noise, erasing",
            config="medzoo_classic.settings:ClassicConfig",
            presets=files(__name__) / "presets",
            build=build,
            needs_init_images=True,
            trainable=False,
        )
    ]
