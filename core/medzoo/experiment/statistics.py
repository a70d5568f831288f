"""Statistics of an experiment's scores: means with intervals, paired tests, effect sizes, and Holm's correction.

Scores are in [0, 1] and higher is better. The score of a failed cell is None or NaN; it is left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from medzoo.errors import DataError

CONFIDENCE = 0.95
POWER = 0.8

# Differences that spread less than this are equal up to rounding: one test image of a million changes a score more.
_ROUNDING = 1e-9

# From so many discordant images on, McNemar's test is the chi-squared one instead of the exact one.
_EXACT_BELOW = 25


@dataclass(frozen=True)
class Repeats:
    """What the scores of an arm are repeated over: `folds(...)`, or `SEEDS`.

    `ratio` is test images per training image if training sets overlap, 0 if scores are independent.
    """

    unit: str
    ratio: float

    def factor(self, n: int) -> float:
        """Return the variance of the mean of `n` scores over theirs: 1/n + n_test/n_train (Nadeau & Bengio 2003)."""
        return 1 / n + self.ratio

    @property
    def test(self) -> str:
        """The name of the paired test."""
        return "corrected resampled t-test" if self.ratio else "paired t-test"


SEEDS = Repeats("seed", 0.0)
"""Trainings on one fixed split that differ by their seeds; their spread does not reflect other images."""


def folds(*, train: float, test: float) -> Repeats:
    """Describe folds of `train` and `test` real images on average, also of repeated k-fold or random resampling.

    Average several seeds of a fold first: they share its test images. Raises: DataError unless both are above 0.
    """
    if not (train > 0 and test > 0):
        raise DataError(f"folds of {train} training and {test} test images cannot be compared")
    return Repeats("fold", test / train)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of `n` values with its confidence interval; NaN if undefined, for the `reason` given.

    `sd` is the values' standard deviation (n - 1). The mean is `partial` if `n_failed` is not 0.
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
    def partial(self) -> bool:
        """Whether failed cells were left out."""
        return self.n_failed > 0


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A two-sided paired t-test of an arm against its baseline over folds or seeds.

    `difference` is the mean difference, arm minus baseline, of the pairs that did not fail. `effect` is Cohen's d_z:
    the mean over the standard deviation of the differences; its interval inverts the noncentral t distribution
    (Cumming & Finch 2001) with the test's variance factor.
    """

    repeats: Repeats
    difference: Estimate
    t: float
    p: float
    effect: float
    effect_low: float
    effect_high: float
    effect_method: str = "noncentral t interval of Cohen's d_z (Cumming & Finch 2001)"

    @property
    def method(self) -> str:
        """The test's name."""
        return self.repeats.test


@dataclass(frozen=True, kw_only=True)
class McNemarTest:
    """McNemar's two-sided test of two classifiers on the same `n` test images, taken to be independent.

    `gained` images are right with the arm alone, `lost` with the baseline alone. `difference` is in accuracy,
    (gained - lost) / n; `odds_ratio` is gained / lost. The interval of the difference is Bonett & Price's (2012), that
    of the odds ratio exact and conditional (Clopper & Pearson 1934).
    """

    n: int
    gained: int
    lost: int
    p: float
    method: str
    difference: float
    low: float
    high: float
    odds_ratio: float
    odds_low: float
    odds_high: float
    difference_method: str = "adjusted Wald interval of paired proportions (Bonett & Price 2012)"
    odds_method: str = "exact conditional interval (Clopper & Pearson 1934)"


def estimate(values: Sequence[float | None], *, repeats: Repeats) -> Estimate:
    """Estimate the mean of an arm's scores with its 95% t interval, with n - 1 degrees of freedom.

    Over folds the variance is corrected for their overlapping training sets. Fewer than two values, or equal ones, have
    no interval. Raises: DataError if there are no values, or infinite ones.
    """
    given = _numbers(values)
    kept = given[~np.isnan(given)]
    n = len(kept)
    reason = ""
    sd = float(kept.std(ddof=1)) if n > 1 else math.nan
    if n < 2:
        reason = "there are fewer than two values"
    elif sd < _ROUNDING:
        sd, reason = 0.0, "the values are all equal"
    mean = float(kept.mean()) if n else math.nan
    half = math.nan if reason else float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd * math.sqrt(repeats.factor(n))
    corrected = " with corrected variance (Nadeau & Bengio 2003)" if repeats.ratio else ""
    return Estimate(
        mean=mean,
        low=mean - half,
        high=mean + half,
        sd=sd,
        n=n,
        n_failed=len(given) - n,
        method=f"t interval over {repeats.unit}s{corrected}",
        reason=reason,
    )


