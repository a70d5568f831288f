"""Select an arm's synthetic images from a pool, by the training images of the fold alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.metadata import read_metadata
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.features import DatasetExtractor, dataset_extractor
from medzoo.experiment.config import Arm, UseSettings
from medzoo.experiment.folds import Fold
from medzoo.generation.mixture import Source
from medzoo.generation.selection import (
    NOVELTY,
    RANDOM,
    Measured,
    PoolFeatures,
    RealFeatures,
    measure,
    needs_features,
    pool_counts,
    rank,
)
from medzoo.hub.registry import load_registry
from medzoo.plugins.lookup import Plugins
from medzoo.specs import ImageSpec
from medzoo.storage.files import read_json, with_checksum, without_checksum, write_json_atomic

if TYPE_CHECKING:
    from medzoo.experiment.worker import Worker

SELECTIONS = "selections"
_BATCH = 64


def criteria_of(text: str) -> tuple[str, ...]:
    """Return the criteria of a lever: none for "none", two for "agreement+novelty"."""
    return () if text == "none" else tuple(text.split("+"))


def pooled(counts: Mapping[str, int], arm: Arm, use: UseSettings) -> Mapping[str, int]:
    """Return how many images of each label to draw for `counts` in the arm: more where it selects."""
    return counts if arm.select == "none" else pool_counts(counts, use.pool)


def selection_identity(worker: Worker, arm: Arm) -> dict[str, Any]:
    """Return what an arm's selection depends on beside its criteria."""
    if arm.select == "none":
        return {}
    identity = worker.extractor.identity if needs_features(criteria_of(arm.select)) else ""
    return {"pool": worker.design.value.use.pool, "extractor": identity}


def check_selection(worker: Worker, *, allow_leak: bool) -> None:
    """Check that the arms that select can do so, if there are any.

    Raises:
        ConfigError: images may have several labels.
        DataError: the extractor was trained on test images, and not `allow_leak`.
        HubError, UnknownName: as `load_extractor`.
    """
    chosen = [criteria_of(arm.select) for arm in worker.design.arms if arm.select != "none"]
    if not chosen:
        return
    images = worker.images
    if images.data.multi_label:
        raise ConfigError("use.select takes one label per image, but the data has several", "leave it out")
    if not any(map(needs_features, chosen)):
        return
    tested = {"test images": images.seen([index for fold in images.folds for index in fold.test])}
    tested |= {f"images of {name}": frozenset(data.fingerprints()) for name, data in images.external.items()}
    for name, fingerprints in tested.items():
        if (count := len(worker.extractor.trained_on & fingerprints)) and not allow_leak:
            raise DataError(
                f"the extractor '{worker.extractor.name}' was trained on {count} of the {len(fingerprints)} {name}, "
                "so a selection by its features has seen them",
                "set use.extractor=efficientnet-lite0, or accept it with --allow-leak",
            )


def load_extractor(name: str, plugins: Plugins, device: str) -> DatasetExtractor:
    """Load the extractor that selections compare features by. Raises: as `evaluation.features.load_extractor`."""
    source = Source(plugins=plugins, registry=load_registry(plugins=plugins), device=device)
    return dataset_extractor(name, source, (), batch_size=_BATCH)


