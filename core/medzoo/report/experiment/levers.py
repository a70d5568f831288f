"""How images are used: the score of each arm beside those with other levers, and what generators achieved at each.

A lever that helps may help real images, repeated, as much as generated ones. Its effect on `duplicate` and `classic`
is therefore shown beside its effect on generated images, and a generator is compared with `duplicate` at its lever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from medzoo.experiment.config import CLASSIC, DUPLICATE, LEVERS, Arm, row_name
from medzoo.experiment.results import ArmSummary, Experiment
from medzoo.experiment.statistics import CONFIDENCE, Comparison, Estimate
from medzoo.report.experiment.controls import UNPRETRAINED, Controls
from medzoo.report.formatting import format_points

NO_LEVER = "as they are"


@dataclass(frozen=True, kw_only=True)
class LeverScore:
    """The score of an arm; `effect` is its difference from the arm of the same images without levers, if any."""

    arm: str
    summary: ArmSummary
    effect: Estimate | None


@dataclass(frozen=True, kw_only=True)
class LeverTable:
    """Scores by images, then by levers; `levers` are the columns, in their order."""

    levers: tuple[str, ...]
    rows: Mapping[str, Mapping[str, LeverScore]]


def images_of(experiment: Experiment, arm: Arm) -> str:
    """Name the synthetic images of an arm, with their target where the experiment has several."""
    shares = [f"{name}={share:g}" for name, share in arm.mixture.items()]
    name = "+".join(shares) if len(shares) > 1 else next(iter(arm.mixture), "")
    several = len({other.target for other in experiment.arms if other.target}) > 1
    return f"{name}@{arm.target}" if several else name


def levers_of(arm: Arm) -> str:
    """Name the levers of an arm that are pulled: "weight 0.3, refit"; "as they are" without any."""
    return ", ".join(LEVERS[name].format(value) for name, value in arm.levers.items()) or NO_LEVER


def lever_tables(experiment: Experiment) -> dict[str, LeverTable]:
    """Arrange arms by images and levers for each classifier; {} if no arm has levers."""
    arms = [arm for arm in experiment.arms if arm.mixture and not _is_pretrain_row(arm)]
    if not any(arm.levers for arm in arms):
        return {}
    levers = sorted({levers_of(arm): None for arm in arms}, key=lambda name: name != NO_LEVER)
    tables = {}
    for classifier in experiment.classifiers:
        rows: dict[str, dict[str, LeverScore]] = {}
        for arm in arms:
            plain = replace(arm, name="", **{name: getattr(Arm, name) for name in LEVERS})
            base = next((other for other in arms if replace(other, name="") == plain), None)
            effect = None
            if base is not None and arm.levers:
                effect = experiment.compare(arm.name, base.name, classifier).test.difference
            score = LeverScore(arm=arm.name, summary=experiment.summary(arm.name, classifier), effect=effect)
            rows.setdefault(images_of(experiment, arm), {})[levers_of(arm)] = score
        tables[classifier] = LeverTable(levers=tuple(levers), rows=rows)
    return tables


def _is_pretrain_row(arm: Arm) -> bool:
    return arm.name == row_name(arm.pretrain, arm.real_fraction, arm.geometric, arm.weighted)


def verdicts(experiment: Experiment, controls: Controls) -> Iterator[tuple[str, str]]:
    """Yield for each arm with generated images a badge, "gain", "loss" or "no difference", and a sentence.

    It is compared with the strictest control there is at the same count and levers: `duplicate`, else `classic`.
    """
    shown = {(found.arm, found.classifier) for found in experiment.comparisons if found.shown and found.difference > 0}
    for arm in experiment.arms:
        for control in (DUPLICATE, CLASSIC, UNPRETRAINED):
            found = [comparison for comparison in controls.get(control, ()) if comparison.arm == arm.name]
            if not found or (control == UNPRETRAINED and not _is_pretrain_row(arm)):
                continue
            significant = [comparison for comparison in found if comparison.shown]
            gains = [comparison for comparison in significant if comparison.difference > 0]
            badge = "gain" if gains else "loss" if significant else "no difference"
            sentence = f"{_at(experiment, arm)} is {'; '.join(_over(experiment, each) for each in found)}"
            alike = [each.classifier for each in found if (arm.name, each.classifier) in shown and each not in gains]
            if alike and experiment.baseline != control:
                sentence += (
                    f". Its gain over {experiment.baseline} with {', '.join(alike)} is not shown to exceed that of "
                    f"{control}"
                )
            yield badge, f"{sentence}."
            break


def _at(experiment: Experiment, arm: Arm) -> str:
    """Name an arm by its images and levers: "ddpm-var-busi at weight 0.3"."""
    if not arm.mixture or _is_pretrain_row(arm):
        return arm.name
    levers = f" at {levers_of(arm)}" if set(arm.levers) <= {"loss_weight", "batch_share"} else f" ({levers_of(arm)})"
    return images_of(experiment, arm) + (levers if arm.levers else "")


def _over(experiment: Experiment, comparison: Comparison) -> str:
    """State the difference from a control: "+1.2 points over duplicate at weight 0.3 with cnn (95% CI ...)".

    A loss is stated as "1.2 points below".
    """
    control, found = _at(experiment, experiment.arm(comparison.baseline)), comparison.test.difference
    if not found.n:
        return f"not compared with {control} with {comparison.classifier}: no scores"
    points = format_points(found.mean)
    relation = f"{points[1:]} points below" if found.mean < 0 else f"{points} points over"
    text = f"{relation} {control} with {comparison.classifier}"
    if found.reason:
        return f"{text} (not tested: {found.reason})"
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    adjusted = "Holm-adjusted " if comparison.family > 1 else ""
    interval = f"{format_points(found.low)} to {format_points(found.high)}"
    return f"{text} ({CONFIDENCE:.0%} CI {interval}, {adjusted}{p})"
