"""Whether the images that a model is judged by are ones it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import DataError
from medzoo.evaluation.image_sets import ImageSet, Origin
from medzoo.evaluation.measurement import MeasuredSet
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
    """Which real images, by index, are among those that `who` was trained on: a model, or "" for the training set.

    `trained_on` counts the latter; None where nobody can say what the model was trained on.
    """

    who: str
    weights_sha256: str
    trained_on: int | None
    indices: tuple[int, ...]

    def told(self, count: int) -> str:
        """A sentence about it, of `count` real images in all."""
        shared = f"{len(self.indices)} of the {count} real images"
        return f"'{self.who}' was trained on {shared}" if self.who else f"{shared} are among the training images"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What is known of the `count` real images that were given, and how many were `left_out` for it."""

    seen: tuple[Seen, ...]
    count: int
    left_out: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each training that knew images which were measured all the same."""
        told = (f"{one.told(self.count)}: the numbers flatter it" for one in self.seen if one.indices)
        return () if self.left_out else tuple(told)

    def facts(self) -> dict[str, Any]:
        """It as plain values, for run.json."""
        trained = [
            {"who": one.who or "training images", "weights_sha256": one.weights_sha256}
            | {"trained_on": one.trained_on, "real_among_them": len(one.indices)}
            for one in self.seen
        ]
        return {"real": self.count, "left_out": self.left_out, "trained": trained}


def find_seen(
    given: Mapping[str, ImageSet],
    sets: Mapping[str, MeasuredSet],
    source: Source,
    *,
    models: Sequence[LoadedModel[Generator]],
) -> list[Seen]:
    """What is known of the real images' place in trainings: of the training set, of the models that the synthetic
    images' metadata.csv names, as far as a registry knows them, and of `models`."""
    found: list[Seen] = []
    for who, weights, trained_on in _trainings(given, sets, source, models=models):
        shared: tuple[int, ...] = ()
        if trained_on is not None:
            digests = sets[REAL].images.fingerprints()
            shared = tuple(place for place, digest in enumerate(digests) if digest in trained_on)
        known = None if trained_on is None else len(trained_on)
        found.append(Seen(who=who, weights_sha256=weights, trained_on=known, indices=shared))
    return found


def refuse_seen(lineage: Lineage) -> None:
    """Nothing. Raises: DataError if some of the real images were trained on."""
    for one in lineage.seen:
        if one.indices:
            raise DataError(
                f"{one.told(lineage.count)}, so nothing measured on them would hold",
                "--leave-out-seen measures on the others; --allow-leak goes on with all and records it",
            )


def _trainings(
    given: Mapping[str, ImageSet],
    sets: Mapping[str, MeasuredSet],
    source: Source,
    *,
    models: Sequence[LoadedModel[Generator]],
) -> Iterator[tuple[str, str, Collection[str] | None]]:
    """Who was trained: its name, its weights, and the fingerprints of the images, None where they are unknown."""
    if TRAIN in sets:
        yield "", "", frozenset(sets[TRAIN].images.fingerprints())
    for origin in given[FAKE].origins:
        yield origin.generator, origin.weights_sha256, _images_of(origin, given[FAKE].data.path, source)
    for model in models:
        yield model.name, model.weights_sha256 or "", model.trained_on


def _images_of(origin: Origin, made: Path, source: Source) -> frozenset[str] | None:
    """The fingerprints of the images that the model of these weights was trained on; None if nobody knows.

    It is a published one, or in the folder that is named by the run.json of the images `made` with it.
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
    logger.warning(f"'{origin.generator}' {missing}, so nobody can say what it was trained on")
    return None


def _home(origin: Origin, made: Path) -> Path | None:
    """The folder that the model was in when it made the images, as their run.json tells."""
    record = read_run(made if made.is_dir() else made.parent) or {}
    folders = record.get(MODELS)
    told = folders.get(origin.generator) if isinstance(folders, Mapping) else None
    return Path(told) if isinstance(told, str) else None
