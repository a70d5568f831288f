"""Statistics of reading studies: ROC areas, proportions, d', agreement and equivalence, with their intervals.

A score of a reader is a mean over images, or the area under the ROC curve, which is a mean over pairs of them; its
error follows from components, one an image (DeLong et al. 1988). Readers look at the same images, so their errors
covary. The mean over readers is that of Obuchowski & Rockette (1995), readers and images both random, with the degrees
of freedom of Hillis (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa, to_table
from statsmodels.stats.proportion import confint_proportions_2indep

CONFIDENCE = 0.95
ALPHA = 0.05
_Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

# A standard error below this is of equal values, up to rounding.
_ROUNDING = 1e-9

ONE_READER = "one reader; images random"
CROSSED = "readers and images random (Obuchowski & Rockette 1995, Hillis 2014)"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95% interval, over `n` images or pairs of them; NaN where undefined, for the `reason` given.

    `se` is the standard error and `df` its degrees of freedom, infinite for a normal distribution.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    df: float = math.inf
    n: int = 0
    method: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests of whether a value lies within `margin` of `center` (Schuirmann 1987).

    `p` is the larger of the two p values, `low` and `high` the 90% interval, which lies within the margin whenever
    both tests reject at 5%.
    """

    center: float
    margin: float
    p: float
    low: float
    high: float
    reason: str = ""

    @property
    def shown(self) -> bool:
        """Whether equivalence is shown at the 5% level."""
        return self.p < ALPHA


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One score of each reader: `values` (R,), and `covariance` (R, R) of their errors over other images."""

    values: np.ndarray
    covariance: np.ndarray
    n: int


def roc_areas(synthetic: np.ndarray, real: np.ndarray) -> Scores:
    """Return each reader's area under the ROC curve with the covariance of DeLong et al. (1988).

    `synthetic` (R, m) and `real` (R, n) are ratings, higher for more surely synthetic; ties count a half. A set of a
    single image has no covariance: NaN.
    """
    wins = (synthetic[:, :, None] > real[:, None, :]) + 0.5 * (synthetic[:, :, None] == real[:, None, :])
    covariance = _covariance(wins.mean(axis=2)) + _covariance(wins.mean(axis=1))
    return Scores(values=wins.mean(axis=(1, 2)), covariance=covariance, n=synthetic.shape[1] + real.shape[1])


def means(*groups: np.ndarray) -> Scores:
    """Return for each reader the sum of the means over groups of images, each (R, n); images of a group are random.

    The second group of a difference is given negated.
    """
    values = sum((group.mean(axis=1) for group in groups), np.zeros(len(groups[0])))
    covariance = sum((_covariance(group) for group in groups), np.zeros((len(values), len(values))))
    return Scores(values=values, covariance=covariance, n=sum(group.shape[1] for group in groups))


def _covariance(components: np.ndarray) -> np.ndarray:
    """Return the covariance (R, R) of means over images from their components (R, n)."""
    count = components.shape[1]
    if count < 2:
        return np.full((len(components), len(components)), math.nan)
    return np.asarray(np.atleast_2d(np.cov(components)) / count)


def of_reader(scores: Scores, reader: int, *, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return one reader's score with a normal interval, cut at `bounds`."""
    value, se = float(scores.values[reader]), math.sqrt(max(0.0, float(scores.covariance[reader, reader])))
    return _with_interval(value, se, math.inf, scores.n, ONE_READER, bounds)


