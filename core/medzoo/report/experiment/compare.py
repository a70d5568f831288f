"""Compare several experiments: the score of each arm and classifier, and differences where they are comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.errors import ConfigError
from medzoo.experiment.results import ArmSummary, Experiment
from medzoo.experiment.statistics import Estimate, paired_test
from medzoo.report.experiment.tables import TITLES
from medzoo.report.experiment.text import describe_arm, describe_run, failures
from medzoo.report.formatting import join_words
from medzoo.report.page import render
from medzoo.report.tables import Record, to_csv
from medzoo.storage.files import plain, write_atomic

PAGE, TABLE = "compare.html", "compare.csv"

_SCHEME = ("folds", "repeats", "seeds", "seed", "validation", "test")
_ESTIMATE = ("mean", "low", "high", "n", "n_failed")
_DIFFERENCE = ("difference", "difference_low", "difference_high", "difference_n")


@dataclass(frozen=True, kw_only=True)
class ComparedScore:
    """The score of an arm and classifier in one experiment: None if it has no such arm or classifier.

    `difference` is from the first experiment, paired over folds or seeds; None in the first, and where the two cannot
    be compared, for the `reason` given.
    """

    summary: ArmSummary | None
    estimate: Estimate | None = None
    difference: Estimate | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """An arm with a classifier, and its score in each experiment, in their order."""

    arm: str
    classifier: str
    description: str
    scores: tuple[ComparedScore, ...]


@dataclass(frozen=True, kw_only=True)
class ExperimentComparison:
    """Experiments by unique names, compared in one `metric`.

    `incomparable` says for each but the first why none of it can be compared with the first; "" where it can.
    `settings` are those that differ: a value per experiment, None where it has no such setting.
    """

    experiments: Mapping[str, Experiment]
    metric: str
    rows: tuple[ComparisonRow, ...]
    incomparable: Mapping[str, str]
    settings: Mapping[str, tuple[Any, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an undefined number is null."""
        values: dict[str, Any] = plain({**vars(self), "experiments": list(self.experiments)})
        values["not_comparable"] = values.pop("incomparable")
        return values


def compare_experiments(experiments: Sequence[Experiment]) -> ExperimentComparison:
    """Compare experiments in the metric of the first. Raises: ConfigError for fewer than two."""
    if len(experiments) < 2:
        raise ConfigError("one experiment was given, and a comparison needs at least two", "give another folder")
    first, named = experiments[0], _unique_names(experiments)
    incomparable = {name: _difference(first, experiment) for name, experiment in list(named.items())[1:]}
    rows = []
    for classifier in dict.fromkeys(name for found in experiments for name in found.classifiers):
        for arm in dict.fromkeys(arm.name for found in experiments for arm in found.arms):
            having = [found for found in experiments if _has(found, arm, classifier)]
            if having:
                about = describe_arm(having[0].arm(arm), multi_label=having[0].multi_label)
                scores = [_score(first, its, incomparable.get(name), arm, classifier) for name, its in named.items()]
                rows.append(ComparisonRow(arm=arm, classifier=classifier, description=about, scores=tuple(scores)))
    return ExperimentComparison(
        experiments=named,
        metric=first.metric,
        rows=tuple(rows),
        incomparable=incomparable,
        settings=_differing_settings(experiments),
    )


def write_comparison(comparison: ExperimentComparison, out: Path) -> list[Path]:
    """Write compare.html and compare.csv into `out` and return their paths. Raises: ResourceError."""
    by_classifier: dict[str, list[ComparisonRow]] = {}
    for row in comparison.rows:
        by_classifier.setdefault(row.classifier, []).append(row)
    values = {
        "comparison": comparison,
        "version": __version__,
        "metric_title": TITLES[comparison.metric],
        "rows": by_classifier,
        "run": {name: describe_run(experiment) for name, experiment in comparison.experiments.items()},
        "failures": {name: failures(experiment) for name, experiment in comparison.experiments.items()},
    }
    columns = ("experiment", "arm", "classifier", "metric", *_ESTIMATE, *_DIFFERENCE, "not_compared")
    files = {PAGE: render("compare.html.j2", values), TABLE: to_csv(_records(comparison), columns)}
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]


def _unique_names(experiments: Sequence[Experiment]) -> dict[str, Experiment]:
    """Name experiments by their own names, or by folder and number where two have the same."""
    names = [found.name for found in experiments]
    if len(set(names)) < len(names):
        names = [found.folder.resolve().name for found in experiments]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return dict(zip(names, experiments, strict=True))


def _difference(first: Experiment, other: Experiment) -> str:
    """Say why nothing in two experiments can be compared; "" where it can."""
    mine, its = (found.provenance["data"] for found in (first, other))
    reasons = []
    if (mine["fingerprint"], first.classes) != (its["fingerprint"], other.classes):
        reasons.append("different data")
    if (first.held_out, mine["parts"]) != (other.held_out, its["parts"]):
        reasons.append("a different test split")
    elif keys := [key for key in _SCHEME if first.settings.get(key) != other.settings.get(key)]:
        reasons.append(f"different settings ({', '.join(keys)})")
    return join_words(reasons)


def _score(first: Experiment, found: Experiment, reason: str | None, arm: str, classifier: str) -> ComparedScore:
    """Compare a score with the first experiment's; `reason` is why it cannot be, None for the first itself."""
    if not _has(found, arm, classifier):
        return ComparedScore(summary=None)
    summary = found.summary(arm, classifier)
    score = ComparedScore(summary=summary, estimate=summary.estimates[first.metric])
    if reason is None or not _has(first, arm, classifier):
        return score
    if reason := reason or _cell_difference(first, found, arm, classifier):
        return replace(score, reason=reason)
    its, mine = (one.values(arm, classifier, first.metric) for one in (found, first))
    return replace(score, difference=paired_test(its, mine, overlap=first.overlap).difference)


def _has(experiment: Experiment, arm: str, classifier: str) -> bool:
    return classifier in experiment.classifiers and any(found.name == arm for found in experiment.arms)


def _cell_difference(first: Experiment, other: Experiment, arm: str, classifier: str) -> str:
    """Say why a cell of comparable experiments differs: the same name may stand for other images or steps."""
    mine, its = (sorted({cell.steps for cell in found.of(arm, classifier)}) for found in (first, other))
    if mine != its:
        steps = [join_words([f"{count:,}" for count in counts]) for counts in (its, mine)]
        return f"{steps[0]} optimizer steps vs. {steps[1]}"
    return "" if first.arm(arm) == other.arm(arm) else "a different arm of the same name"


def _differing_settings(experiments: Sequence[Experiment]) -> dict[str, tuple[Any, ...]]:
    """Collect the settings, data, version and device that differ."""
    values = [
        {
            "data": found.provenance["data"]["path"],
            "data fingerprint": found.provenance["data"]["fingerprint"][:16],
            **found.settings,
            "medzoo": found.provenance["medzoo"],
            "device": found.provenance["device"],
        }
        for found in experiments
    ]
    rows = {key: tuple(each.get(key) for each in values) for own in values for key in own}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _records(comparison: ExperimentComparison) -> Iterator[Record]:
    for row in comparison.rows:
        for name, score in zip(comparison.experiments, row.scores, strict=True):
            if score.estimate is None:
                continue
            found = score.difference
            values = (found.mean, found.low, found.high, found.n) if found is not None else ()
            yield {
                **vars(row),
                **vars(score.estimate),
                **dict(zip(_DIFFERENCE, values, strict=False)),
                **{"experiment": name, "metric": comparison.metric, "not_compared": score.reason},
            }
