"""Intervals, tests and effect sizes: hand-computed and published values, SciPy's, symmetry, and error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from medzoo.errors import DataError
from medzoo.experiment.statistics import detectable_difference, estimate, holm, mcnemar_test, paired_test

ARM = [0.81, 0.84, 0.80, 0.86, 0.84]
BASELINE = [0.80, 0.80, 0.78, 0.81, 0.81]
FIVE_FOLDS, SEEDS = 20 / 80, 0.0


def test_paired_test_folds_by_hand():
    """Differences of 1, 4, 2, 5 and 3 points: mean 3, variance 2.5, and (1/5 + 20/80) x 2.5 = 1.125 below the root."""
    test = paired_test(ARM, BASELINE, overlap=FIVE_FOLDS)
    assert test.difference.mean == pytest.approx(0.03)
    assert test.difference.sd == pytest.approx(0.01 * math.sqrt(2.5))
    assert test.t == pytest.approx(3 / math.sqrt(1.125))
    # 2.776 is the 97.5% point of t with 4 degrees of freedom in any table.
    half = 0.01 * 2.7764451 * math.sqrt(1.125)
    assert (test.difference.low, test.difference.high) == pytest.approx((0.03 - half, 0.03 + half))
    # With 4 degrees of freedom the distribution has a closed form (Student 1908).
    ratio = test.t / math.sqrt(4 + test.t**2)
    assert test.p == pytest.approx(1 - (1.5 * ratio - 0.5 * ratio**3))
    assert test.effect == pytest.approx(3 / math.sqrt(2.5))
    assert test.method == "corrected resampled t-test"


def test_paired_test_repeated_k_fold():
    test = paired_test(ARM * 2, BASELINE * 2, overlap=FIVE_FOLDS)
    assert test.difference.n == 10
    # The same ten differences have variance 2.5 x 8 / 9.
    assert test.t == pytest.approx(3 / math.sqrt((1 / 10 + 1 / 4) * 20 / 9))


def test_paired_test_seeds_equals_scipy():
    test = paired_test(ARM, BASELINE, overlap=SEEDS)
    expected = stats.ttest_rel(ARM, BASELINE)
    assert (test.t, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    interval = expected.confidence_interval(0.95)
    assert (test.difference.low, test.difference.high) == pytest.approx((interval.low, interval.high))
    assert test.method == "paired t-test"


def test_paired_test_swapped_arms():
    one, other = (paired_test(*pair, overlap=FIVE_FOLDS) for pair in ((ARM, BASELINE), (BASELINE, ARM)))
    assert one.p == pytest.approx(other.p)
    assert one.t == pytest.approx(-other.t)
    assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))
    assert (one.effect_low, one.effect_high) == pytest.approx((-other.effect_high, -other.effect_low))


@pytest.mark.parametrize("overlap", [SEEDS, FIVE_FOLDS])
def test_paired_test_effect_interval_inverts_noncentral_t(overlap):
    test = paired_test(ARM, BASELINE, overlap=overlap)
    scale = math.sqrt(1 / 5 + overlap)
    assert stats.nct.sf(test.t, 4, test.effect_low / scale) == pytest.approx(0.025, abs=1e-4)
    assert stats.nct.sf(test.t, 4, test.effect_high / scale) == pytest.approx(0.975, abs=1e-4)


def test_paired_test_huge_effect():
    """Where the noncentrality dwarfs the normal's spread, its bounds are t sqrt(chi2 / df)."""
    values = [0.5, 0.5 + 1e-6, 0.5 - 1e-6]
    test = paired_test(values, [0.0] * 3)
    expected = test.effect * math.sqrt(stats.chi2.ppf(0.025, 2) / 2)
    assert test.effect_low == pytest.approx(expected, rel=0.01)


def test_detectable_difference_equals_statsmodels():
    test = paired_test(ARM, BASELINE)
    effect = TTestPower().solve_power(nobs=5, alpha=0.01, power=0.8)
    assert detectable_difference(test, alpha=0.01) == pytest.approx(effect * test.difference.sd, rel=1e-3)


def test_detectable_difference_has_its_power():
    random = np.random.default_rng(0)
    test = paired_test(ARM, BASELINE)
    true = detectable_difference(test, alpha=0.05)
    samples = random.normal(true, test.difference.sd, (20_000, 5))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_paired_test_failed_cells():
    test = paired_test([0.9, None, *ARM], [0.5, 0.5, *BASELINE[:4], math.nan], overlap=FIVE_FOLDS)
    assert (test.difference.n, test.difference.n_failed, test.difference.counts) == (5, 2, "5 of 7")
    alone = estimate([0.8, None, 0.9], overlap=SEEDS)
    assert (alone.mean, alone.n, alone.n_failed) == (pytest.approx(0.85), 2, 1)


def test_estimate_folds_wider_than_seeds():
    over_folds, over_seeds = (estimate(ARM, overlap=overlap) for overlap in (FIVE_FOLDS, SEEDS))
    assert over_folds.mean == over_seeds.mean == pytest.approx(0.83)
    wider = (over_folds.high - over_folds.low) / (over_seeds.high - over_seeds.low)
    assert wider == pytest.approx(math.sqrt(0.45 / 0.2))
    assert over_folds.method == "t interval over folds with corrected variance (Nadeau & Bengio 2003)"
    assert over_seeds.method == "t interval over seeds"


