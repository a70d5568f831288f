"""Statistics of an experiment's scores: means with intervals, tests and effect sizes, and what may be concluded.

Scores are in [0, 1] and higher is better. The score of a failed cell is None or NaN; it is left out and counted.
Scores are repeated over seeds on one split, whose spread does not reflect other images, or over folds, whose training
sets overlap: `overlap` is test images per training image, 0 for seeds, and the variance of the mean of n scores is
(1/n + overlap) of theirs (Nadeau & Bengio 2003). Sentences give scores in points, hundredths of a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from medzoo.errors import DataError
from medzoo.storage.files import plain

CONFIDENCE = 0.95
POWER = 0.8
ALPHA = 0.05

# Differences that spread less than this are equal up to rounding: one test image of a million changes a score more.
_ROUNDING = 1e-9

# From so many discordant images on, McNemar's test is the chi-squared one instead of the exact one.
_EXACT_BELOW = 25

_NOT_SHOWN = "no difference is shown, which does not show that there is none"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of `n` values with its confidence interval; NaN if undefined, for the `reason` given.

    `sd` is the values' standard deviation (n - 1). The mean is partial if `n_failed` is not 0.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    n_failed: int
    method: str
    reason: str = ""

    @property
    def counts(self) -> str:
        """The number of values averaged: "5", or "4 of 5" where cells failed or are missing."""
        return f"{self.n} of {self.n + self.n_failed}" if self.n_failed else str(self.n)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A two-sided paired t-test of an arm against its baseline over folds or seeds.

    `difference` is the mean difference, arm minus baseline, of the pairs that did not fail. `effect` is Cohen's d_z:
    the mean over the standard deviation of the differences; its interval inverts the noncentral t distribution
    (Cumming & Finch 2001) with the test's variance factor.
    """

    overlap: float
    difference: Estimate
    t: float = math.nan
    p: float = math.nan
    effect: float = math.nan
    effect_low: float = math.nan
    effect_high: float = math.nan
    effect_method: str = "noncentral t interval of Cohen's d_z (Cumming & Finch 2001)"

    @property
    def method(self) -> str:
        """The test's name."""
        return "corrected resampled t-test" if self.overlap else "paired t-test"

    @property
    def unit(self) -> str:
        """What scores are repeated over."""
        return "fold" if self.overlap else "seed"


@dataclass(frozen=True, kw_only=True)
class McNemarTest:
    """McNemar's two-sided test of two classifiers on the same n test images, taken to be independent.

    `gained` images are right with the arm alone, `lost` with the baseline alone. `difference` is in accuracy,
    (gained - lost) / n, with the interval of Bonett & Price (2012); `odds_ratio` is gained / lost, with an exact
    conditional interval (Clopper & Pearson 1934).
    """

    difference: Estimate
    gained: int
    lost: int
    p: float
    method: str
    odds_ratio: float
    odds_low: float
    odds_high: float
    odds_method: str = "exact conditional interval (Clopper & Pearson 1934)"


def estimate(values: Sequence[float | None], *, overlap: float = 0.0) -> Estimate:
    """Estimate the mean of an arm's scores with its 95% t interval, with n - 1 degrees of freedom.

    Over folds the variance is corrected for their overlapping training sets. Fewer than two values, or equal ones, have
    no interval. Raises: DataError if there are no values, or infinite ones.
    """
    given = _numbers(values)
    kept = given[~np.isnan(given)]
    n, sd, reason, half = len(kept), math.nan, "", math.nan
    mean = float(kept.mean()) if n else math.nan
    if n < 2:
        reason = "there are fewer than two values"
    elif (sd := float(kept.std(ddof=1))) < _ROUNDING:
        sd, reason = 0.0, "the values are all equal"
    else:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd * math.sqrt(1 / n + overlap)
    return Estimate(
        mean=mean,
        low=mean - half,
        high=mean + half,
        sd=sd,
        n=n,
        n_failed=len(given) - n,
        method=f"t interval over {'folds with corrected variance (Nadeau & Bengio 2003)' if overlap else 'seeds'}",
        reason=reason,
    )


