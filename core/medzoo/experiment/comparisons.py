"""Comparisons of arms with their baselines, and what may be concluded from each, in one sentence.

Sentences give scores in points, hundredths of a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medzoo.experiment.statistics import CONFIDENCE, POWER, McNemarTest, PairedTest, detectable_difference, holm

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against its baseline, with one classifier and in one metric, of which higher is better.

    `p_adjusted` is adjusted by Holm's correction over the `family` comparisons made together; `adjust_family` fills
    both. Intervals are not adjusted. McNemar's test is of accuracy.
    """

    arm: str
    baseline: str
    classifier: str
    metric: str
    test: PairedTest | McNemarTest
    p_adjusted: float | None = None
    family: int = 1

    @property
    def difference(self) -> float:
        """Arm minus baseline; NaN where no pair was left."""
        return self.test.difference if isinstance(self.test, McNemarTest) else self.test.difference.mean

    @property
    def p(self) -> float:
        """The p value, adjusted for the family if there is one."""
        return self.test.p if self.p_adjusted is None else self.p_adjusted

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the 5% level, over the whole family."""
        return self.p < ALPHA

    @property
    def detectable(self) -> float:
        """The smallest true difference detected with 80% power at 5% over the family, if its p is the lowest.

        NaN for McNemar's test and for an undefined test.
        """
        if isinstance(self.test, McNemarTest):
            return math.nan
        return detectable_difference(self.test, alpha=ALPHA / self.family)

    def sentence(self) -> str:
        """State in one English sentence what may be concluded and what may not."""
        if isinstance(self.test, McNemarTest):
            return self._of_images(self.test)
        return self._undefined(self.test) or self._of_repeats(self.test)

    def _measured(self, low: float, high: float) -> str:
        """Return what was measured, the interval and the test."""
        verb = "raised" if self.difference > 0 else "lowered" if self.difference < 0 else "changed"
        p = f"Holm-adjusted {_p(self.p)} over {self.family} comparisons" if self.family > 1 else _p(self.p)
        return (
            f"Against {self.baseline}, {self.arm} {verb} {self.metric} of {self.classifier} by "
            f"{_points(abs(self.difference))} points ({CONFIDENCE:.0%} interval {_points(low)} to {_points(high)}, "
            f"{self.test.method}, {p})"
        )

    def _verdict(self) -> str:
        if self.shown:
            return f"a {'gain' if self.difference > 0 else 'loss'} is shown"
        if self.test.p < ALPHA:
            return f"no difference is shown after correction for all {self.family} comparisons"
        return "no difference is shown, which does not show that there is none"

    def _of_repeats(self, test: PairedTest) -> str:
        found, unit = test.difference, test.repeats.unit
        text = f"{self._measured(found.low, found.high)}: {_provisional(test)}{self._verdict()}"
        if self.shown:
            text += f" over {_count(found.n, unit)}, which says nothing about images from other sources"
        else:
            text += (
                f"; with {_count(found.n, unit)} of this spread, only a true difference of about "
                f"{_points(self.detectable)} points or more would be detected with {POWER:.0%} power"
            )
        if not test.repeats.ratio:
            text += "; the seeds share one test set, so their spread does not reflect other test images"
        return text + "."

    def _undefined(self, test: PairedTest) -> str:
        """Return the sentence where the test is undefined, "" where it is not."""
        found, unit = test.difference, test.repeats.unit
        score = f"{self.metric} of {self.classifier}"
        total = _count(found.n + found.n_failed, unit)
        failed = f" ({found.n_failed} of {total} without a score)" if found.partial else ""
        if found.n < 2:
            had = f"Only {_count(found.n, unit)} has" if found.n else f"No {unit} has"
            return (
                f"{had} {score} with both {self.arm} and {self.baseline}{failed}: too few for a test, so nothing is "
                f"concluded."
            )
        if found.reason:
            size = _points(abs(found.mean))
            higher = f"{size} points {'higher' if found.mean > 0 else 'lower'} with {self.arm} than"
            relation = f"the same with {self.arm} and" if size == "0.0" else higher
            return (
                f"In each of {_count(found.n, unit)}{failed}, {score} is {relation} with {self.baseline}: without any "
                f"spread there is no test, so nothing is concluded."
            )
        return ""

    def _of_images(self, test: McNemarTest) -> str:
        if not test.gained + test.lost:
            return (
                f"With {self.arm} and with {self.baseline}, {self.classifier} is right on the same images of "
                f"{test.n}: no difference is shown, which does not show that there is none."
            )
        return (
            f"{self._measured(test.low, test.high)}: of {_count(test.n, 'image')}, {test.gained} were classified "
            f"correctly with {self.arm} alone and {test.lost} with {self.baseline} alone, and {self._verdict()}; "
            f"this is about these two trained classifiers, not about another training of them."
        )


def adjust_family(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust the p values of comparisons that were made together by Holm's correction."""
    adjusted = holm([comparison.test.p for comparison in comparisons])
    return tuple(
        replace(comparison, p_adjusted=p, family=len(comparisons))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    )


def _provisional(test: PairedTest) -> str:
    found = test.difference
    total = _count(found.n + found.n_failed, test.repeats.unit)
    return f"provisionally ({found.n_failed} of {total} left out without a score), " if found.partial else ""


def _points(value: float) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _count(n: int, unit: str) -> str:
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"
