"""A model that samples in milliseconds, for tests of the jobs that draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medzoo import ImageSpec
from medzoo import config as settings
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins

CLASSES = ("thick-wall", "normal", "narrow-canal")


def make_model(
    folder: Path,
    *,
    classes: Sequence[str] = CLASSES,
    trained_on: Sequence[str] | None = (),
    embedded: str = "",
    seed: int = 0,
) -> Path:
    """A folder with an untrained `ddpm` of 16 pixels that says it was trained on these images; None does not say."""
    spec = load_plugins().generator("ddpm")
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny")
    image = ImageSpec(size=16, channels=1, classes=tuple(classes))
    generator = build_model(spec, config, image, device="cpu", seed=seed)
    data = {"name": "test", "embedded": embedded}
    data |= {"images": sorted(trained_on)} if trained_on is not None else {}
    save_model(folder, generator, spec=spec, config=config, data=data)
    return folder
