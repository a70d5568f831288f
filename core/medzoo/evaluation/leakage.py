"""Leakage: whether real images of an evaluation were used to train the model that it evaluates."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.data.dataset import Dataset
from medzoo.errors import DataError
from medzoo.evaluation.image_sets import EvaluationSet
from medzoo.evaluation.results import FAKE, REAL, TRAIN
from medzoo.generation.mixture import Source
from medzoo.generation.run import MODELS
from medzoo.hub.registry import CONFIG, WEIGHTS
from medzoo.hub.sources import locate
from medzoo.models.folder import UNKNOWN_LINEAGE, read_description, training_images
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


def find_seen(
    sets: Mapping[str, EvaluationSet], source: Source, *, models: Sequence[LoadedModel[Generator]]
) -> list[Seen]:
    """Find the real images used in trainings: in the training set, by the models that the metadata.csv of the synthetic
    images names, as far as a registry knows them, and by `models`."""
    fake = sets[FAKE]
    trainings: list[tuple[str, str, Collection[str] | None]] = []
    if TRAIN in sets:
        trainings.append(("", "", frozenset(sets[TRAIN].images.fingerprints())))
    trainings += [
        (name, weights, known_training_images(name, weights, fake.data.path, source)) for name, weights in fake.origins
    ]
    trainings += [
        (model.name, model.weights_sha256 or "", model.trained_on if model.check_lineage() else None)
        for model in models
    ]
    digests = sets[REAL].images.fingerprints() if trainings else ()
    return [
        Seen(
            who=who,
            weights_sha256=weights,
            trained_on=None if known is None else len(known),
            indices=tuple(place for place, digest in enumerate(digests) if digest in (known or ())),
        )
        for who, weights, known in trainings
    ]


def without_seen(
    data: Dataset, seen: Sequence[Seen], *, leave_out: bool, allow: bool
) -> tuple[Dataset, dict[str, Any], list[str]]:
    """Return the real images to evaluate on, what run.json says of their lineage, and warnings.

    Raises: DataError for images used in training, unless they are to be left out or allowed; if no other is left.
    """
    trained_on = {index for one in seen for index in one.indices}
    if trained_on and not (leave_out or allow):
        first = next(one for one in seen if one.indices)
        raise DataError(
            f"{first.describe(len(data))}, so no result measured on them would be valid",
            "--leave-out-seen evaluates on the others; --allow-leak uses all and records it",
        )
    trained = [
        {"who": one.who or "training images", "weights_sha256": one.weights_sha256}
        | {"trained_on": one.trained_on, "real_among_them": len(one.indices)}
        for one in seen
    ]
    facts = {"real": len(data), "left_out": len(trained_on) if leave_out else 0, "trained": trained}
    if not leave_out or not trained_on:
        return (
            data,
            facts,
            [f"{one.describe(len(data))}: the results are too optimistic" for one in seen if one.indices],
        )
    if len(trained_on) == len(data):
        raise DataError("every real image was used in training", "give images that no model has seen")
    logger.info(f"left out {len(trained_on)} of the {len(data)} real images, which were used in training")
    return data.subset([index for index in range(len(data)) if index not in trained_on]), facts, []


def known_training_images(generator: str, weights_sha256: str, made: Path, source: Source) -> frozenset[str] | None:
    """Return the fingerprints of the training images of the model with these weights, or None if they are unknown.

    The model is a published one, or in the folder named by the run.json of the images `made` with it.
    """
    if not weights_sha256:
        return None
    missing = "is in no registry here"
    for row in source.registry.entries:
        if any(file.name == WEIGHTS and file.sha256 == weights_sha256 for file in row.files):
            folder = locate(row)[1]
            if folder is not None:
                return _known_images(generator, read_description(folder))
            missing = f"is not on this machine (medzoo pull {row.name})"
    folders = (read_run(made if made.is_dir() else made.parent) or {}).get(MODELS)
    home = folders.get(generator) if isinstance(folders, Mapping) else None
    if isinstance(home, str):
        description = read_description(Path(home)) if (Path(home) / CONFIG).is_file() else {}
        if description.get("weights_sha256") == weights_sha256:
            return _known_images(generator, description)
        missing += f" and no longer in {home}"
    logger.warning(f"'{generator}' {missing}, so its training images are unknown")
    return None


def _known_images(name: str, description: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the fingerprints that a config.json states, or None, with a warning, if it states none."""
    known = training_images(description)
    if known is None:
        logger.warning(UNKNOWN_LINEAGE.format(name=name))
    return known
