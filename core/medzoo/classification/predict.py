"""What a classifier says of images, and how often it is right about images it was not trained on."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.classification.scores import THRESHOLD, ClassificationScores, classification_scores
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.duplicates import thumbnails
from medzoo.data.images import SUFFIXES, probe, to_float
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Classifier
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, read_run
from medzoo.specs import ImageSpec
from medzoo.storage.files import write_atomic, write_json_atomic
from medzoo.training.train_classifier import JOB

HELD_OUT, HELD_OUT_APART = "held_out", "held_out_without_near_copies"
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """The scores without the test images whose thumbnail correlates at `threshold` or more with a training image's."""

    threshold: float
    count: int
    scores: ClassificationScores


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores on the images of `data`, of which `leaked` are ones that the model was trained on or chosen by.

    `left_out` says how many such images `data` had, and has no more.
    """

    data: Dataset
    part: str
    scores: ClassificationScores
    probabilities: np.ndarray = field(repr=False)
    near: NearCopies | None
    leaked: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined is null."""
        near = None
        if self.near is not None:
            apart = self.near.scores.to_dict()
            near = {"threshold": self.near.threshold, "left_out": self.near.count, "scores": apart}
        return {
            "part": self.part,
            "fingerprint": self.data.fingerprint(),
            "trained_on": self.leaked,
            "trained_on_left_out": self.left_out,
            "scores": self.scores.to_dict(),
            "without_near_copies": near,
        }


def images_to_predict(
    path: Path, known: Sequence[str], *, part: str, skip_bad: bool, classes: Sequence[str] | None = None
) -> list[Dataset]:
    """The images at `path`: one without labels, a folder of such, or a data set, of which `part` ("" for every one).

    `known` are the model's classes, `classes` names for those of the data, as for `open_dataset`.
    Raises: as `open_dataset`; UnknownName for a part it does not have.
    """
    files = _bare_images(path)
    if not files:
        data = open_dataset(path, skip_bad=skip_bad, classes=classes)
        return [data_part(data, part)] if part else [data_part(data, "train"), *data.held_out.values()]
    for file in files:
        probe(file)
    return [
        Dataset(
            path=path,
            classes=tuple(known),
            labels=np.zeros((len(files), len(known)), np.float32),
            names=tuple(file.name for file in files),
            files=tuple(files),
        ).verify(skip_bad=skip_bad)
    ]


def _bare_images(path: Path) -> list[Path]:
    """The image that `path` is, or those it holds without any folder beside them."""
    if path.is_file():
        return [path] if path.name.lower().endswith(SUFFIXES) else []
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []
    if any(entry.is_dir() for entry in entries):
        return []
    return [entry for entry in entries if entry.name.lower().endswith(SUFFIXES)]


def data_part(data: Dataset, part: str) -> Dataset:
    """A part of the data; all of it where it has no parts. Raises: UnknownName."""
    if part == "train" or not (part or data.held_out):
        return replace(data, held_out={})
    if part not in data.held_out:
        raise UnknownName("part", part, ["train", *data.held_out], f"(of {data.path})")
    return data.held_out[part]


def predict(model: LoadedModel[Classifier], data: Dataset, *, progress: Progress) -> np.ndarray:
    """The probabilities the model gives each image of each of its classes: float32 (N, K)."""
    return _predict(model, _decoded(model, data), progress)


def _decoded(model: LoadedModel[Classifier], data: Dataset) -> Decoded:
    return Decoded(data, size=model.image.size, channels=model.image.channels, crop=model.crop)


def _predict(model: LoadedModel[Classifier], images: Decoded, progress: Progress) -> np.ndarray:
    found = np.empty((len(images), len(model.image.classes)), np.float32)
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(to_float(images[start : start + _BATCH]))
        found[start : start + _BATCH] = model.model.predict(pixels).float().cpu().numpy()
        progress(min(start + _BATCH, len(images)), len(images))
    return found


