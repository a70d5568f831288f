"""Results of an experiment, read from its folder: scores of each cell, their means, comparisons with the baseline."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from medzoo.classification.scores import ClassificationScores, ClassScore
from medzoo.errors import DataError, IntegrityError
from medzoo.experiment.arms import Arm
from medzoo.experiment.comparisons import Comparison, adjust_family
from medzoo.experiment.config import METRICS
from medzoo.experiment.statistics import (
    SEEDS,
    Estimate,
    McNemarTest,
    Repeats,
    estimate,
    folds,
    mcnemar_test,
    paired_test,
)

EXPERIMENT, RESULT, PREDICTIONS, TRACEBACK = "experiment.json", "result.json", "predictions.csv", "traceback.txt"

Status = Literal["done", "failed", "missing"]


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One classifier trained on one arm, in one fold of one repeat (0 and 0 if held out), from one seed.

    "failed" has its `error` in one line and traceback.txt in its folder; "missing" was not run yet. `scores` are of the
    test images, and None unless the cell is "done".
    `history`: a mapping per recorded step, with "step", "loss", and at some steps "validation_loss" and
    "balanced_accuracy" (of validation images). If pretrained, "phase" is 1 for synthetic and 2 for real images.
    `images`: images of each class by origin: "real", or the generator's name. Images with several labels count for
    each. `steps` optimizer steps were planned (equal for all arms), `steps_done` made: fewer if it stopped early.
    """

    key: str
    arm: str
    classifier: str
    fold: int
    repeat: int
    seed: int
    status: Status
    scores: ClassificationScores | None = None
    error: str = ""
    history: tuple[Mapping[str, float], ...] = ()
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    n_train: int = 0
    n_real: int = 0
    n_val: int = 0
    n_test: int = 0
    steps: int = 0
    steps_done: int = 0
    seconds: float = 0.0
    notes: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def n_synthetic(self) -> int:
        """Synthetic images it was trained on."""
        return self.n_train - self.n_real

    def value(self, metric: str) -> float | None:
        """Return a score by its name in METRICS; None unless the cell is done, NaN if undefined."""
        return None if self.scores is None else float(getattr(self.scores, metric))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined ones are null."""
        scores = None if self.scores is None else self.scores.to_dict()
        return {**plain_mapping(asdict(self)), "scores": scores}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CellResult:
        """Restore what `to_dict` returned. Raises: IntegrityError for other values."""
        try:
            scores = values["scores"]
            given = {**values, "scores": None if scores is None else _scores(scores)}
            return cls(**{**given, "history": tuple(values["history"]), "warnings": tuple(values["warnings"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"a cell's result cannot be read: {error}", "delete the cell's folder") from None


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm with one classifier over all folds, or seeds: an estimate for each of METRICS.

    `n` of `n + n_failed` values are used; failed and missing cells make it partial and are counted in `n_failed`.
    """

    arm: str
    classifier: str
    estimates: Mapping[str, Estimate]

    @property
    def n(self) -> int:
        """Folds, or seeds, that gave scores."""
        return next(iter(self.estimates.values())).n

    @property
    def n_failed(self) -> int:
        """Folds, or seeds, left out because a cell failed or is missing."""
        return next(iter(self.estimates.values())).n_failed


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """McNemar's test of an arm against the baseline on one fixed test set, with the classifiers of one seed."""

    seed: int
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All of an experiment in `folder`.

    `held_out`: tested on one fixed test set, not in folds. `settings` are its flat settings and `origins` where each
    came from; `provenance` says which medzoo, machine, device and data (path, fingerprint, classes, counts, parts).
    `arms`, `classifiers` and `cells` are in the order to show them. `metric` is the one of METRICS that `comparisons`
    are in: each arm against `baseline` with each classifier, a paired t-test over folds or seeds. `image_tests` are
    McNemar's, empty unless held out. Both are adjusted by Holm's correction, each over its whole tuple. `warnings` are
    sentences that a reader must see.
    """

    folder: Path
    name: str
    held_out: bool
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    multi_label: bool
    baseline: str
    metric: str
    arms: tuple[Arm, ...]
    classifiers: tuple[str, ...]
    cells: tuple[CellResult, ...]
    summaries: tuple[ArmSummary, ...]
    comparisons: tuple[Comparison, ...]
    image_tests: tuple[ImageTest, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that failed."""
        return tuple(cell for cell in self.cells if cell.status == "failed")

    @property
    def missing(self) -> tuple[CellResult, ...]:
        """The cells that have not been run yet."""
        return tuple(cell for cell in self.cells if cell.status == "missing")

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def of(self, arm: str, classifier: str) -> tuple[CellResult, ...]:
        """Return the cells of an arm with a classifier: all repeats, folds and seeds."""
        return tuple(cell for cell in self.cells if (cell.arm, cell.classifier) == (arm, classifier))

    @property
    def repeats(self) -> Repeats:
        """What scores are repeated over: seeds on one test set, or folds, whose training sets overlap."""
        if self.held_out:
            return SEEDS
        parts = self.provenance["data"]["parts"]
        train, test = (math.fsum(part[name] for part in parts) / len(parts) for name in ("train", "test"))
        return folds(train=train, test=test)

    def units(self, arm: str, classifier: str, metric: str) -> dict[tuple[int, int], float | None]:
        """Return one value per fold (repeat, fold), the mean of its seeds; if held out, one per seed (0, seed).

        None if one of its cells has no scores.
        """
        groups: dict[tuple[int, int], list[float | None]] = {}
        for cell in self.of(arm, classifier):
            unit = (0, cell.seed) if self.held_out else (cell.repeat, cell.fold)
            groups.setdefault(unit, []).append(cell.value(metric))
        return {
            unit: None if None in found else fmean(value for value in found if value is not None)
            for unit, found in sorted(groups.items())
        }

    def summary(self, arm: str, classifier: str) -> ArmSummary:
        """Return the means of an arm with a classifier."""
        return next(found for found in self.summaries if (found.arm, found.classifier) == (arm, classifier))

    def predictions(self, cell: CellResult) -> Path:
        """Return the cell's CSV of test images: file, label, predicted, and a probability p_CLASS per class."""
        return self.folder / "cells" / cell.key / PREDICTIONS

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined ones are null. Histories stay in the cells' own files."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "folder"}
        return plain_mapping(
            {
                **values,
                "arms": [asdict(arm) for arm in self.arms],
                "cells": [{key: value for key, value in c.to_dict().items() if key != "history"} for c in self.cells],
                "summaries": [asdict(summary) for summary in self.summaries],
                "comparisons": [comparison_dict(comparison) for comparison in self.comparisons],
                "image_tests": [{"seed": test.seed, **comparison_dict(test.comparison)} for test in self.image_tests],
            }
        )


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Return plain values of a comparison for JSON, with its sentence."""
    derived = {
        "test": "mcnemar" if isinstance(comparison.test, McNemarTest) else "paired-t",
        "difference": comparison.difference,
        "p": comparison.test.p,
        "shown": comparison.shown,
        "detectable": comparison.detectable,
        "sentence": comparison.sentence(),
        "details": asdict(comparison.test),
    }
    return plain_mapping({**asdict(comparison), **derived})


def plain_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON takes them, recursively: NaN and infinities become None, tuples lists."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return plain_mapping(value)
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _scores(values: Mapping[str, Any]) -> ClassificationScores:
    """Invert `ClassificationScores.to_dict`."""
    tuples = {name: tuple(values[name]) for name in ("classes", "absent", "one_sided", "unpredicted")}
    return ClassificationScores(
        **{
            **_undefined_as_nan(values),
            **tuples,
            "per_class": tuple(ClassScore(**_undefined_as_nan(score)) for score in values["per_class"]),
            "confusion": tuple(map(tuple, values["confusion"])),
        }
    )


def _undefined_as_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in values.items()}


def load_results(folder: Path) -> Experiment:
    """Load the results of the experiment in `folder`, finished or not.

    Raises:
        DataError: the folder holds no experiment.
        IntegrityError: a file is damaged.
    """
    stored = _read_json(folder / EXPERIMENT)
    if stored is None:
        raise DataError(f"{folder} holds no experiment", "run one with `medzoo experiment run`")
    cells = tuple(_cell(folder, entry) for entry in stored["cells"])
    same = ("name", "settings", "origins", "provenance", "multi_label", "baseline", "metric")
    empty = Experiment(
        folder=folder,
        **{name: stored[name] for name in same},
        held_out=stored["held_out"] if "held_out" in stored else stored["scheme"] == "held-out",
        classes=tuple(stored["classes"]),
        arms=tuple(Arm(**arm) for arm in stored["arms"]),
        classifiers=tuple(stored["classifiers"]),
        cells=cells,
        summaries=(),
        comparisons=(),
        warnings=(*stored["warnings"], *_of_cells(cells)),
    )
    repeats = empty.repeats
    return replace(
        empty,
        summaries=_summaries(empty, repeats),
        comparisons=_comparisons(empty, repeats),
        image_tests=_image_tests(empty),
    )


def read_cell(folder: Path, key: str) -> CellResult | None:
    """Read the result of a cell, None if there is none. Raises: IntegrityError for a damaged file."""
    values = _read_json(folder / "cells" / key / RESULT)
    return None if values is None else CellResult.from_dict(values)


def _cell(folder: Path, entry: Mapping[str, Any]) -> CellResult:
    """Read a cell under the names of this experiment: another arm or design may have computed it."""
    names = {name: entry[name] for name in ("arm", "classifier", "fold", "repeat", "seed")}
    found = read_cell(folder, entry["key"])
    if found is None:
        return CellResult(key=entry["key"], status="missing", steps=entry["steps"], **names)
    return replace(found, **names)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}", "delete it and run the experiment again") from None


def _of_cells(cells: Sequence[CellResult]) -> list[str]:
    """Return warnings about cells without scores, and those of classifiers."""
    found = []
    for status, what in (("failed", "failed"), ("missing", "have not been run yet")):
        lost = [cell for cell in cells if cell.status == status]
        if lost:
            arms = ", ".join(dict.fromkeys(cell.arm for cell in lost))
            found.append(f"{len(lost)} of {len(cells)} cells {what} ({arms}): means without them are partial")
    return [*found, *dict.fromkeys(line for cell in cells for line in cell.warnings)]


def _summaries(experiment: Experiment, repeats: Repeats) -> tuple[ArmSummary, ...]:
    return tuple(
        ArmSummary(
            arm=arm.name,
            classifier=classifier,
            estimates={
                metric: estimate(list(experiment.units(arm.name, classifier, metric).values()), repeats=repeats)
                for metric in METRICS
            },
        )
        for arm in experiment.arms
        for classifier in experiment.classifiers
    )


def _others(experiment: Experiment) -> list[tuple[str, str]]:
    """Return every arm but the baseline, with every classifier."""
    arms = [arm.name for arm in experiment.arms if arm.name != experiment.baseline]
    return [(arm, classifier) for classifier in experiment.classifiers for arm in arms]


def _comparisons(experiment: Experiment, repeats: Repeats) -> tuple[Comparison, ...]:
    def values(arm: str, classifier: str) -> list[float | None]:
        return list(experiment.units(arm, classifier, experiment.metric).values())

    return adjust_family(
        [
            Comparison(
                arm=arm,
                baseline=experiment.baseline,
                classifier=classifier,
                metric=experiment.metric.replace("_", " "),
                test=paired_test(values(arm, classifier), values(experiment.baseline, classifier), repeats=repeats),
            )
            for arm, classifier in _others(experiment)
        ]
    )


def _image_tests(experiment: Experiment) -> tuple[ImageTest, ...]:
    """Run McNemar's tests, if there is one test set and an image has one label."""
    if not experiment.held_out or experiment.multi_label:
        return ()
    seeds: list[int] = []
    made: list[Comparison] = []
    right = {cell.key: _right(experiment, cell) for cell in experiment.cells if cell.scores is not None}
    for arm, classifier in _others(experiment):
        base = {cell.seed: cell for cell in experiment.of(experiment.baseline, classifier)}
        for cell in experiment.of(arm, classifier):
            first, second = right.get(cell.key), right.get(base[cell.seed].key)
            if first is None or second is None:
                continue
            seeds.append(cell.seed)
            made.append(
                Comparison(
                    arm=arm,
                    baseline=experiment.baseline,
                    classifier=classifier,
                    metric="accuracy",
                    test=mcnemar_test(first, second),
                )
            )
    return tuple(
        ImageTest(seed=seed, comparison=comparison) for seed, comparison in zip(seeds, adjust_family(made), strict=True)
    )


def _right(experiment: Experiment, cell: CellResult) -> np.ndarray:
    """Return whether each test image was classified correctly, bool (N,)."""
    path = experiment.predictions(cell)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return np.array([row["label"] == row["predicted"] for row in csv.DictReader(file)], bool)
    except (OSError, KeyError) as error:
        raise IntegrityError(
            f"{path} cannot be read: {error}", f"delete {path.parent} and run the experiment again"
        ) from None
