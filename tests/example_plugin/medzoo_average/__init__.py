"""`average`: each class's mean image, every pixel varied as much as it varies in the training images."""

from dataclasses import dataclass
from importlib.resources import files

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """Settings of `average`: one field a setting, its presets are presets/*.toml."""

    image: ImageSettings = ImageSettings()
    spread: float = setting(1.0, "how much of the pixels' own variation is drawn", min=0.0, max=1.0)


def build(config: AverageConfig, image: ImageSpec, device: str) -> Generator:
    """A generator with fresh weights; torch is imported here, so that `medzoo list` stays fast."""
    from medzoo_average.model import Average

    return Average(config, image).to(device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `average`."""
    return [
        GeneratorSpec(
            contract=2,
            name="average",
            summary="each class's mean image with its pixels' own spread",
            config=AverageConfig,
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