def select_images(
    worker: Worker,
    fold: Fold,
    drawn: Dataset,
    pool: np.ndarray,
    *,
    key: str,
    crop: str,
    criteria: tuple[str, ...],
    keep: Mapping[str, int],
    seed: int,
) -> tuple[np.ndarray, dict[str, float | str]]:
    """Select `keep` images of each class from those of `drawn` at `pool`, int64; return which, and their counts.

    `key` is a hash of `drawn`; `crop` is how real images are cropped to compare them with drawn ones. What was selected
    is kept in the experiment's folder for the cells with the same images.

    Raises:
        DataError: fewer images than `keep` pass.
    """
    facts = [key, worker.images.digest(fold.train), pool.tolist(), criteria, dict(keep), seed]
    extractor = worker.extractor if needs_features(criteria) else None
    text = json.dumps([*facts, extractor.identity if extractor is not None else ""])
    path = worker.home / SELECTIONS / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    try:
        found = without_checksum(read_json(path), required=True)
        return np.array(found["kept"], np.int64), found["counts"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not selected yet, or damaged
    wanted = [name for name in worker.images.data.classes if keep.get(name)]
    try:
        # Of the whole set, once: what is measured on an image depends on no other one that was drawn.
        measuring = (fold, key, tuple(sorted({*criteria} - {RANDOM})), tuple(wanted), crop, seed)
        if (measured := worker.measured.get(measuring)) is None:
            measured = worker.measured[measuring] = _measure(
                worker, fold, drawn, criteria=criteria, wanted=wanted, crop=crop, seed=seed
            )
        chosen = rank(
            drawn.labels[pool],
            worker.images.data.classes,
            measured.at(pool),
            criteria=criteria,
            keep=keep,
            seed=seed,
        )
    except DataError as error:
        raise DataError(error.message, error.hint.replace("--pool ", "use.pool = ")) from error
    kept = pool[chosen.kept]
    counts: dict[str, float | str] = {
        f"{label}: {name}": value for label, row in chosen.summary().items() for name, value in row.items()
    }
    write_json_atomic(path, with_checksum({"kept": kept.tolist(), "counts": counts}))
    return kept, counts


def _measure(
    worker: Worker,
    fold: Fold,
    drawn: Dataset,
    *,
    criteria: tuple[str, ...],
    wanted: Sequence[str],
    crop: str,
    seed: int,
) -> Measured:
    """Measure what the criteria rank by, on all of `drawn` against the fold's training images."""
    of_drawn, of_data = pool_features(worker, drawn, crop=crop, criteria=criteria)
    data, train = worker.images.data, np.array(fold.train, np.int64)
    facts = (fold, of_data[0].shape[1:], crop, NOVELTY in criteria, drawn.headers[0].width, drawn.headers[0].height)
    if (real := worker.compared.get(facts)) is None:
        real = worker.compared[facts] = RealFeatures(
            classes=data.classes,
            features=of_data[0][train],
            mirrored=of_data[-1][train],
            labels=data.labels[train],
            groups=np.unique(worker.groups[train], return_inverse=True)[1].astype(np.int64),
        )
    sources = _sources(drawn, [data.names[index] for index in fold.train])
    pool = PoolFeatures(features=of_drawn, labels=drawn.labels, sources=sources)
    return measure(pool, real, criteria=criteria, wanted=wanted, seed=seed)


def pool_features(
    worker: Worker, drawn: Dataset, *, crop: str, criteria: tuple[str, ...]
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Return the features by which the criteria compare `drawn` images and all real ones, float32 (N, D) each.

    With "novelty", those of the mirrored real images follow. Features of an image depend on no other image, so those of
    all folds are extracted together; the cache keeps them.
    """
    data = worker.images.data
    if not needs_features(criteria):
        return np.empty((len(drawn), 0), np.float32), [np.empty((len(data), 0), np.float32)]
    header = drawn.headers[0]
    channels = 1 if data.channels == 1 and header.gray else 3
    image = ImageSpec(size=min(header.width, header.height), channels=channels, classes=data.classes)
    (of_drawn,) = worker.extractor.extract(drawn, image, crop="none", mirrored=False)
    return of_drawn, worker.extractor.extract(data, image, crop=crop, mirrored=NOVELTY in criteria)


def _sources(drawn: Dataset, names: list[str]) -> np.ndarray:
    """Return which of the training images, by name, each image varies, by medzoo's metadata.csv: int64, -1 for none."""
    rows, places = read_metadata(drawn.path), {name: place for place, name in enumerate(names)}
    stated = [rows.get(name, {}).get("source_image", "") for name in drawn.names]
    return np.array([places.get(name, -1) for name in stated], np.int64)
