"""`api-variation`: variations of real images by an image API or a local open-weights pipeline (study C)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_api_variation.settings import ApiVariationConfig


def build(config: ApiVariationConfig, image: ImageSpec, device: str) -> Generator:
    """Build a generator that varies its init_images; a pipeline is loaded on `device` with the first image."""
    from medzoo_api_variation.model import ApiVariation

    return ApiVariation(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `api-variation`."""
    return [
        GeneratorSpec(
            contract=2,
            name="api-variation",
            summary="variations of real images by an image API (uploads them) or a local open-weights pipeline",
            config="medzoo_api_variation.settings:ApiVariationConfig",
            presets=files(__name__) / "presets",
            build=build,
            needs_init_images=True,
            trainable=False,
        )
    ]
