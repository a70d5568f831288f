"""An experiment's results, rebuilt from its folder: the grid in experiment.json, and what each cell's folder holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.errors import DataError, IntegrityError
from medzoo.experiment.arms import Arm
from medzoo.experiment.comparisons import Comparison, over_family
from medzoo.experiment.results import METRICS, ArmSummary, CellResult, Experiment, ImageTest
from medzoo.experiment.statistics import Repeats, estimate, mcnemar_test, paired_test

EXPERIMENT = "experiment.json"
_RESULT = "result.json"


def load_results(folder: Path) -> Experiment:
    """What the experiment in `folder` found so far.

    Raises: DataError for a folder that holds no experiment; IntegrityError for a damaged file.
    """
    said = _read_json(folder / EXPERIMENT)
    if said is None:
        raise DataError(f"{folder} holds no experiment", "`medzoo experiment run` makes one")
    arms = tuple(Arm.from_dict(arm) for arm in said["arms"])
    cells = tuple(_cell(folder, entry) for entry in said["cells"])
    empty = Experiment(
        folder=folder,
        name=said["name"],
        scheme=said["scheme"],
        settings=said["settings"],
        origins=said["origins"],
        provenance=said["provenance"],
        classes=tuple(said["classes"]),
        multi_label=said["multi_label"],
        baseline=said["baseline"],
        metric=said["metric"],
        arms=arms,
        classifiers=tuple(said["classifiers"]),
        cells=cells,
        summaries=(),
        comparisons=(),
        warnings=(*said["warnings"], *_of_cells(cells)),
    )
    repeats = empty.repeats
    return replace(
        empty,
        summaries=_summaries(empty, repeats),
        comparisons=_comparisons(empty, repeats),
        image_tests=_image_tests(empty),
    )


def read_cell(folder: Path, key: str) -> CellResult | None:
    """What is in the folder of a cell, None where nothing is. Raises: IntegrityError for a damaged file."""
    values = _read_json(folder / "cells" / key / _RESULT)
    return None if values is None else CellResult.from_dict(values)


def _cell(folder: Path, entry: Mapping[str, Any]) -> CellResult:
    """A cell by the names that the experiment gives it now: another one may have computed it."""
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
    """Warnings on cells that have no scores, and what classifiers warned of."""
    found = []
    for status, what in (("failed", "failed"), ("missing", "were not run yet")):
        lost = [cell for cell in cells if cell.status == status]
        if lost:
            arms = ", ".join(dict.fromkeys(cell.arm for cell in lost))
            found.append(f"{len(lost)} of {len(cells)} cells {what} ({arms}): means without them are partial")
    told = dict.fromkeys(line for cell in cells for line in cell.warnings)
    return [*found, *told]


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
    """Every arm but the baseline, with every classifier."""
    arms = [arm.name for arm in experiment.arms if arm.name != experiment.baseline]
    return [(arm, classifier) for classifier in experiment.classifiers for arm in arms]


def _comparisons(experiment: Experiment, repeats: Repeats) -> tuple[Comparison, ...]:
    def values(arm: str, classifier: str) -> list[float | None]:
        return list(experiment.units(arm, classifier, experiment.metric).values())

    return over_family(
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
    """McNemar's tests, where there is one test set and an image has one label."""
    if experiment.scheme != "held-out" or experiment.multi_label:
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
        ImageTest(seed=seed, comparison=comparison) for seed, comparison in zip(seeds, over_family(made), strict=True)
    )


def _right(experiment: Experiment, cell: CellResult) -> np.ndarray:
    """Whether each test image was put right, bool (N,)."""
    path = experiment.predictions(cell)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return np.array([row["label"] == row["predicted"] for row in csv.DictReader(file)], bool)
    except (OSError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", f"delete {path.parent} and run it again") from None
