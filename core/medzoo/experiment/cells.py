"""One cell of the grid: a classifier trained, then shown its fold's test images once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo.classification.predict import predictions_table
from medzoo.classification.scores import classification_scores
from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import to_float
from medzoo.experiment.recipes import Stage
from medzoo.experiment.results import PREDICTIONS, TRACEBACK, CellResult
from medzoo.experiment.tasks import Cell, Drawing
from medzoo.experiment.training_sets import Together, fraction_of
from medzoo.experiment.worker import Quiet, Workshop
from medzoo.models.loading import build_model
from medzoo.protocols import Classifier
from medzoo.specs import ImageSpec
from medzoo.storage.files import write_atomic, write_json_atomic
from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import RunFolder

RESULT = "result.json"
_NOTES = "notes.json"
_BATCH = 64
# Rows of a history beside those with a measurement on validation images.
_ROWS = 200
_SHOWN = ("step", "loss", "learning_rate", "validation_loss", "balanced_accuracy")


def run_cell(workshop: Workshop, cell: Cell, drawings: Mapping[str, Drawing]) -> CellResult:
    """The result, which is in the cell's folder too; a cell that was interrupted goes on from its checkpoint.

    `drawings` has those the cell needs, by key.

    Raises: whatever the classifier raises.
    """
    started = time.monotonic()
    folder = workshop.home / "cells" / cell.key
    (folder / TRACEBACK).unlink(missing_ok=True)
    training = _Training(workshop, cell, drawings, folder)
    classifier = training.fit()
    data = workshop.images.subset(cell.fold.test)
    probabilities = predicted(classifier, training.real, cell.fold.test)
    table = predictions_table([(data, probabilities)], data.classes, multi_label=data.multi_label)
    write_atomic(folder / PREDICTIONS, table.encode())
    result = CellResult(
        key=cell.key,
        **identity(cell),
        status="done",
        scores=classification_scores(data.labels, probabilities, data.classes, multi_label=data.multi_label),
        history=training.history(),
        images=training.counts,
        n_train=training.n_real + training.n_synthetic,
        n_real=training.n_real,
        n_val=len(cell.fold.val),
        n_test=len(data),
        steps=cell.steps,
        steps_done=training.steps_done,
        seconds=round(max(training.seconds, time.monotonic() - started), 3),
        notes=training.notes(),
        warnings=training.warnings(),
    )
    write_json_atomic(folder / RESULT, result.to_dict())
    for stage in folder.glob("stage-*"):
        shutil.rmtree(stage / "checkpoints", ignore_errors=True)
    return result


def identity(cell: Cell) -> dict[str, Any]:
    """What says which cell it is, beside its key."""
    fold = cell.fold
    return {
        "arm": cell.arm.name,
        "classifier": cell.classifier,
        "fold": fold.fold,
        "repeat": fold.repeat,
        "seed": cell.number,
    }


def predicted(classifier: Classifier, images: Decoded, indices: Sequence[int]) -> np.ndarray:
    """The probabilities of the images at `indices`: float32 (N, K)."""
    found = []
    for start in range(0, len(indices), _BATCH):
        pixels = torch.from_numpy(to_float(images[indices[start : start + _BATCH]]))
        found.append(classifier.predict(pixels).float().cpu().numpy())
    return np.concatenate(found)


class _Run(RunFolder):
    """The `Report` of one stage, whose curve is asked for at its end; its notes outlast an interruption."""

    def restore(self) -> Mapping[str, Tensor] | None:
        """As of any run, with what was noted before."""
        state = super().restore()
        if state is not None and (self.folder / _NOTES).is_file():
            self.notes = {**json.loads((self.folder / _NOTES).read_text("utf-8")), **self.notes}
        return state

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """Remember a fact for the result."""
        super().note(name, value)
        write_json_atomic(self.folder / _NOTES, self.notes)

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Nothing: a classifier makes no images."""

    @property
    def rows(self) -> list[dict[str, float]]:
        """The recorded steps."""
        return self._losses.rows