def predictions_table(found: Sequence[tuple[Dataset, np.ndarray]], classes: Sequence[str], *, multi_label: bool) -> str:
    """A CSV with a row an image: file, label ("" where unknown), predicted, and a column `p_CLASS` a class.

    Several labels are joined by "|"; of several, those of a probability of 0.5 or more are predicted.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "label", "predicted", *(f"p_{name}" for name in classes)])
    for data, probabilities in found:
        for index, row in enumerate(probabilities):
            label = "|".join(data.classes[k] for k in np.flatnonzero(data.hot()[index]))
            said = np.flatnonzero(row >= THRESHOLD).tolist() if multi_label else [int(row.argmax())]
            predicted = "|".join(classes[k] for k in said)
            table.writerow([_file(data, index), label, predicted, *(f"{value:.6f}" for value in row)])
    return text.getvalue()


def _file(data: Dataset, index: int) -> str:
    """An image's file as seen from the data set's folder, or its name where it lies in an array."""
    file = data.file(index)
    if file is None:
        return data.names[index]
    return Path(os.path.relpath(file, data.path if data.path.is_dir() else data.path.parent)).as_posix()


def score(
    model: LoadedModel[Classifier],
    data: Dataset,
    *,
    part: str = "",
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    near: float | None = None,
    progress: Progress,
) -> Scored:
    """How the model does on a part of `data`: `part`, or the test part, or all of data without parts.

    With `leave_out_seen`, on the images alone that the model was neither trained on nor chosen by. With `near`, also
    without the images that resemble one of the data's training part (see `NearCopies`).

    Raises:
        DataError: the model was trained on some of the images, or chosen by them, unless `allow_leak`.
        UnknownName: there is no such part, or the model does not know a class.
        ConfigError: `near`, and the data has no parts to compare.
    """
    part = part or ("test" if data.held_out else "")
    chosen, left_out = data_part(data, part), 0
    images = _decoded(model, chosen)
    unseen = [place for place, digest in enumerate(images.fingerprints()) if digest not in model.trained_on]
    if leave_out_seen and unseen:
        left_out, chosen = len(chosen) - len(unseen), replace(chosen.subset(unseen), bad=chosen.bad)
        images = _decoded(model, chosen)
    leaked = len(chosen) - len(unseen)
    if leaked and not allow_leak:
        raise DataError(
            f"'{model.name}' was trained on {leaked} of the {len(chosen)} images, or chosen by them, so no score on "
            "them would hold",
            "give others, or --leave-out-seen; --allow-leak goes on and records it",
        )
    labels = chosen.view(model.image, crop=model.crop).labels
    probabilities = _predict(model, images, progress)
    multi_label = model.image.multi_label
    return Scored(
        data=chosen,
        part=part,
        scores=classification_scores(labels, probabilities, model.image.classes, multi_label=multi_label),
        probabilities=probabilities,
        near=None if near is None else _apart(model, data, chosen, labels, probabilities, threshold=near),
        leaked=leaked,
        left_out=left_out,
    )


def _apart(
    model: LoadedModel[Classifier],
    data: Dataset,
    chosen: Dataset,
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    threshold: float,
) -> NearCopies:
    if not data.held_out:
        raise ConfigError(f"{data.path} has no training part to compare with", "leave --near out")
    apart = (thumbnails(chosen) @ thumbnails(data).T).max(axis=1) < threshold
    if not apart.any():
        raise DataError(f"every image resembles a training image at {threshold:g} or more", "give a higher --near")
    scores = classification_scores(
        labels[apart], probabilities[apart], model.image.classes, multi_label=model.image.multi_label
    )
    return NearCopies(threshold=threshold, count=int((~apart).sum()), scores=scores)


def record_scores(run: Path, result: Scored) -> None:
    """Nothing; the notes in the run's record then hold the scores, and thus its model card can state them.

    Raises:
        ConfigError: `run` is no folder of a finished training.
        DataError: the scores are on images that the model was trained on.
    """
    record = read_run(run) if run.is_dir() else None
    if record is None or record.get("job") != JOB:
        raise ConfigError(f"--record writes into a training run, and {run} is none", "give the run's folder")
    if result.leaked:
        raise DataError("scores on images that the model was trained on are not recorded", "leave --record out")
    notes = {name: facts for name, facts in record["notes"].items() if not name.startswith(HELD_OUT)}
    of = "test images" + (f" ({result.left_out} that it was trained on left out)" if result.left_out else "")
    notes |= _notes(HELD_OUT, result.scores, of=of)
    if result.near is not None:
        of = f"test images whose 32x32 grey correlates below {result.near.threshold:g} with every training image"
        notes |= _notes(HELD_OUT_APART, result.near.scores, of=of)
    write_json_atomic(run / RUN, {**record, "notes": notes})


def _notes(name: str, scores: ClassificationScores, *, of: str) -> dict[str, dict[str, Any]]:
    """The scores as notes of a run, with their number of images, without which a card's front matter has none."""
    overall = {key: getattr(scores, key) for key in ("accuracy", "balanced_accuracy", "f1", "auc")}
    recalls = {f"recall {score.name}": score.recall for score in scores.per_class}
    known = {key: value for key, value in {**overall, **recalls}.items() if not math.isnan(value)}
    support: Mapping[str, int] = {score.name: score.support for score in scores.per_class}
    return {name: {"images": scores.n, "of": of, **known}, f"{name}_by_class": dict(support)}


def write_scored(out: Path, result: Scored, image: ImageSpec) -> list[Path]:
    """The files written to `out`: predictions.csv and scores.json."""
    found = [(result.data, result.probabilities)]
    table = predictions_table(found, image.classes, multi_label=image.multi_label)
    write_atomic(out / "predictions.csv", table.encode())
    write_json_atomic(out / "scores.json", result.to_dict())
    return [out / "predictions.csv", out / "scores.json"]
