"""A tiny model, an imbalanced image set, and the filling jobs over them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import make_model
from medzoo.cli.options import parse_overrides
from medzoo.data.phantom import write_phantom
from medzoo.generation import augment
from medzoo.generation import run as filling
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 9, 4 and 3 simulated images."""
    folder = tmp_path_factory.mktemp("images") / "scans"
    write_phantom(folder, counts={"normal": 9, "thick-wall": 4, "narrow-canal": 3}, size=24, seed=5)
    return folder


@pytest.fixture
def prepare(model: Path, images: Path, tmp_path: Path) -> Callable[..., filling.Job]:
    """Prepare an augment job: the tiny model on the scans up to 12 in batches of 5, unless told otherwise."""

    def call(
        *,
        device: str = "cpu",
        overrides: tuple[str, ...] = (),
        **request: Any,
    ) -> filling.Job:
        given = {"generators": (str(model),), "target": 12, "data": images, "out": tmp_path / "out", "batch_size": 5}
        source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides))
        return augment.prepare(source=source, **{**given, **request})

    return call


@pytest.fixture
def fill(prepare: Callable[..., filling.Job]) -> Callable[..., filling.AugmentationResult]:
    """Prepare an augment job and run it."""

    def call(**request: Any) -> filling.AugmentationResult:
        return filling.run(prepare(**request), progress=lambda done, total: None)

    return call


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metadata.csv."""
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