@pytest.mark.parametrize(
    ("values", "mean", "reason"),
    [
        ([0.8], 0.8, "there are fewer than two values"),
        ([None, None], math.nan, "there are fewer than two values"),
        ([0.1 + 0.2, 0.3, 0.3], 0.3, "the values are all equal"),
    ],
)
def test_estimate_without_interval_has_reason(values, mean, reason):
    found = estimate(values, overlap=SEEDS)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.reason == reason
    test = paired_test(values, [0.0] * len(values))
    assert test.difference.reason == reason
    assert all(math.isnan(value) for value in (test.t, test.p, test.effect, detectable_difference(test, alpha=0.05)))


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.2: times 4, 3, 2, 1, and never below the one before."""
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([]) == []


def test_holm_keeps_order_and_never_lowers():
    given = np.random.default_rng(0).uniform(0, 0.2, 20)
    adjusted = np.array(holm(given.tolist()))
    assert (adjusted >= given).all()
    assert (np.diff(adjusted[np.argsort(given)]) >= 0).all()


def test_holm_counts_undefined():
    adjusted = holm([0.01, math.nan, 0.02])
    assert adjusted == pytest.approx([0.03, math.nan, 0.04], nan_ok=True)


def answers(both, gained, lost, neither):
    """Two vectors of correctness with these counts."""
    counts = (both, gained, lost, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_test_published_example():
    """Two media for 50 sputum specimens, 12 against 2 (Armitage & Berry 1994, p. 127), exact after Liddell (1983)."""
    test = mcnemar_test(*answers(20, 12, 2, 16))
    assert (test.difference.n, test.gained, test.lost, test.method) == (50, 12, 2, "exact McNemar test")
    assert test.p == pytest.approx(0.0129, abs=5e-5)
    assert test.odds_ratio == pytest.approx(6)
    assert (test.odds_low, test.odds_high) == pytest.approx((1.335744, 55.197091), abs=1e-6)
    assert test.difference.mean == pytest.approx(0.2)
    # Bonett & Price: (13 - 3) / 52, and 1.96 times the root of (16/52 - (10/52)^2) / 52.
    half = 1.959964 * math.sqrt((16 / 52 - (10 / 52) ** 2) / 52)
    assert (test.difference.low, test.difference.high) == pytest.approx((10 / 52 - half, 10 / 52 + half))


def test_mcnemar_test_chi_squared_from_25():
    test = mcnemar_test(*answers(50, 19, 6, 25))
    assert test.p == pytest.approx(stats.chi2.sf((19 - 6 - 1) ** 2 / 25, 1))
    assert test.method == "McNemar test with continuity correction"


def test_mcnemar_test_swapped_arms_and_empty_counts():
    one, other = mcnemar_test(*answers(9, 5, 0, 3)), mcnemar_test(*answers(9, 0, 5, 3))
    assert one.p == other.p == 2 / 2**5
    assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))
    assert (one.odds_ratio, other.odds_ratio) == (math.inf, 0)
    assert one.odds_low == pytest.approx(1 / other.odds_high)
    same = mcnemar_test(*answers(9, 0, 0, 3))
    assert (same.p, same.difference.mean) == (1, 0)
    assert math.isnan(same.odds_ratio)


def resampled_differences(random, images=60, test=12, splits=15):
    """Accuracy differences of two midpoint classifiers, each on its own feature and none better, over random splits."""
    labels = np.arange(images) % 2
    features = random.normal(size=(images, 2)) + labels[:, None]
    differences = []
    for _ in range(splits):
        order = random.permutation(images)
        held, kept = order[:test], order[test:]
        ones = labels[kept] == 1
        midpoints = (features[kept][ones].mean(axis=0) + features[kept][~ones].mean(axis=0)) / 2
        right = (features[held] > midpoints) == labels[held, None]
        differences.append(right[:, 0].mean() - right[:, 1].mean())
    return differences


def test_paired_test_keeps_level_with_overlapping_training_sets():
    random = np.random.default_rng(0)
    zeros = [0.0] * 15
    found = {"plain": 0, "corrected": 0}
    for _ in range(300):
        differences = resampled_differences(random)
        found["plain"] += paired_test(differences, zeros).p < 0.05
        found["corrected"] += paired_test(differences, zeros, overlap=12 / 48).p < 0.05
    assert found["corrected"] / 300 <= 0.07
    assert found["plain"] / 300 >= 0.2


def test_statistics_invalid_input():
    with pytest.raises(DataError, match="2 values of the arm cannot be paired with 1"):
        paired_test([0.1, 0.2], [0.1])
    with pytest.raises(DataError, match="expected finite values"):
        estimate([0.1, math.inf], overlap=SEEDS)
    with pytest.raises(DataError, match="expected finite values"):
        estimate([], overlap=SEEDS)
    for arm, baseline in ((np.array([1, 0]), np.array([True, False])), (np.ones(2, bool), np.ones(3, bool))):
        with pytest.raises(DataError, match="two bool vectors of one length"):
            mcnemar_test(arm, baseline)