def paired_test(
    arm: Sequence[float | None], baseline: Sequence[float | None], *, repeats: Repeats = SEEDS
) -> PairedTest:
    """Test the arm's scores against the baseline's by the corrected resampled (folds) or the paired t-test (seeds).

    t = mean / sqrt((1/n + n_test/n_train) variance), with n - 1 degrees of freedom (Nadeau & Bengio 2003; for a
    repeated k-fold, n counts all folds of all repeats: Bouckaert & Frank 2004). It is NaN for fewer than two pairs and
    for equal differences; `difference.reason` says so.
    Raises: DataError for no or infinite values, or lists of different lengths.
    """
    if len(arm) != len(baseline):
        raise DataError(f"{len(arm)} values of the arm cannot be paired with {len(baseline)} of the baseline")
    difference = estimate((_numbers(arm) - _numbers(baseline)).tolist(), repeats=repeats)
    if difference.reason:
        nan = math.nan
        return PairedTest(
            repeats=repeats, difference=difference, t=nan, p=nan, effect=nan, effect_low=nan, effect_high=nan
        )
    df = difference.n - 1
    scale = math.sqrt(repeats.factor(difference.n))
    effect = difference.mean / difference.sd
    t = effect / scale
    low, high = (scale * _noncentrality(t, df, above=share) for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    p = float(2 * stats.t.sf(abs(t), df))
    return PairedTest(repeats=repeats, difference=difference, t=t, p=p, effect=effect, effect_low=low, effect_high=high)


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
    odds = odds_low = odds_high = math.nan
    if gained + lost:
        share = stats.binomtest(gained, gained + lost).proportion_ci(CONFIDENCE, "exact")
        odds, odds_low, odds_high = map(_odds, (gained / (gained + lost), float(share.low), float(share.high)))
    return McNemarTest(
        n=n,
        gained=gained,
        lost=lost,
        p=float(found.pvalue),
        method="exact McNemar test" if exact else "McNemar test with continuity correction",
        difference=(gained - lost) / n,
        low=max(first - second - half, -1.0),
        high=min(first - second + half, 1.0),
        odds_ratio=odds,
        odds_low=odds_low,
        odds_high=odds_high,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of a family (Holm 1979), in the same order.

    An undefined one stays NaN and counts as 1, so that a failed cell does not make the others significant.
    """
    if not p_values:
        return []
    given = np.array(p_values, np.float64)
    adjusted = multipletests(np.where(np.isnan(given), 1.0, given), method="holm")[1]
    return [float(value) for value in np.where(np.isnan(given), np.nan, adjusted)]


def detectable_difference(test: PairedTest, *, alpha: float) -> float:
    """Return the smallest true difference that the test detects with 80% power at level `alpha`, NaN if undefined.

    The observed spread is taken for the true one; the power is that of the noncentral t distribution.
    """
    if test.difference.reason:
        return math.nan
    n = test.difference.n
    limit = float(stats.t.isf(alpha / 2, n - 1))
    return _noncentrality(limit, n - 1, above=POWER) * test.difference.sd * math.sqrt(test.repeats.factor(n))


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
    scales = _scales(df)
    bound = 5 * abs(t) + 10
    return float(brentq(lambda center: special.ndtr(center - t * scales).mean() - above, -bound, bound))


@lru_cache(maxsize=32)
def _scales(df: int) -> np.ndarray:
    """Return the root mean square of `df` normals at the midpoints of equal shares, float64 (2000,)."""
    return np.asarray(np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df))


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf
