"""Results of a tuning, read from its folder: the search, the finalists, the verdict on held-out images, the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medzoo.errors import DataError, IntegrityError
from medzoo.experiment.results import EXPERIMENT, Experiment, load_results
from medzoo.experiment.statistics import Comparison, adjust_family
from medzoo.storage.files import plain, read_json, with_checksum, without_checksum, write_json_atomic

if TYPE_CHECKING:
    from medzoo.tuning.policy import Policy

TUNING, POLICY, JOURNAL = "tuning.json", "policy.toml", "search.journal"
POOLS, SEARCH, FINALISTS, HELD_OUT = "pools", "search", "finalists", "held-out"
"""The folders of a tuning: the pools of images, and an experiment each for the three times that policies are scored."""

PHASES = ("drawing", "features", "search", "finalists", "held-out")
"""What a tuning spends its time on, in order."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One policy of the search, scored on frozen features in the inner folds.

    `params` are what the search chose, by name; `arm` is the table of the arm that experiments take. `score` is the
    mean over the inner folds, with the standard deviation `sd` (n - 1), and took `seconds`.
    """

    number: int
    params: Mapping[str, Any]
    arm: Mapping[str, Any]
    score: float
    sd: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PoolInfo:
    """The images drawn of one generator setting, in the folder pools/`name`.

    `strength` is None where the generator draws from noise; `settings` are those that differ from its own defaults, by
    dotted key. `images` were drawn in `seconds`, over all runs that ended with a whole pool.
    """

    name: str
    generator: str
    strength: float | None
    settings: Mapping[str, Any]
    images: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """All of a tuning in `folder`.

    `settings` are flat, `origins` say where each came from. `trials` are in order of their numbers; `baselines` are the
    scores of the controls in the same inner folds, by name. `finalists` were trained for real in the inner folds,
    `held_out` is the one look at the held-out part; either is None where the tuning did not come so far. `verdict` is
    the sentence about it. `seconds` are those of each phase (`PHASES`), over all runs; `budget` is in minutes, None for
    none. `winner` is the number of the trial that won among the finalists, `control` the best control there.
    `provenance` says which data, classifier and generators; `warnings` are what a reader must know.
    """

    folder: Path
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    trials: tuple[TrialResult, ...]
    baselines: Mapping[str, float]
    pools: tuple[PoolInfo, ...]
    finalists: Experiment | None
    held_out: Experiment | None
    policy: Policy
    verdict: str
    seconds: Mapping[str, float]
    budget: float | None
    provenance: Mapping[str, Any]
    winner: int | None = None
    control: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def classifier(self) -> str:
        """The classifier that was tuned for."""
        return str(self.provenance["classifier"])

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The winner against each control on the held-out part, adjusted together by Holm's correction."""
        if self.held_out is None:
            return ()
        (name,) = [arm.name for arm in self.held_out.arms if not arm.control]
        return compare_with_controls(self.held_out, name, self.classifier)

    @property
    def best(self) -> TrialResult | None:
        """The trial with the highest score, the first of equal ones; None without trials."""
        return max(self.trials, key=lambda trial: (trial.score, -trial.number), default=None)

    @property
    def metric(self) -> str:
        """The score that was tuned, one of the experiments' `METRICS`."""
        return str(self.settings["metric"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in ("folder", "finalists", "held_out"):
            del own[name]
        values: dict[str, Any] = plain(own)
        for name, found in (("finalists", self.finalists), ("held_out", self.held_out)):
            values[name] = None if found is None else found.to_dict()
        return values


def load_tuning(folder: Path) -> TuningResult:
    """Load the results of the tuning in `folder`.

    Raises:
        DataError: the folder holds no finished tuning.
        IntegrityError: a file is damaged.
    """
    from medzoo.tuning.policy import read_policy

    stored = read_tuning(folder)
    if stored is None or not stored.get("verdict"):
        unfinished = "an unfinished tuning" if stored is not None else "no tuning"
        raise DataError(f"{folder} holds {unfinished}", "run the same `medzoo tune` command to finish it")
    same = ("settings", "origins", "baselines", "verdict", "seconds", "budget", "provenance", "winner", "control")
    return TuningResult(
        folder=folder,
        **{name: stored[name] for name in same},
        trials=tuple(TrialResult(**trial) for trial in stored["trials"]),
        pools=tuple(PoolInfo(**pool) for pool in stored["pools"]),
        finalists=_experiment(folder / FINALISTS),
        held_out=_experiment(folder / HELD_OUT),
        policy=read_policy(folder / POLICY),
        warnings=tuple(stored["warnings"]),
    )


def read_tuning(folder: Path) -> dict[str, Any] | None:
    """Read tuning.json; None if there is none. Raises: IntegrityError for a damaged file."""
    path = folder / TUNING
    try:
        values: dict[str, Any] = without_checksum(read_json(path), required=True)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "delete it and run the same `medzoo tune` again") from None
    return values


def write_tuning(folder: Path, values: Mapping[str, Any]) -> None:
    """Write tuning.json, with a checksum. Raises: ResourceError."""
    write_json_atomic(folder / TUNING, with_checksum(plain(values)))


def best_control(result: Experiment, classifier: str) -> str:
    """Return the control with the best mean, the first of equal ones."""
    controls = [arm.name for arm in result.arms if arm.control]
    return max(controls, key=lambda name: result.summary(name, classifier).estimates[result.metric].mean)


def compare_with_controls(result: Experiment, arm: str, classifier: str) -> tuple[Comparison, ...]:
    """Compare an arm with each control, and adjust the p values together: the best control is known afterwards."""
    controls = [own.name for own in result.arms if own.control]
    return adjust_family([result.compare(arm, control, classifier) for control in controls])


def _experiment(folder: Path) -> Experiment | None:
    return load_results(folder) if (folder / EXPERIMENT).is_file() else None
