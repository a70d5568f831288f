"""The scores of a search by what was chosen: for each lever, the policies with each of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from medzoo.tuning.results import TrialResult, TuningResult

_TITLES: Mapping[str, str] = {
    "pool": "images",
    "target": "images of each class, as a share of the largest",
    "loss_weight": "weight in the loss",
    "use": "way of using images",
    "classes": "classes that get images",
    "weighted": "loss weighted by class",
    "select": "selection",
}


@dataclass(frozen=True, kw_only=True)
class LeverValue:
    """The policies of a search that have one value of a lever; there is at least one."""

    value: str
    trials: tuple[TrialResult, ...]

    @property
    def best(self) -> TrialResult:
        """The one with the highest score, the first of equal ones."""
        return max(self.trials, key=lambda trial: (trial.score, -trial.number))

    @property
    def median(self) -> float:
        """The median of their scores."""
        return median(trial.score for trial in self.trials)


def lever_values(result: TuningResult) -> dict[str, list[LeverValue]]:
    """Return the values of each lever that the search tried several of, by the lever's title.

    Numbers are in order, other values in that of their medians, the highest first.
    """
    found: dict[str, list[LeverValue]] = {}
    for name in dict.fromkeys(name for trial in result.trials for name in trial.params):
        values = {trial.params[name] for trial in result.trials if name in trial.params}
        if len(values) < 2:
            continue
        rows = [
            LeverValue(
                value=_shown(value),
                trials=tuple(trial for trial in result.trials if trial.params.get(name) == value),
            )
            for value in values
        ]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        rows.sort(key=lambda row: (float(row.value) if numeric else -row.median, row.value))
        found[_TITLES.get(name, name.replace("_", " "))] = rows
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
