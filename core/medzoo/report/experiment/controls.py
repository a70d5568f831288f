"""Whether generated images achieved more than a control arm with the same number of images.

An experiment compares its arms with one baseline; synthetic images also have to outperform other arms of equal count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medzoo.experiment.arms import CLASSIC, DUPLICATE, Arm
from medzoo.experiment.comparisons import Comparison, adjust_family
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import paired_test
from medzoo.report.formatting import MINUS, join_words, pluralize

UNPRETRAINED = "no pretraining"

_QUESTIONS: Mapping[str, str] = {
    DUPLICATE: "Did any generator outperform duplicate, which oversamples real images to the same count?",
    CLASSIC: "Did any generator outperform classic, which applies classical augmentation to the same count?",
    UNPRETRAINED: "Did pretraining on synthetic images outperform training on real images alone, all else being equal?",
}

Controls = Mapping[str, Sequence[Comparison]]
"""By control, the comparisons with it of every arm with generated images, with every classifier."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether generators outperformed a control: `short` for a badge, and a sentence. "good" is a significant gain."""

    state: Literal["good", "open"]
    short: str
    sentence: str


def control_comparisons(experiment: Experiment) -> Controls:
    """Compare arms with each control that the experiment has.

    Each control is a family of its own for Holm's correction. Where it is the baseline, the experiment's own
    comparisons are taken.
    """
    by_control: dict[str, Sequence[Comparison]] = {}
    for control in (DUPLICATE, CLASSIC, UNPRETRAINED):
        pairs = [
            (arm, match) for arm in generated(experiment) if (match := _match(experiment, arm, control)) is not None
        ]
        if pairs and {match.name for _, match in pairs} == {experiment.baseline}:
            arms = {arm.name for arm, _ in pairs}
            by_control[control] = tuple(comparison for comparison in experiment.comparisons if comparison.arm in arms)
        elif pairs:
            by_control[control] = adjust_family(
                [_compare(experiment, arm, match, name) for name in experiment.classifiers for arm, match in pairs]
            )
    return by_control


def generated(experiment: Experiment) -> list[Arm]:
    """Return the arms with generated images."""
    return [arm for arm in experiment.arms if not arm.control]


def _match(experiment: Experiment, arm: Arm, control: str) -> Arm | None:
    """Return the arm that differs from `arm` only in having the control's images for generated ones, if any."""
    plain = replace(arm, name="", mixture={}, pretrain=False, target=0)
    wanted = plain if arm.pretrain else replace(arm, name="", mixture={control: 1.0})
    if arm.pretrain != (control == UNPRETRAINED):
        return None
    return next((other for other in experiment.arms if replace(other, name="") == wanted), None)


def _compare(experiment: Experiment, arm: Arm, match: Arm, classifier: str) -> Comparison:
    scores = [list(experiment.units(own.name, classifier, experiment.metric).values()) for own in (arm, match)]
    return Comparison(
        arm=arm.name,
        baseline=match.name,
        classifier=classifier,
        metric=experiment.metric.replace("_", " "),
        test=paired_test(*scores, repeats=experiment.repeats),
    )


def answers(experiment: Experiment, controls: Controls) -> list[Answer]:
    """Answer for each control whether any generator outperformed it, `duplicate` first; at least one answer."""
    if not generated(experiment):
        return [Answer(state="open", short="No generator", sentence="No arm has generated images.")]
    by_control = [_answer(experiment, comparisons, _QUESTIONS[control]) for control, comparisons in controls.items()]
    if DUPLICATE in controls or UNPRETRAINED in controls:
        return by_control
    missing = (
        "The experiment has no duplicate arm with the same count, so a gain may come from seeing real images more "
        "often and not from generated images."
    )
    return [Answer(state="open", short="No control", sentence=missing), *by_control]


def _answer(experiment: Experiment, comparisons: Sequence[Comparison], question: str) -> Answer:
    tested = [comparison for comparison in comparisons if not math.isnan(comparison.p)]
    gains = [comparison for comparison in tested if comparison.shown and comparison.difference > 0]
    losses = [comparison for comparison in tested if comparison.shown and comparison.difference < 0]
    untested = pluralize(len(comparisons) - len(tested), "comparison")
    if not tested:
        return Answer(state="open", short="Not tested", sentence=f"{question} Unknown: {untested} could not be tested.")
    if gains:
        text = f"Significant gain in {len(gains)} of {pluralize(len(tested), 'comparison')}: {_describe(gains)}."
    else:
        where = f"any of {len(tested):,} comparisons" if len(tested) > 1 else "the one comparison"
        text = f"No significant gain in {where}, which does not prove that there is none."
    if losses:
        text += f" Significant loss: {_describe(losses)}."
    if len(tested) < len(comparisons):
        text += f" {untested} could not be tested."
    if experiment.failed or experiment.missing:
        text += " This is provisional because not all cells have scores."
    short = "Significant gain" if gains else "No significant gain"
    return Answer(state="good" if gains else "open", short=short, sentence=f"{question} {text}")


def _describe(comparisons: Sequence[Comparison]) -> str:
    return join_words([f"{found.arm} with {found.classifier} ({_points(found.difference)})" for found in comparisons])


def _points(difference: float) -> str:
    sign = "+" if difference > 0 else MINUS
    return f"{sign}{abs(100 * difference):.1f} points"