class _Training:
    """A cell's training, stage by stage, and what is known of it afterwards."""

    def __init__(self, workshop: Workshop, cell: Cell, drawings: Mapping[str, Drawing], folder: Path) -> None:
        self.workshop, self.cell, self.folder = workshop, cell, folder
        self.recipe = workshop.recipes[cell.classifier]
        self.stages = self.recipe.stages(cell.arm)
        self.data: Dataset = workshop.images.data
        flat = self.recipe.base().flat()
        size, channels = int(flat["image.size"]), int(flat["image.channels"])
        self.real: Decoded = workshop.real(size, channels, str(flat.get("image.crop", "none")))
        self.image = ImageSpec(
            size=size, channels=channels, classes=self.data.classes, multi_label=self.data.multi_label
        )
        seed = workshop.design.value.seed
        self.rows = fraction_of(self.data, cell.fold.train, cell.arm.real_fraction, seed=seed)
        self.drawings = {name: drawings[key] for name, key in cell.drawings.items()}
        self.counts: dict[str, Mapping[str, int]] = {"real": self.data.subset(self.rows).counts()}
        self.synthetic: list[tuple[Decoded, np.ndarray, np.ndarray]] = []
        for name, drawing in self.drawings.items():
            drawn, taken = workshop.drawn(drawing), workshop.taken(drawing, cell.synthetic[name])
            # They are as a model sees them, and not cropped once more.
            images = Decoded(drawn, size=size, channels=channels, crop="none")
            self.synthetic.append((images, taken, drawn.labels[taken]))
            self.counts[name] = drawn.subset(taken).counts()
        self.n_real = len(self.rows)
        self.n_synthetic = sum(len(taken) for _, taken, _ in self.synthetic)
        self.runs: list[_Run] = []

    def fit(self) -> Classifier:
        """The classifier after its last stage."""
        classifier: Classifier | None = None
        for number, stage in enumerate(self.stages, start=1):
            classifier = self._fit(stage, number, before=classifier)
        assert classifier is not None  # every recipe has a stage
        return classifier

    def _fit(self, stage: Stage, number: int, *, before: Classifier | None) -> Classifier:
        cell = self.cell
        classifier = build_model(
            self.recipe.spec, stage.config, self.image, device=self.workshop.device, seed=cell.seed
        )
        if before is not None:
            classifier.load_state_dict(before.state_dict())
        run = _Run(
            self.folder / f"stage-{number}",
            image=self.image,
            seed=cell.seed,
            keep=1,
            display=Quiet(),
            cache=latents_root(),
        )
        self.runs.append(run)
        validation = Together(self.data.classes, [self._real(cell.fold.val)])
        classifier.fit(self._training_images(stage), validation=validation, seed=cell.seed, report=run)
        return classifier

    def _training_images(self, stage: Stage) -> Together:
        parts = [] if stage.images == "synthetic" else [self._real(self.rows)]
        parts += [] if stage.images == "real" else self.synthetic
        return Together(self.data.classes, parts, length=self.cell.length, seed=self.cell.seed)

    def _real(self, indices: Sequence[int]) -> tuple[Decoded, np.ndarray, np.ndarray]:
        rows = np.array(indices, np.int64)
        return self.real, rows, self.data.labels[rows]

    @property
    def steps_done(self) -> int:
        """Optimiser steps made in all."""
        return sum(int(run.rows[-1]["step"]) for run in self.runs if run.rows)

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption too."""
        return sum(float(run.rows[-1].get("seconds", 0.0)) for run in self.runs if run.rows)

    def history(self) -> tuple[Mapping[str, float], ...]:
        """Measured steps and some of the others, steps counted on over stages."""
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
        """What the classifier told, of its last stage where it told it twice, and the generators' lineage."""
        told: dict[str, Mapping[str, float | str]] = {}
        for run in self.runs:
            told |= run.notes
        for name, drawing in self.drawings.items():
            if drawing.trained:
                told[f"lineage of {name}"] = {"trained on": "this fold's training images", "run": drawing.trained}
            elif drawing.lineage:
                known = {f"trained on {part} images": count for part, count in drawing.lineage.items()}
                told[f"lineage of {name}"] = known
        return told

    def warnings(self) -> tuple[str, ...]:
        """What the classifier warned of."""
        return tuple(dict.fromkeys(line for run in self.runs for line in run.warnings()))
