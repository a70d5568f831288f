"""Oversampling of real images: the control that every generator has to beat."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_duplicate.settings import DuplicateConfig


def build(config: DuplicateConfig, image: ImageSpec, device: str) -> Generator:
    """Build a generator that returns its init_images; `config` and `device` have no effect."""
    from medzoo_duplicate.model import Duplicate

    return Duplicate(image)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `duplicate`."""
    return [
        GeneratorSpec(
            contract=2,
            name="duplicate",
            summary="oversampling: unchanged copies of real images, the control for equal counts",
            config="medzoo_duplicate.settings:DuplicateConfig",
            presets=files(__name__) / "presets",
            build=build,
            needs_init_images=True,
            trainable=False,
        )
    ]