def over_readers(scores: Scores, *, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the mean over readers with its interval, readers and images both random; of one reader, `of_reader`.

    With MS the variance of the readers' scores and C the mean covariance of two readers' errors (0 if negative), the
    variance is (MS + R C) / R, with (MS + R C)^2 / (MS^2 / (R - 1)) degrees of freedom (Hillis 2014, single modality).
    """
    readers = len(scores.values)
    if readers == 1:
        return of_reader(scores, 0, bounds=bounds)
    spread = float(scores.values.var(ddof=1))
    shared = float(scores.covariance[~np.eye(readers, dtype=bool)].mean())
    total = spread + readers * max(0.0, shared)
    df = total**2 / (spread**2 / (readers - 1)) if spread > _ROUNDING**2 else math.inf
    return _with_interval(float(scores.values.mean()), math.sqrt(total / readers), df, scores.n, CROSSED, bounds)


def _with_interval(value: float, se: float, df: float, n: int, method: str, bounds: tuple[float, float]) -> Estimate:
    if not se > _ROUNDING:
        reason = (
            "too few images" if math.isnan(se) else "all answers are alike, which leaves no spread to estimate from"
        )
        return Estimate(value=value, se=se, df=df, n=n, method=method, reason=reason)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * se
    return Estimate(
        value=value,
        low=max(value - half, bounds[0]),
        high=min(value + half, bounds[1]),
        se=se,
        df=df,
        n=n,
        method=method,
    )


def proportion(count: int, n: int) -> Estimate:
    """Return a proportion with its exact binomial interval (Clopper & Pearson 1934)."""
    if not n:
        return Estimate(value=math.nan, reason="there are no images")
    share = count / n
    found = stats.binomtest(count, n).proportion_ci(CONFIDENCE, "exact")
    return Estimate(
        value=share,
        low=float(found.low),
        high=float(found.high),
        se=math.sqrt(share * (1 - share) / n),
        n=n,
        method="exact binomial interval (Clopper & Pearson 1934)",
    )


def chance_p(count: int, n: int, chance: float = 0.5) -> float:
    """Return the two-sided p value of the exact binomial test of `count` of `n` right answers against chance."""
    return float(stats.binomtest(count, n, chance).pvalue)


def two_sided_p(found: Estimate, center: float) -> float:
    """Return the two-sided p value of an estimate against `center`; NaN if it has no standard error."""
    if not found.se > _ROUNDING:
        return math.nan
    return float(2 * stats.t.sf(abs(found.value - center) / found.se, found.df))


def mann_whitney_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p value of the Mann-Whitney test of two lists of ratings; 1 if all are equal."""
    if len(np.unique(np.concatenate([first, second]))) < 2:
        return 1.0
    return float(stats.mannwhitneyu(first, second).pvalue)


def difference(first: tuple[int, int], second: tuple[int, int]) -> Estimate:
    """Return the difference of two proportions, (count, n) each, with Newcombe's (1998) interval."""
    (a, m), (b, n) = first, second
    if not (m and n):
        return Estimate(value=math.nan, reason="there are no images")
    low, high = confint_proportions_2indep(a, m, b, n, method="newcomb", compare="diff", alpha=1 - CONFIDENCE)
    p, q = a / m, b / n
    return Estimate(
        value=p - q,
        low=float(low),
        high=float(high),
        se=math.sqrt(p * (1 - p) / m + q * (1 - q) / n),
        n=m + n,
        method="hybrid score interval (Newcombe 1998)",
    )


def discriminability(synthetic: np.ndarray, real: np.ndarray) -> Scores:
    """Return each reader's d' = z(hit rate) - z(false alarm rate); bool (R, m) and (R, n), True where called synthetic.

    The error is that of Gourevitch & Galanter (1967). Where a rate of a reader is 0 or 1, both of the reader are
    (count + 0.5) / (n + 1) (Hautus 1995).
    """
    rates = np.stack([synthetic.mean(axis=1), real.mean(axis=1)])
    counts = np.array([[synthetic.shape[1]], [real.shape[1]]])
    extreme = ((rates == 0) | (rates == 1)).any(axis=0)
    rates = np.where(extreme, (rates * counts + 0.5) / (counts + 1), rates)
    z = stats.norm.ppf(rates)
    scale = 1 / stats.norm.pdf(z)
    # An extreme rate has no spread in its answers: what the corrected rate would have is put in its place.
    scaled = [scale[k][:, None] * group for k, group in enumerate((synthetic.astype(float), real.astype(float)))]
    covariance = _covariance(scaled[0]) + _covariance(scaled[1])
    own = (rates * (1 - rates) / counts * scale**2).sum(axis=0)
    np.fill_diagonal(covariance, np.where(extreme, own, covariance.diagonal()))
    return Scores(values=z[0] - z[1], covariance=covariance, n=int(counts.sum()))


def discriminability_of_pairs(correct: np.ndarray) -> Scores:
    """Return each reader's d' = sqrt(2) z(proportion correct) in two-alternative forced choice; bool (R, n).

    Source: Green & Swets (1966). Proportions of 0 and 1 are corrected as in `discriminability`.
    """
    n = correct.shape[1]
    rates = correct.mean(axis=1)
    extreme = (rates == 0) | (rates == 1)
    rates = np.where(extreme, (rates * n + 0.5) / (n + 1), rates)
    z = stats.norm.ppf(rates)
    scale = math.sqrt(2) / stats.norm.pdf(z)
    covariance = _covariance(scale[:, None] * correct)
    np.fill_diagonal(covariance, np.where(extreme, rates * (1 - rates) / n * scale**2, covariance.diagonal()))
    return Scores(values=math.sqrt(2) * z, covariance=covariance, n=n)


def equivalence(found: Estimate, *, margin: float, center: float = 0.0) -> Equivalence:
    """Test by two one-sided tests whether a value lies within `margin` of `center` (Schuirmann 1987)."""
    if not found.se > _ROUNDING:
        outside = abs(found.value - center) >= margin
        return Equivalence(
            center=center,
            margin=margin,
            p=1.0 if outside else math.nan,
            low=math.nan,
            high=math.nan,
            reason=found.reason or "all answers are alike, which leaves no spread to estimate from",
        )
    distance = found.value - center
    p = max(
        float(stats.t.sf((distance + margin) / found.se, found.df)),
        float(stats.t.cdf((distance - margin) / found.se, found.df)),
    )
    half = float(stats.t.ppf(1 - ALPHA, found.df)) * found.se
    return Equivalence(center=center, margin=margin, p=p, low=found.value - half, high=found.value + half)


def fleiss(answers: np.ndarray, categories: int) -> Estimate:
    """Return the agreement of readers beyond chance (Fleiss 1971) with a jackknife interval over images.

    `answers` are categories 0..`categories` - 1, int (R, n). NaN where all answers are of one category.
    """
    table, _ = aggregate_raters(answers.T, n_cat=categories)
    return fleiss_of_table(table)


def fleiss_of_table(table: np.ndarray) -> Estimate:
    """Return Fleiss' kappa of how many readers put an image (row) into a category (column): int (n, K)."""
    n = len(table)
    if not (table.sum(axis=0) > 0).sum() > 1:
        return Estimate(value=math.nan, n=n, reason="all answers are of one category")
    value = float(fleiss_kappa(table))
    left_out = np.array([_fleiss(np.delete(table, row, axis=0)) for row in range(n)])
    if n < 3 or np.isnan(left_out).any():
        return Estimate(value=value, n=n, reason="too few images")
    se = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    method = "Fleiss' kappa (1971); jackknife interval over images"
    return _with_interval(value, se, n - 1, n, method, (-1.0, 1.0))


def _fleiss(table: np.ndarray) -> float:
    return float(fleiss_kappa(table)) if (table.sum(axis=0) > 0).sum() > 1 else math.nan


def cohen(
    first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray, categories: int, *, weighted: bool = False
) -> Estimate:
    """Return the agreement of two lists of answers beyond chance (Cohen 1960), or with quadratic weights (1968).

    Answers are categories 0..`categories` - 1. NaN where all answers are of one category.
    """
    pairs = np.stack([np.asarray(first, np.int64), np.asarray(second, np.int64)], axis=1)
    n = len(pairs)
    if not n:
        return Estimate(value=math.nan, reason="nothing was asked twice")
    if len(np.unique(pairs)) < 2:
        return Estimate(value=math.nan, n=n, reason="all answers are of one category")
    table, _ = to_table(pairs, bins=np.arange(categories + 1) - 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):  # where one of the two gave one answer throughout
        found = cohens_kappa(table, wt="quadratic" if weighted else None)
    method = "Cohen's kappa, quadratic weights (1968)" if weighted else "Cohen's kappa (1960)"
    return _with_interval(float(found.kappa), float(found.std_kappa), math.inf, n, method, (-1.0, 1.0))
