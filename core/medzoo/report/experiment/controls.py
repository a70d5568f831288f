"""Whether generated images did more than the control at the same count, with the tests of an experiment's comparisons.

An experiment compares its arms with one baseline; what synthetic images have to beat is another arm of equal count.
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
from medzoo.report.formatting import MINUS, counted, listed

UNPRETRAINED = "no pretraining"

_QUESTIONS: Mapping[str, str] = {
    DUPLICATE: "Did a generator do more than duplicate, which repeats real images to the same count?",
    CLASSIC: "Did one do more than classic, which fills to that count with simple changes of real images?",
    UNPRETRAINED: "Did synthetic pretraining do more than real images alone, all else being equal?",
}

State = Literal["good", "open"]

Controls = Mapping[str, Sequence[Comparison]]
"""By control, every arm with generated images against it, with every classifier."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether generators beat a control: `short` for a badge, and a sentence. "good" only where a gain is shown."""

    state: State
    short: str
    sentence: str


def control_comparisons(experiment: Experiment) -> Controls:
    """The comparisons with each control; controls without any left out.

    Each control is a family of its own for Holm's correction. Where it is the baseline, the experiment's own
    comparisons are taken.
    """
    found: dict[str, Sequence[Comparison]] = {}
    for control in (DUPLICATE, CLASSIC, UNPRETRAINED):
        pairs = [(arm, twin) for arm in generated(experiment) if (twin := _twin(experiment, arm, control)) is not None]
        if pairs and {twin.name for _, twin in pairs} == {experiment.baseline}:
            arms = {arm.name for arm, _ in pairs}
            found[control] = tuple(comparison for comparison in experiment.comparisons if comparison.arm in arms)
        elif pairs:
            found[control] = adjust_family(
                [_compared(experiment, arm, twin, name) for name in experiment.classifiers for arm, twin in pairs]
            )
    return found


def generated(experiment: Experiment) -> list[Arm]:
    """The arms with images that a generator made."""
    return [arm for arm in experiment.arms if not arm.control]


def _twin(experiment: Experiment, arm: Arm, control: str) -> Arm | None:
    """The arm that differs from `arm` in having the control's images in place of generated ones, if there is one."""
    plain = replace(arm, name="", mixture={}, pretrain=False, target=0)
    wanted = plain if arm.pretrain else replace(arm, name="", mixture={control: 1.0})
    if arm.pretrain != (control == UNPRETRAINED):
        return None
    return next((other for other in experiment.arms if replace(other, name="") == wanted), None)


def _compared(experiment: Experiment, arm: Arm, twin: Arm, classifier: str) -> Comparison:
    first, second = (list(experiment.units(side.name, classifier, experiment.metric).values()) for side in (arm, twin))
    return Comparison(
        arm=arm.name,
        baseline=twin.name,
        classifier=classifier,
        metric=experiment.metric.replace("_", " "),
        test=paired_test(first, second, repeats=experiment.repeats),
    )


def answers(experiment: Experiment, controls: Controls) -> list[Answer]:
    """Whether any generator beat each control, `duplicate` first; at least one answer."""
    if not generated(experiment):
        return [Answer(state="open", short="No generator", sentence="No arm has images that a generator made.")]
    found = [_answer(experiment, made, _QUESTIONS[control]) for control, made in controls.items()]
    if DUPLICATE in controls or UNPRETRAINED in controls:
        return found
    lacking = (
        "There is no arm duplicate of the same count, so a gain may be that of seeing real images more often: nothing "
        "says that generated ones helped."
    )
    return [Answer(state="open", short="No control", sentence=lacking), *found]


def _answer(experiment: Experiment, made: Sequence[Comparison], question: str) -> Answer:
    tested = [comparison for comparison in made if not math.isnan(comparison.p)]
    gains = [comparison for comparison in tested if comparison.shown and comparison.difference > 0]
    losses = [comparison for comparison in tested if comparison.shown and comparison.difference < 0]
    if not tested:
        told = f"That cannot be told: {counted(len(made), 'comparison')} could not be tested."
        return Answer(state="open", short="Not answered", sentence=f"{question} {told}")
    if gains:
        told = f"In {len(gains)} of {counted(len(tested), 'comparison')} a gain is shown: {listed(_told(gains))}."
    else:
        where = f"any of {len(tested):,} comparisons" if len(tested) > 1 else "the one comparison"
        told = f"No gain is shown in {where}, which does not show that there is none."
    if losses:
        told += f" A loss is shown for {listed(_told(losses))}."
    if len(tested) < len(made):
        told += f" {counted(len(made) - len(tested), 'comparison')} could not be tested."
    if experiment.failed or experiment.missing:
        told += " This is provisional, for not all cells have scores."
    short = "Gain shown" if gains else "No gain shown"
    return Answer(state="good" if gains else "open", short=short, sentence=f"{question} {told}")


def _told(comparisons: Sequence[Comparison]) -> list[str]:
    return [f"{found.arm} with {found.classifier} ({_points(found.difference)})" for found in comparisons]


def _points(difference: float) -> str:
    sign = "+" if difference > 0 else MINUS
    return f"{sign}{abs(100 * difference):.1f} points"
