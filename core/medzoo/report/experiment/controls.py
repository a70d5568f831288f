"""Whether generated images achieved more than a control arm with the same number of images.

An experiment compares its arms with one baseline; synthetic images also have to outperform other arms of equal count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medzoo.experiment.config import CLASSIC, DUPLICATE, Arm
from medzoo.experiment.results import Experiment
from medzoo.experiment.statistics import Comparison, adjust_family
from medzoo.report.formatting import MINUS, join_words, pluralize

UNPRETRAINED = "no pretraining"

_QUESTIONS: Mapping[str, str] = {
    DUPLICATE: "Did any generator outperform duplicate, which oversamples real images to the same count?",
    CLASSIC: "Did any generator outperform classic, which applies classical augmentation to the same count?",
    UNPRETRAINED: "Did pretraining on synthetic images outperform training on real images alone, all else being equal?",
}

Controls = Mapping[str, Sequence[Comparison]]
"""By control, the comparisons with it of every arm with generated images, with every classifier."""


def control_comparisons(experiment: Experiment) -> Controls:
    """Compare arms with each control that the experiment has.

    Each control is a family of its own for Holm's correction. Where it is the baseline, the experiment's own
    comparisons are taken.
    """
    by_control: dict[str, Sequence[Comparison]] = {}
    for control in (DUPLICATE, CLASSIC, UNPRETRAINED):
        matches = {arm.name: _match(experiment, arm, control) for arm in experiment.arms if not arm.control}
        pairs = {arm: match.name for arm, match in matches.items() if match is not None}
        if set(pairs.values()) == {experiment.baseline}:
            by_control[control] = tuple(found for found in experiment.comparisons if found.arm in pairs)
        elif pairs:
            by_control[control] = adjust_family(
                [experiment.compare(*pair, name) for name in experiment.classifiers for pair in pairs.items()]
            )
    return by_control


def _match(experiment: Experiment, arm: Arm, control: str) -> Arm | None:
    """Return the arm that differs from `arm` only in having the control's images for generated ones, if any."""
    if control == UNPRETRAINED:
        if not arm.pretrain:
            return None
        wanted = replace(arm, name="", mixture={}, stage="together", target=0)
    else:
        wanted = replace(arm, name="", mixture={control: 1.0})
    return next((other for other in experiment.arms if replace(other, name="") == wanted), None)


def answers(experiment: Experiment, controls: Controls) -> list[tuple[str, str]]:
    """Answer for each control whether any generator outperformed it, `duplicate` first; at least one answer.

    Each is a few words for a badge, "Significant gain" if there is one, and a sentence.
    """
    if all(arm.control for arm in experiment.arms):
        return [("No generator", "No arm has generated images.")]
    by_control = [_answer(experiment, comparisons, _QUESTIONS[control]) for control, comparisons in controls.items()]
    if DUPLICATE in controls or UNPRETRAINED in controls:
        return by_control
    missing = (
        "The experiment has no duplicate arm with the same count, so a gain may come from seeing real images more "
        "often and not from generated images."
    )
    return [("No control", missing), *by_control]


def _answer(experiment: Experiment, comparisons: Sequence[Comparison], question: str) -> tuple[str, str]:
    tested = [comparison for comparison in comparisons if not math.isnan(comparison.p)]
    gains = [comparison for comparison in tested if comparison.shown and comparison.difference > 0]
    losses = [comparison for comparison in tested if comparison.shown and comparison.difference < 0]
    untested = f"{pluralize(len(comparisons) - len(tested), 'comparison')} could not be tested."
    if not tested:
        return "Not tested", f"{question} Unknown: {untested}"
    if gains:
        text = f"Significant gain in {len(gains)} of {pluralize(len(tested), 'comparison')}: {_list(gains)}."
    else:
        where = f"any of {len(tested):,} comparisons" if len(tested) > 1 else "the one comparison"
        text = f"No significant gain in {where}, which does not prove that there is none."
    text += f" Significant loss: {_list(losses)}." if losses else ""
    text += f" {untested}" if len(tested) < len(comparisons) else ""
    if experiment.failed or experiment.missing:
        text += " This is provisional because not all cells have scores."
    return "Significant gain" if gains else "No significant gain", f"{question} {text}"


def _list(comparisons: Sequence[Comparison]) -> str:
    return join_words(
        [
            f"{found.arm} with {found.classifier} "
            f"({'+' if found.difference > 0 else MINUS}{abs(100 * found.difference):.1f} points)"
            for found in comparisons
        ]
    )
