"""Leakage: whether real images of an evaluation were used to train the model that it evaluates."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import DataError
from medzoo.evaluation.image_sets import EvaluationSet, Origin
from medzoo.evaluation.results import FAKE, REAL, TRAIN
from medzoo.generation.mixture import Source
from medzoo.generation.run import MODELS
from medzoo.hub.registry import CONFIG, WEIGHTS
from medzoo.hub.sources import locate
from medzoo.models.folder import read_description
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.record import read_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Which real images, by index, `who` was trained on: a model, or "" for the training set.

    `trained_on` is the number of its training images, or None if they are unknown.
    """

    who: str
    weights_sha256: str
    trained_on: int | None
    indices: tuple[int, ...]

    def describe(self, count: int) -> str:
        """Describe it in a sentence; `count` is the number of real images."""
        shared = f"{len(self.indices)} of the {count} real images"
        return f"'{self.who}' was trained on {shared}" if self.who else f"{shared} are among the training images"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What is known of the training on the `count` real images given, `left_out` of which were left out for it."""

    seen: tuple[Seen, ...]
    count: int
    left_out: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each training on images that were evaluated nevertheless."""
        warnings = (f"{one.describe(self.count)}: the results are too optimistic" for one in self.seen if one.indices)
        return () if self.left_out else tuple(warnings)

    def facts(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        trained = [
            {"who": one.who or "training images", "weights_sha256": one.weights_sha256}
            | {"trained_on": one.trained_on, "real_among_them": len(one.indices)}
            for one in self.seen
        ]
        return {"real": self.count, "left_out": self.left_out, "trained": trained}


def find_seen(
    sets: Mapping[str, EvaluationSet],
    source: Source,
    *,
    models: Sequence[LoadedModel[Generator]],
) -> list[Seen]:
    """Find the real images used in trainings: in the training set, by the models that the metadata.csv of the synthetic
    images names, as far as a registry knows them, and by `models`."""
    found: list[Seen] = []
    for who, weights, trained_on in _trainings(sets, source, models=models):
        shared: tuple[int, ...] = ()
        if trained_on is not None:
            digests = sets[REAL].images.fingerprints()
            shared = tuple(place for place, digest in enumerate(digests) if digest in trained_on)
        known = None if trained_on is None else len(trained_on)
        found.append(Seen(who=who, weights_sha256=weights, trained_on=known, indices=shared))
    return found


def check_unseen(lineage: Lineage) -> None:
    """Raise DataError if real images were used in training."""
    for one in lineage.seen:
        if one.indices:
            raise DataError(
                f"{one.describe(lineage.count)}, so no result measured on them would be valid",
                "--leave-out-seen evaluates on the others; --allow-leak uses all and records it",
            )


def _trainings(
    sets: Mapping[str, EvaluationSet],
    source: Source,
    *,
    models: Sequence[LoadedModel[Generator]],
) -> Iterator[tuple[str, str, Collection[str] | None]]:
    """Yield the name, the weights and the fingerprints of the images (None if unknown) of each training."""
    if TRAIN in sets:
        yield "", "", frozenset(sets[TRAIN].images.fingerprints())
    for origin in sets[FAKE].origins:
        yield origin.generator, origin.weights_sha256, _images_of(origin, sets[FAKE].data.path, source)
    for model in models:
        yield model.name, model.weights_sha256 or "", model.trained_on


def _images_of(origin: Origin, made: Path, source: Source) -> frozenset[str] | None:
    """Return the fingerprints of the training images of the model with these weights, or None if they are unknown.

    The model is a published one, or in the folder named by the run.json of the images `made` with it.
    """
    if not origin.weights_sha256:
        return None
    missing = "is in no registry here"
    for row in source.registry.entries:
        if any(file.name == WEIGHTS and file.sha256 == origin.weights_sha256 for file in row.files):
            folder = locate(row)[1]
            if folder is not None:
                return frozenset(map(str, read_description(folder)["data"].get("images", ())))
            missing = f"is not on this machine (medzoo pull {row.name})"
    if (home := _home(origin, made)) is not None:
        description = read_description(home) if (home / CONFIG).is_file() else {}
        if description.get("weights_sha256") == origin.weights_sha256:
            return frozenset(map(str, description["data"].get("images", ())))
        missing += f" and no longer in {home}"
    logger.warning(f"'{origin.generator}' {missing}, so its training images are unknown")
    return None


def _home(origin: Origin, made: Path) -> Path | None:
    """Return the folder that the model was in when it made the images, by their run.json."""
    record = read_run(made if made.is_dir() else made.parent) or {}
    folders = record.get(MODELS)
    named = folders.get(origin.generator) if isinstance(folders, Mapping) else None
    return Path(named) if isinstance(named, str) else None
