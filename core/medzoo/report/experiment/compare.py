"""Several experiments side by side: what each found of the same arm and classifier, and where that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.errors import ConfigError
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import Estimate, paired_test
from medzoo.report.evaluation.tables import Cell, csv_bytes, plain
from medzoo.report.experiment.score_tables import TITLES, ScoreCell, score_cell
from medzoo.report.experiment.text import arm_told, failures, run_told
from medzoo.report.formatting import listed
from medzoo.report.page import render
from medzoo.storage.files import write_atomic

PAGE, TABLE = "compare.html", "compare.csv"

_SCHEME = ("folds", "repeats", "seeds", "seed", "validation", "test")
_ESTIMATE = ("mean", "low", "high", "n", "n_failed")
COLUMNS = (
    *("experiment", "arm", "classifier", "metric", *_ESTIMATE),
    *("difference", "difference_low", "difference_high", "difference_n", "not_compared"),
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One experiment's cell: None where it has no such arm with such a classifier.

    `difference` is this minus the first experiment's, paired over folds or seeds; None, for the `reason` given, where
    the two cannot be compared, and in the first ("").
    """

    cell: ScoreCell | None
    difference: Estimate | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """An arm with a classifier, and what each experiment has of it, in their order."""

    arm: str
    classifier: str
    told: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Experiments by the names they are called here, in one `metric`.

    `apart` says of each but the first why nothing of it can be compared with the first; "" where it can.
    `settings` are those that differ, by key: a value an experiment, None where it has no such setting.
    """

    experiments: Mapping[str, Experiment]
    metric: str
    lines: tuple[Line, ...]
    apart: Mapping[str, str]
    settings: Mapping[str, tuple[Any, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined is null."""
        found: dict[str, Any] = plain(
            {
                "experiments": list(self.experiments),
                "metric": self.metric,
                "not_comparable": self.apart,
                "lines": self.lines,
                "settings": self.settings,
            }
        )
        return found


def side_by_side(experiments: Sequence[Experiment]) -> SideBySide:
    """The experiments beside each other, in the first one's metric. Raises: ConfigError for fewer than two."""
    if len(experiments) < 2:
        raise ConfigError("one experiment has nothing to be compared with", "give two folders or more")
    named = _named(experiments)
    first = experiments[0]
    apart = {name: _apart(first, experiment) for name, experiment in list(named.items())[1:]}
    classifiers = dict.fromkeys(name for found in experiments for name in found.classifiers)
    arms = dict.fromkeys(arm.name for found in experiments for arm in found.arms)
    pairs = [
        (arm, name) for name in classifiers for arm in arms if any(_has(found, arm, name) for found in experiments)
    ]
    return SideBySide(
        experiments=named,
        metric=first.metric,
        lines=tuple(_line(named, apart, arm, classifier) for arm, classifier in pairs),
        apart=apart,
        settings=_differing(experiments),
    )


def write_comparison(found: SideBySide, out: Path) -> list[Path]:
    """The paths of what was written into `out`: compare.html and compare.csv. Raises: ResourceError."""
    values = {
        "found": found,
        "version": __version__,
        "metric_title": TITLES[found.metric],
        "lines": _by_classifier(found.lines),
        "run": {name: run_told(experiment) for name, experiment in found.experiments.items()},
        "failures": {name: failures(experiment) for name, experiment in found.experiments.items()},
    }
    files = {PAGE: render("compare.html.j2", values), TABLE: _csv(found)}
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _by_classifier(lines: Sequence[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.classifier, []).append(line)
    return found


def _named(experiments: Sequence[Experiment]) -> dict[str, Experiment]:
    """The experiments by their names, or by folder and number where two are called the same."""
    names = [found.name for found in experiments]
    if len(set(names)) < len(names):
        names = [found.folder.resolve().name for found in experiments]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return dict(zip(names, experiments, strict=True))


def _apart(first: Experiment, other: Experiment) -> str:
    """Why nothing of two experiments can be compared; "" where it can."""
    mine, its = (found.provenance["data"] for found in (first, other))
    reasons = []
    if (mine["fingerprint"], first.classes) != (its["fingerprint"], other.classes):
        reasons.append("other data")
    if (first.held_out, mine["parts"]) != (other.held_out, its["parts"]):
        reasons.append("another test scheme")
    else:
        keys = [key for key in _SCHEME if first.settings.get(key) != other.settings.get(key)]
        reasons += [f"another {listed(keys)}"] if keys else []
    return listed(reasons)


def _line(named: Mapping[str, Experiment], apart: Mapping[str, str], arm: str, classifier: str) -> Line:
    first = next(iter(named.values()))
    having = [found for found in named.values() if _has(found, arm, classifier)]
    return Line(
        arm=arm,
        classifier=classifier,
        told=arm_told(having[0].arm(arm), multi_label=having[0].multi_label),
        sides=tuple(_side(first, found, apart.get(name), arm, classifier) for name, found in named.items()),
    )


def _side(first: Experiment, found: Experiment, apart: str | None, arm: str, classifier: str) -> Side:
    if not _has(found, arm, classifier):
        return Side(cell=None)
    cell = score_cell(found, arm, classifier, first.metric)
    if apart is None or not _has(first, arm, classifier):
        return Side(cell=cell)
    reason = apart or _unlike(first, found, arm, classifier)
    if reason:
        return Side(cell=cell, reason=reason)
    its, mine = (list(side.units(arm, classifier, first.metric).values()) for side in (found, first))
    return Side(cell=cell, difference=paired_test(its, mine, repeats=first.repeats).difference)


def _has(experiment: Experiment, arm: str, classifier: str) -> bool:
    return classifier in experiment.classifiers and any(found.name == arm for found in experiment.arms)


def _unlike(first: Experiment, other: Experiment, arm: str, classifier: str) -> str:
    """Why two cells of comparable experiments are not: the same name may stand for other images or steps."""
    steps = [{cell.steps for cell in found.of(arm, classifier)} for found in (first, other)]
    if steps[0] != steps[1]:
        mine, its = (listed([f"{count:,}" for count in sorted(counts)]) for counts in steps)
        return f"{its} optimiser steps against {mine}"
    if first.arm(arm) != other.arm(arm):
        return "another arm of the same name"
    return ""


def _differing(experiments: Sequence[Experiment]) -> dict[str, tuple[Any, ...]]:
    """What was set differently, or done elsewhere."""
    told = [
        {
            "data": found.provenance["data"]["path"],
            "data fingerprint": found.provenance["data"]["fingerprint"][:16],
            **found.settings,
            "medzoo": found.provenance["medzoo"],
            "device": found.provenance["device"],
        }
        for found in experiments
    ]
    keys = dict.fromkeys(key for values in told for key in values)
    rows = {key: tuple(values.get(key) for values in told) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _csv(found: SideBySide) -> bytes:
    lines: list[tuple[Cell, ...]] = []
    for line in found.lines:
        for name, side in zip(found.experiments, line.sides, strict=True):
            if side.cell is None:
                continue
            estimate, other = side.cell.estimate, side.difference
            gap = (other.mean, other.low, other.high, other.n) if other is not None else (None,) * 4
            own = (getattr(estimate, field) for field in _ESTIMATE)
            lines.append((name, line.arm, line.classifier, found.metric, *own, *gap, side.reason))
    return csv_bytes(COLUMNS, lines)
