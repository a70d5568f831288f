"""Predict the classes of images, and score a classifier on images it was not trained on."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.classification.scores import THRESHOLD, ClassificationScores, classification_scores
from medzoo.data.dataset import Dataset, open_dataset, open_unlabeled
from medzoo.data.decoded_cache import Decoded
from medzoo.data.duplicates import just_below, resemble, thumbnails
from medzoo.data.pixels import to_float
from medzoo.data.reading import Reading
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import ConfigError, DataError, UnknownName, memory_errors
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Classifier
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, TRAINING_JOBS, read_run
from medzoo.storage.files import write_atomic, write_json_atomic

# Topics of a run's notes. Published models state them, so they stay as they are.
HELD_OUT, HELD_OUT_APART = "held_out", "held_out_without_near_copies"
BATCH_SIZE = 64
"""Images classified at once, unless the caller says how many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a classifier predicts for images, in their order.

    `files` are paths relative to the data's folder, `labels` the known labels ("" where unknown) and `predicted` the
    most probable class, or for a multi-label model the classes of probability 0.5 or more; several are joined by "|".
    `probabilities` is float32 (N, K), column k being `classes[k]`.

    Example:
        >>> predictions = medzoo.classify.predict("cnn-busi", data="scans")
        >>> dict(zip(predictions.files, predictions.predicted))
    """

    files: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)

    @classmethod
    def of(
        cls, found: Sequence[tuple[Dataset, np.ndarray]], classes: Sequence[str], *, multi_label: bool
    ) -> Predictions:
        """Gather the probabilities (N, K) that a model with these `classes` gave the images of data sets."""
        files, labels, predicted = [], [], []
        for data, probabilities in found:
            hot = data.hot()
            for index, row in enumerate(probabilities):
                chosen = np.flatnonzero(row >= THRESHOLD).tolist() if multi_label else [int(row.argmax())]
                file, root = data.file(index), data.path if data.path.is_dir() else data.path.parent
                files.append(data.names[index] if file is None else Path(os.path.relpath(file, root)).as_posix())
                labels.append("|".join(data.classes[k] for k in np.flatnonzero(hot[index])))
                predicted.append("|".join(classes[k] for k in chosen))
        return cls(
            files=tuple(files),
            labels=tuple(labels),
            predicted=tuple(predicted),
            classes=tuple(classes),
            probabilities=np.concatenate([probabilities for _, probabilities in found]),
        )

    def to_csv(self) -> str:
        """Return a CSV with the columns file, label, predicted, and `p_CLASS` for each class."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["file", "label", "predicted", *(f"p_{name}" for name in self.classes)])
        for *facts, row in zip(self.files, self.labels, self.predicted, self.probabilities, strict=True):
            table.writerow([*facts, *(f"{value:.6f}" for value in row)])
        return text.getvalue()


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Scores without the test images whose thumbnail correlates at `threshold` or more with a training image's."""

    threshold: float
    count: int
    scores: ClassificationScores


@dataclass(frozen=True, kw_only=True)
class ClassifierResult:
    """Scores on the images of `data`; the model was trained on, or its weights chosen by, `leaked` of them.

    `left_out` is the number of such images that were removed from `data` before. `near` holds the scores without
    near-duplicates of training images, where they were asked for.
    """

    data: Dataset
    part: str
    scores: ClassificationScores
    predictions: Predictions = field(repr=False)
    near: NearDuplicates | None
    leaked: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not defined is null."""
        near = self.near and {
            "threshold": self.near.threshold,
            "left_out": self.near.count,
            "scores": self.near.scores.to_dict(),
        }
        return {
            "part": self.part,
            "fingerprint": self.data.fingerprint(),
            "data": self.data.summary().to_dict(),
            "trained_on": self.leaked,
            "trained_on_left_out": self.left_out,
            "scores": self.scores.to_dict(),
            "without_near_duplicates": near,
        }


def images_to_predict(
    path: Path,
    known: Sequence[str],
    *,
    part: str,
    skip_bad: bool,
    classes: Sequence[str] | None = None,
    masks: str = "ignore",
    reading: Reading = Reading(),
) -> list[Dataset]:
    """Return the images at `path`: one image, a folder of images without labels, or the parts of a data set.

    `part` keeps one part, "" all. `known` are the model's classes, `classes` names for those of the data, as for
    `open_dataset`, like `masks`.

    Raises:
        DataError: as `open_dataset`.
        UnknownName: the data has no such part.
    """
    if (images := open_unlabeled(path, classes=known, skip_bad=skip_bad, masks=masks, reading=reading)) is not None:
        return [images]
    data = open_dataset(path, skip_bad=skip_bad, classes=classes, masks=masks, reading=reading)
    return [data_part(data, part)] if part else [data_part(data, "train"), *data.held_out.values()]


def data_part(data: Dataset, part: str) -> Dataset:
    """Return a part of the data; all of it where it has no parts. Raises: UnknownName."""
    if part == "train" or not (part or data.held_out):
        return replace(data, held_out={})
    if part not in data.held_out:
        raise UnknownName("part", part, ["train", *data.held_out], f"(of {data.path})")
    return data.held_out[part]


def predict(
    model: LoadedModel[Classifier], data: Dataset, *, batch_size: int = BATCH_SIZE, progress: Progress
) -> np.ndarray:
    """Return the class probabilities of each image: float32 (N, K).

    Raises:
        ConfigError: `batch_size` below 1.
        DataError: probabilities that are NaN.
        ResourceError: out of memory.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size} is too small", "use at least 1")
    images = _decoded(model, data)
    found = np.empty((len(images), len(model.image.classes)), np.float32)
    hint = f"use a --batch-size below {batch_size}" if batch_size > 1 else "use a model of a smaller image.size"
    for start in range(0, len(images), batch_size):
        with memory_errors(f"classifying {batch_size} images at once with '{model.name}'", hint):
            pixels = torch.from_numpy(to_float(images[start : start + batch_size]))
            found[start : start + batch_size] = model.model.predict(pixels).float().cpu().numpy()
        progress(min(start + batch_size, len(images)), len(images))
    if not np.isfinite(found).all():
        raise DataError(
            f"'{model.name}' predicts probabilities that are NaN",
            "it diverged in training; retrain with a lower training.learning_rate",
        )
    return found


