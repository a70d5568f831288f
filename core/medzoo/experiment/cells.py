"""A cell of the experiment: train a classifier on an arm, then test it once on its fold's test images."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medzoo.classification.predict import Predictions
from medzoo.classification.scores import classification_scores
from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import to_float
from medzoo.experiment.recipes import Stage
from medzoo.experiment.results import PREDICTIONS, RESULT, TRACEBACK, CellResult
from medzoo.experiment.tasks import Cell
from medzoo.experiment.training_sets import ConcatDataset, fraction_of
from medzoo.experiment.worker import Worker
from medzoo.models.loading import build_model
from medzoo.protocols import Classifier
from medzoo.specs import ImageSpec
from medzoo.storage.files import write_atomic, write_json_atomic
from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import RunFolder

_BATCH = 64
# Rows of a history besides those with validation scores.
_ROWS = 200
_SHOWN = ("step", "loss", "learning_rate", "validation_loss", "balanced_accuracy")


def run_cell(worker: Worker, cell: Cell) -> CellResult:
    """Train and test the cell's classifier, and write the result into the cell's folder.

    An interrupted cell resumes from its checkpoint. Raises: whatever the classifier raises.
    """
    started = time.monotonic()
    folder = worker.home / "cells" / cell.key
    (folder / TRACEBACK).unlink(missing_ok=True)
    training = _Training(worker, cell, folder)
    classifier = training.fit()
    data = worker.images.subset(cell.fold.test)
    probabilities = _predict(classifier, training.real, cell.fold.test)
    table = Predictions.of([(data, probabilities)], data.classes, multi_label=data.multi_label).to_csv()
    write_atomic(folder / PREDICTIONS, table.encode())
    result = CellResult(
        key=cell.key,
        **cell.identity,
        status="done",
        scores=classification_scores(data.labels, probabilities, data.classes, multi_label=data.multi_label),
        history=training.history(),
        images=training.counts,
        n_train=training.n_real + training.n_synthetic,
        n_real=training.n_real,
        n_val=len(cell.fold.val),
        n_test=len(data),
        steps=cell.steps,
        steps_done=sum(int(run.rows[-1]["step"]) for run in training.runs if run.rows),
        seconds=round(max(training.seconds, time.monotonic() - started), 3),
        notes=training.notes(),
        warnings=tuple(dict.fromkeys(line for run in training.runs for line in run.warnings())),
    )
    write_json_atomic(folder / RESULT, result.to_dict())
    for stage in folder.glob("stage-*"):
        shutil.rmtree(stage / "checkpoints", ignore_errors=True)
    return result


def _predict(classifier: Classifier, images: Decoded, indices: Sequence[int]) -> np.ndarray:
    """Return the probabilities of the images at `indices`: float32 (N, K)."""
    found = []
    for start in range(0, len(indices), _BATCH):
        pixels = torch.from_numpy(to_float(images[indices[start : start + _BATCH]]))
        found.append(classifier.predict(pixels).float().cpu().numpy())
    return np.concatenate(found)


class _StageFolder(RunFolder):
    """The folder of one stage of training."""

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Do nothing: a classifier makes no images."""

    @property
    def rows(self) -> list[dict[str, float]]:
        """The recorded steps."""
        return self._losses.rows