def paired_test(arm: Sequence[float | None], baseline: Sequence[float | None], *, overlap: float = 0.0) -> PairedTest:
    """Test the arm's scores against the baseline's by the corrected resampled (folds) or the paired t-test (seeds).

    t = mean / sqrt((1/n + n_test/n_train) variance), with n - 1 degrees of freedom (Nadeau & Bengio 2003; for a
    repeated k-fold, n counts all folds of all repeats: Bouckaert & Frank 2004). It is NaN for fewer than two pairs and
    for equal differences; `difference.reason` says so.
    Raises: DataError for no or infinite values, or lists of different lengths.
    """
    if len(arm) != len(baseline):
        raise DataError(f"{len(arm)} values of the arm cannot be paired with {len(baseline)} of the baseline")
    difference = estimate((_numbers(arm) - _numbers(baseline)).tolist(), overlap=overlap)
    if difference.reason:
        return PairedTest(overlap=overlap, difference=difference)
    df = difference.n - 1
    scale = math.sqrt(1 / difference.n + overlap)
    effect = difference.mean / difference.sd
    t = effect / scale
    low, high = (scale * _noncentrality(t, df, above=share) for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    p = float(2 * stats.t.sf(abs(t), df))
    return PairedTest(overlap=overlap, difference=difference, t=t, p=p, effect=effect, effect_low=low, effect_high=high)


def mcnemar_test(arm: np.ndarray, baseline: np.ndarray) -> McNemarTest:
    """Run McNemar's test on which test images the two classified correctly: bool (N,) each, in the same order.

    Exact for fewer than 25 images that only one of them got right, otherwise chi-squared with continuity correction.
    Raises: DataError for no images, other shapes, or another dtype.
    """
    if arm.dtype != bool or baseline.dtype != bool or arm.ndim != 1 or arm.shape != baseline.shape or not arm.size:
        raise DataError(
            f"McNemar's test takes two bool vectors of one length, not {arm.dtype} {arm.shape} and "
            f"{baseline.dtype} {baseline.shape}"
        )
    n, gained, lost = len(arm), int((arm & ~baseline).sum()), int((~arm & baseline).sum())
    exact = gained + lost < _EXACT_BELOW
    found = mcnemar([[0, gained], [lost, 0]], exact=exact)
    # Bonett & Price add one image to each of the two counts.
    first, second = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    odds = [math.nan] * 3
    if gained + lost:
        share = stats.binomtest(gained, gained + lost).proportion_ci(CONFIDENCE, "exact")
        shares = gained / (gained + lost), float(share.low), float(share.high)
        odds = [part / (1 - part) if part < 1 else math.inf for part in shares]
    return McNemarTest(
        difference=Estimate(
            mean=(gained - lost) / n,
            low=max(first - second - half, -1.0),
            high=min(first - second + half, 1.0),
            sd=math.nan,
            n=n,
            n_failed=0,
            method="adjusted Wald interval of paired proportions (Bonett & Price 2012)",
        ),
        gained=gained,
        lost=lost,
        p=float(found.pvalue),
        method="exact McNemar test" if exact else "McNemar test with continuity correction",
        odds_ratio=odds[0],
        odds_low=odds[1],
        odds_high=odds[2],
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of a family (Holm 1979), in the same order.

    An undefined one stays NaN and counts as 1, so that a failed cell does not make the others significant.
    """
    given = np.array(p_values, np.float64)
    adjusted = multipletests(np.where(np.isnan(given), 1.0, given), method="holm")[1] if p_values else given
    found: list[float] = np.where(np.isnan(given), np.nan, adjusted).tolist()
    return found


def detectable_difference(test: PairedTest, *, alpha: float) -> float:
    """Return the smallest true difference that the test detects with 80% power at level `alpha`, NaN if undefined.

    The observed spread is taken for the true one; the power is that of the noncentral t distribution.
    """
    if test.difference.reason:
        return math.nan
    n = test.difference.n
    limit = float(stats.t.isf(alpha / 2, n - 1))
    return _noncentrality(limit, n - 1, above=POWER) * test.difference.sd * math.sqrt(1 / n + test.overlap)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return the values as float64, NaN for failed ones."""
    given = np.array([math.nan if value is None else value for value in values], np.float64)
    if not given.size or np.isinf(given).any():
        raise DataError(f"expected finite values, got {list(values)}")
    return given


def _noncentrality(t: float, df: int, *, above: float) -> float:
    """Return the noncentrality at which a share `above` of the t distribution lies above `t`.

    A noncentral t is (Z + noncentrality) / s, with s a root mean square of df normals; the share is the mean of the
    normal tail over s, at the midpoints of equal shares. It holds for every t: SciPy's nctdtrinc does not return for
    large ones, as nearly equal differences have.
    """
    scales = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df)
    bound = 5 * abs(t) + 10
    return float(brentq(lambda center: special.ndtr(center - t * scales).mean() - above, -bound, bound))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against its baseline, with one classifier and in one metric, of which higher is better.

    `p_adjusted` is adjusted by Holm's correction over the `family` comparisons made together; `adjust_family` fills
    both. Intervals are not adjusted. McNemar's test is of accuracy, and of the classifiers of one `seed`.
    """

    arm: str
    baseline: str
    classifier: str
    metric: str
    test: PairedTest | McNemarTest
    seed: int | None = None
    p_adjusted: float | None = None
    family: int = 1

    @property
    def difference(self) -> float:
        """Arm minus baseline; NaN where no pair was left."""
        return self.test.difference.mean

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the sentence; undefined ones are null."""
        derived = {name: getattr(self, name) for name in ("difference", "shown", "detectable")}
        test = "mcnemar" if isinstance(self.test, McNemarTest) else "paired-t"
        return {
            **plain({**asdict(self), **derived, "details": self.test, "p": self.test.p}),
            "test": test,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """State in one English sentence what may be concluded and what may not."""
        if isinstance(self.test, McNemarTest):
            return self._of_images(self.test)
        return self._untested(self.test) if self.test.difference.reason else self._of_repeats(self.test)

    def _measured(self) -> str:
        """Return what was measured, the interval and the test."""
        verb = "raised" if self.difference > 0 else "lowered" if self.difference < 0 else "changed"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return (
            f"Against {self.baseline}, {self.arm} {verb} {self.metric} of {self.classifier} by "
            f"{_points(abs(self.difference))} points ({CONFIDENCE:.0%} interval {_points(self.test.difference.low)} to "
            f"{_points(self.test.difference.high)}, {self.test.method}, "
            + (f"Holm-adjusted {p} over {self.family} comparisons)" if self.family > 1 else f"{p})")
        )

    def _verdict(self) -> str:
        if self.shown:
            return f"a {'gain' if self.difference > 0 else 'loss'} is shown"
        corrected = f"no difference is shown after correction for all {self.family} comparisons"
        return corrected if self.test.p < ALPHA else _NOT_SHOWN

    def _of_repeats(self, test: PairedTest) -> str:
        found, repeats = test.difference, _count(test.difference.n, test.unit)
        failed = f"provisionally ({_failed(test)} left out without a score), " if found.n_failed else ""
        claim = (
            f" over {repeats}, which says nothing about images from other sources"
            if self.shown
            else f"; with {repeats} of this spread, only a true difference of about {_points(self.detectable)} points "
            f"or more would be detected with {POWER:.0%} power"
        )
        seeds = "; the seeds share one test set, so their spread does not reflect other test images"
        return f"{self._measured()}: {failed}{self._verdict()}{claim}{'' if test.overlap else seeds}."

    def _untested(self, test: PairedTest) -> str:
        found, unit = test.difference, test.unit
        score = f"{self.metric} of {self.classifier}"
        failed = f" ({_failed(test)} without a score)" if found.n_failed else ""
        if found.n < 2:
            had = f"Only {_count(found.n, unit)} has" if found.n else f"No {unit} has"
            return (
                f"{had} {score} with both {self.arm} and {self.baseline}{failed}: too few for a test, so nothing is "
                f"concluded."
            )
        size = _points(abs(found.mean))
        higher = f"{size} points {'higher' if found.mean > 0 else 'lower'} with {self.arm} than"
        relation = f"the same with {self.arm} and" if size == "0.0" else higher
        return (
            f"In each of {_count(found.n, unit)}{failed}, {score} is {relation} with {self.baseline}: without any "
            f"spread there is no test, so nothing is concluded."
        )

    def _of_images(self, test: McNemarTest) -> str:
        images = test.difference.n
        if not test.gained + test.lost:
            return (
                f"With {self.arm} and with {self.baseline}, {self.classifier} is right on the same images of {images}: "
                f"{_NOT_SHOWN}."
            )
        return (
            f"{self._measured()}: of {_count(images, 'image')}, {test.gained} were classified correctly with "
            f"{self.arm} alone and {test.lost} with {self.baseline} alone, and {self._verdict()}; this is about these "
            "two trained classifiers, not about another training of them."
        )


def adjust_family(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust the p values of comparisons that were made together by Holm's correction."""
    adjusted = holm([found.test.p for found in comparisons])
    return tuple(
        replace(found, p_adjusted=p, family=len(adjusted)) for found, p in zip(comparisons, adjusted, strict=True)
    )


def _failed(test: PairedTest) -> str:
    found = test.difference
    return f"{found.n_failed} of {_count(found.n + found.n_failed, test.unit)}"


def _points(value: float) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _count(n: int, unit: str) -> str:
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"