def _decoded(model: LoadedModel[Classifier], data: Dataset) -> Decoded:
    return Decoded(data, size=model.image.size, channels=model.image.channels, crop=model.crop)


def score(
    model: LoadedModel[Classifier],
    data: Dataset,
    *,
    part: str = "",
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    near: float | None = None,
    convert_color: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Progress,
) -> ClassifierResult:
    """Score the model on a part of `data`: `part`, or the test part, or all of data without parts.

    `leave_out_seen` leaves out images that the model was trained on or its weights were chosen by. With `near`, scores
    are also given without the images that resemble one of the data's training part (see `NearDuplicates`).

    Raises:
        ConfigError: `near`, and the data has no parts to compare.
        DataError: the model was trained on some of the images, or chosen by them, unless `allow_leak`.
        UnknownName: there is no such part, or the model does not know a class.
    """
    part = part or ("test" if data.held_out else "")
    chosen, left_out = data_part(data, part), 0
    if part != "train":
        check_no_synthetic(chosen, use="which cannot test a classifier", hint="give real images")
    chosen = model.check_images(chosen, convert_color=convert_color)
    model.check_lineage()
    unseen = [
        place for place, digest in enumerate(_decoded(model, chosen).fingerprints()) if digest not in model.trained_on
    ]
    if leave_out_seen and unseen:
        left_out, chosen = len(chosen) - len(unseen), replace(chosen.subset(unseen), bad=chosen.bad)
    leaked = len(chosen) - len(unseen)
    if leaked and not allow_leak:
        raise DataError(
            f"'{model.name}' was trained on {leaked} of the {len(chosen)} images, or its weights were chosen by them, "
            "so the scores would be too good",
            "give other images, or --leave-out-seen; --allow-leak scores them anyway and records it",
        )
    labels = chosen.view(model.image, crop=model.crop).labels
    probabilities = predict(model, chosen, batch_size=batch_size, progress=progress)
    classes, multi_label = model.image.classes, model.image.multi_label
    without = None
    if near is not None:
        if not data.held_out:
            raise ConfigError(f"{data.path} has no training part to compare with", "leave --near out")
        apart = ~resemble(thumbnails(chosen), thumbnails(data), above=just_below(near))
        if not apart.any():
            raise DataError(f"every image resembles a training image at {near:g} or more", "give a higher --near")
        scores = classification_scores(labels[apart], probabilities[apart], classes, multi_label=multi_label)
        without = NearDuplicates(threshold=near, count=int((~apart).sum()), scores=scores)
    return ClassifierResult(
        data=chosen,
        part=part,
        scores=classification_scores(labels, probabilities, classes, multi_label=multi_label),
        predictions=Predictions.of([(chosen, probabilities)], classes, multi_label=multi_label),
        near=without,
        leaked=leaked,
        left_out=left_out,
    )


def record_scores(run: Path, result: ClassifierResult) -> None:
    """Write the scores into the notes of a training run, from which its model card states them.

    Raises:
        ConfigError: `run` is not the folder of a finished training run.
        DataError: the scores are on images that the model was trained on.
    """
    record = read_run(run) if run.is_dir() else None
    if record is None or record.get("job") != TRAINING_JOBS["classifier"]:
        raise ConfigError(
            f"--record writes into a training run, and {run} is not a finished one", "give the run's folder"
        )
    if result.leaked:
        raise DataError("scores on images that the model was trained on are not recorded", "leave --record out")
    notes = {name: facts for name, facts in record["notes"].items() if not name.startswith(HELD_OUT)}
    of = "test images" + (f" ({result.left_out} that it was trained on left out)" if result.left_out else "")
    notes |= _notes(HELD_OUT, result.scores, of=of)
    if result.near is not None:
        of = f"test images whose 32x32 gray correlates below {result.near.threshold:g} with every training image"
        notes |= _notes(HELD_OUT_APART, result.near.scores, of=of)
    write_json_atomic(run / RUN, {**record, "notes": notes})


def _notes(name: str, scores: ClassificationScores, *, of: str) -> dict[str, dict[str, Any]]:
    """Return the scores as notes of a run, with the number of images, which a card's front matter needs."""
    overall = {key: getattr(scores, key) for key in ("accuracy", "balanced_accuracy", "f1", "auc")}
    recalls = {f"recall {score.name}": score.recall for score in scores.per_class}
    known = {key: value for key, value in {**overall, **recalls}.items() if not math.isnan(value)}
    support = {score.name: score.support for score in scores.per_class}
    return {name: {"images": scores.n, "of": of, **known}, f"{name}_by_class": support}


def write_result(out: Path, result: ClassifierResult) -> list[Path]:
    """Write predictions.csv and scores.json to `out` and return their paths."""
    write_atomic(out / "predictions.csv", result.predictions.to_csv().encode())
    write_json_atomic(out / "scores.json", result.to_dict())
    return [out / "predictions.csv", out / "scores.json"]
