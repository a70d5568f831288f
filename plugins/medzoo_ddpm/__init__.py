"""DDPM: a class-conditional diffusion model on pixels (Ho et al. 2020; studies A and B)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_ddpm.settings import DDPMConfig


def build(config: DDPMConfig, image: ImageSpec, device: str) -> Generator:
    """Build a DDPM with fresh weights on `device`."""
    from medzoo_ddpm.model import build_model

    return build_model(config, image, device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Provide `ddpm`."""
    return [
        GeneratorSpec(
            contract=3,
            name="ddpm",
            summary="class-conditional diffusion on pixels, optional classifier-free guidance",
            config="medzoo_ddpm.settings:DDPMConfig",
            presets=files(__name__) / "presets",
            build=build,
            varies_images=True,
            takes_unlabeled=True,
        )
    ]