class _Training:
    """A cell's training, stage by stage, and what is known of it afterwards."""

    def __init__(self, worker: Worker, cell: Cell, folder: Path) -> None:
        self.worker, self.cell, self.folder = worker, cell, folder
        self.recipe = worker.recipes[cell.classifier]
        self.stages = self.recipe.stages(cell.arm)
        self.data: Dataset = worker.images.data
        own = self.recipe.base().image
        self.real: Decoded = worker.real(own.size, own.channels, own.crop)
        self.image = ImageSpec(
            size=own.size, channels=own.channels, classes=self.data.classes, multi_label=self.data.multi_label
        )
        rows = fraction_of(self.data, cell.fold.train, cell.arm.real_fraction, seed=worker.design.value.seed)
        self.counts: dict[str, Mapping[str, int]] = {"real": self.data.subset(rows).counts()}
        self.parts: dict[str, list[tuple[Decoded, np.ndarray, np.ndarray]]] = {
            "real": [self._real(rows)],
            "synthetic": [],
        }
        for name, task in cell.samplings.items():
            drawn, taken = worker.synthetic(task, cell.synthetic[name])
            # They are as a model sees them, and not cropped once more.
            images = Decoded(drawn, size=own.size, channels=own.channels, crop="none")
            self.parts["synthetic"].append((images, taken, drawn.labels[taken]))
            self.counts[name] = drawn.subset(taken).counts()
        self.n_real = len(rows)
        self.n_synthetic = sum(len(taken) for _, taken, _ in self.parts["synthetic"])
        self.runs: list[_StageFolder] = []

    def fit(self) -> Classifier:
        """Return the classifier after its last stage."""
        classifier: Classifier | None = None
        for number, stage in enumerate(self.stages, start=1):
            classifier = self._fit(stage, number, before=classifier)
        assert classifier is not None  # every recipe has a stage
        return classifier

    def _fit(self, stage: Stage, number: int, *, before: Classifier | None) -> Classifier:
        cell = self.cell
        classifier = build_model(self.recipe.spec, stage.config, self.image, device=self.worker.device, seed=cell.seed)
        if before is not None:
            classifier.load_state_dict(before.state_dict())
        run = _StageFolder(
            self.folder / f"stage-{number}",
            image=self.image,
            seed=cell.seed,
            keep=1,
            cache=latents_root(),
        )
        self.runs.append(run)
        kinds = ("real", "synthetic") if stage.images == "all" else (stage.images,)
        parts = [part for kind in kinds for part in self.parts[kind]]
        images = ConcatDataset(self.data.classes, parts, length=cell.epoch_length, seed=cell.seed)
        validation = ConcatDataset(self.data.classes, [self._real(cell.fold.val)])
        classifier.fit(images, validation=validation, seed=cell.seed, callback=run, checkpoints=run)
        return classifier

    def _real(self, indices: Sequence[int]) -> tuple[Decoded, np.ndarray, np.ndarray]:
        rows = np.array(indices, np.int64)
        return self.real, rows, self.data.labels[rows]

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption too."""
        return sum(float(run.rows[-1].get("seconds", 0.0)) for run in self.runs if run.rows)

    def history(self) -> tuple[Mapping[str, float], ...]:
        """Return measured steps and some of the others; the count of steps continues over stages."""
        found: list[Mapping[str, float]] = []
        before = 0
        for phase, run in enumerate(self.runs, start=1):
            every = max(1, len(run.rows) // _ROWS)
            rows = [row for place, row in enumerate(run.rows) if place % every == 0 or "validation_loss" in row]
            staged = {"phase": float(phase)} if len(self.stages) > 1 else {}
            found += [
                {
                    # As loss.csv has them, from which rows before an interruption are read.
                    **{key: float(f"{value:.6g}") for key, value in row.items() if key in _SHOWN},
                    **staged,
                    "step": before + int(row["step"]),
                }
                for row in rows
            ]
            before += int(run.rows[-1]["step"]) if run.rows else 0
        return tuple(found)

    def notes(self) -> dict[str, Mapping[str, float | str]]:
        """Return what the classifier logged, its last stage first, and which images the generators were trained on."""
        found: dict[str, Mapping[str, float | str]] = {}
        for run in self.runs:
            found |= run.notes
        for name, task in self.cell.samplings.items():
            if task.training is not None:
                found[f"lineage of {name}"] = {"trained on": "this fold's training images", "run": task.training.key}
            elif task.seen:
                seen: dict[str, float | str] = {f"trained on {part} images": count for part, count in task.seen.items()}
                found[f"lineage of {name}"] = seen
        return found
