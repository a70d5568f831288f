"""Statistics of reading studies, held to published worked examples and to independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medzoo.study.statistics import (
    CROSSED,
    Estimate,
    Scores,
    chance_p,
    cohen,
    difference,
    discriminability,
    discriminability_of_pairs,
    equivalence,
    fleiss,
    fleiss_of_table,
    means,
    of_reader,
    over_readers,
    proportion,
    roc_areas,
)

# Hanley & McNeil (1982), Radiology 143:29-36, table 1: 109 CT images by rating 1..5.
CT_NORMAL = np.repeat([1, 2, 3, 4, 5], [33, 6, 6, 11, 2])[None]
CT_ABNORMAL = np.repeat([1, 2, 3, 4, 5], [3, 2, 2, 11, 33])[None]


def test_roc_areas_published_example() -> None:
    # Stata's manual of `roctab`, on these data: area 0.8932, standard error of DeLong et al. 0.0307, 95% interval
    # 0.83295 to 0.95339. Hanley & McNeil state the area as 0.893.
    found = of_reader(roc_areas(CT_ABNORMAL, CT_NORMAL), 0)
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert found.se == pytest.approx(0.0307, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((0.83295, 0.95339), abs=1e-5)


def test_roc_areas_are_scikit_learns_and_covary_as_by_the_jackknife() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=(1, 70))
    ratings = np.rint(shared + random.normal(size=(3, 70))) + np.r_[np.ones(30), np.zeros(40)]
    truth = np.r_[np.ones(30), np.zeros(40)]
    found = roc_areas(ratings[:, :30], ratings[:, 30:])
    assert found.values == pytest.approx([roc_auc_score(truth, own) for own in ratings])
    # The delete-one jackknife, stratified by truth, is equal up to (m - 1) / m: Arvesen (1969).
    left_out = [
        np.array([roc_auc_score(np.delete(truth, k), np.delete(own, k)) for own in ratings]) for k in range(len(truth))
    ]
    expected = sum(
        (len(part) - 1) ** 2 / len(part) * np.cov(np.array(part).T) * 1.0 for part in (left_out[:30], left_out[30:])
    )
    assert found.covariance == pytest.approx(expected, rel=1e-6)


def test_over_readers_published_example() -> None:
    # Van Dyke et al. (1993), spin-echo MRI, five readers: areas and Cov2 as the toolbox of Smith & Hillis (MRMCaov 0.2)
    # prints them, and what it finds "based only on the data for each one": MS(R) 0.0030826, mean 0.89704, standard
    # error 0.033071, 12.588 degrees of freedom, 95% interval 0.82535 to 0.96872.
    areas = np.array([0.91965, 0.85878, 0.90386, 0.97311, 0.82979])
    assert areas.var(ddof=1) == pytest.approx(0.0030826, rel=2e-4)
    covariance = np.full((5, 5), 0.00047718)
    found = over_readers(Scores(values=areas, covariance=covariance, n=114))
    assert found.value == pytest.approx(0.89704, abs=1e-5)
    assert found.se == pytest.approx(0.033071, abs=2e-6)
    assert found.df == pytest.approx(12.588, abs=2e-3)
    assert (found.low, found.high) == pytest.approx((0.82535, 0.96872), abs=2e-5)
    assert found.method == CROSSED


def test_over_readers_of_one_reader_and_of_equal_ones() -> None:
    one = roc_areas(CT_ABNORMAL, CT_NORMAL)
    assert over_readers(one) == of_reader(one, 0)
    twins = over_readers(roc_areas(np.repeat(CT_ABNORMAL, 2, axis=0), np.repeat(CT_NORMAL, 2, axis=0)))
    assert twins.se == pytest.approx(of_reader(one, 0).se)  # a second reader with the same answers adds nothing
    perfect = of_reader(roc_areas(np.full((1, 5), 6), np.full((1, 5), 1)), 0)
    assert perfect.value == 1
    assert math.isnan(perfect.low)
    assert "leaves no spread" in perfect.reason


def test_means_error_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=(1, 40))
    assert of_reader(means(values), 0).se == pytest.approx(values.std(ddof=1) / math.sqrt(40))


def test_proportion_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I, Clopper-Pearson: 81 of 263, 0.2527 to 0.3676.
    found = proportion(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    # Clopper-Pearson of 0 of 20: 0 to 1 - 0.025^(1/20).
    assert (proportion(0, 20).low, proportion(0, 20).high) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def test_chance_p_published_example() -> None:
    # Fisher (1935): the lady tasting tea, had she judged 8 cups independently: 2 / 2^8 for all right, two-sided.
    assert chance_p(8, 8) == pytest.approx(2 / 256)
    assert chance_p(5, 10) == 1


def test_difference_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17:873-890, table II, method 10, contrast (a): 56/70 - 48/80 = 0.2,
    # 0.0524 to 0.3339.
    found = difference((56, 70), (48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_discriminability_published_example() -> None:
    # Macmillan & Creelman (2005), Detection Theory, chapter 1: 20 of 25 hits and 10 of 25 false alarms, d' = 1.095.
    hits, alarms = np.arange(25)[None] < 20, np.arange(25)[None] < 10
    found = discriminability(hits, alarms)
    assert found.values[0] == pytest.approx(1.095, abs=5e-4)
    # The variance of Gourevitch & Galanter (1967), with n - 1 for n.
    normal = (0.8416, 0.2533), (0.2800, 0.3863)  # z and density, from tables
    expected = 0.8 * 0.2 / (24 * normal[1][0] ** 2) + 0.4 * 0.6 / (24 * normal[1][1] ** 2)
    assert found.covariance[0, 0] == pytest.approx(expected, rel=1e-3)


def test_discriminability_extreme_rates_are_corrected() -> None:
    # Hautus (1995): (20 + 0.5) / 21 and (0 + 0.5) / 21, z = 1.981 and -1.981.
    found = discriminability(np.ones((1, 20), bool), np.zeros((1, 20), bool))
    assert found.values[0] == pytest.approx(2 * 1.981, abs=1e-3)
    assert found.covariance[0, 0] > 0


@pytest.mark.parametrize(("right", "expected"), [(76, 1.00), (60, 0.36), (92, 1.99)])
def test_discriminability_of_pairs_published_table(right: int, expected: float) -> None:
    # Hacker & Ratcliff (1979), Perception & Psychophysics 26:168-170, table 1, two alternatives.
    found = discriminability_of_pairs(np.arange(100)[None] < right)
    assert found.values[0] == pytest.approx(expected, abs=5e-3)


def test_fleiss_published_example() -> None:
    # The worked example of Fleiss' kappa that Wikipedia and statsmodels share: 10 subjects, 14 raters, kappa 0.210.
    table = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    found = fleiss_of_table(table)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.low < 0.210 < found.high


def test_fleiss_of_answers() -> None:
    answers = np.array([[0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 1]])
    assert 0.5 < fleiss(answers, 2).value < 1
    assert fleiss(answers[:2], 2).value == 1
    assert "one category" in fleiss(np.zeros((3, 6), int), 2).reason


def test_cohen_published_example() -> None:
    # Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, table 18.1: 100 subjects, kappa 0.68.
    table = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    first, second = (np.repeat(np.indices((3, 3))[k].ravel(), table.ravel()) for k in (0, 1))
    found = cohen(first, second, 3)
    assert found.value == pytest.approx(0.68, abs=5e-3)
    assert found.value == pytest.approx(cohen_kappa_score(first, second))
    assert found.low < found.value < found.high
    weighted = cohen(first, second, 3, weighted=True)
    assert weighted.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))


def test_cohen_without_spread_is_undefined() -> None:
    assert "one category" in cohen([1, 1], [1, 1], 2).reason
    assert "asked twice" in cohen([], [], 2).reason


def test_equivalence_published_example() -> None:
    # Lakens (2017), Social Psychological and Personality Science 8:355-362, on Moery & Calin-Jageman (2016): controls
    # n = 95, M = 5.25, SD = 0.95; organic food n = 89, M = 5.22, SD = 0.83; bounds d = 0.48 either way; t(182) = -3.03,
    # p = 0.001.
    se = math.sqrt(0.95**2 / 95 + 0.83**2 / 89)
    margin = 0.48 * math.sqrt((0.95**2 + 0.83**2) / 2)
    found = equivalence(Estimate(value=5.25 - 5.22, se=se, df=182), margin=margin)
    assert (0.03 - margin) / se == pytest.approx(-3.03, abs=5e-3)
    assert found.p == pytest.approx(0.001, abs=5e-4)
    assert found.shown
    assert -margin < found.low < found.high < margin


def test_equivalence_is_shown_whenever_the_interval_lies_within_the_margin() -> None:
    for value in (0.44, 0.5, 0.56, 0.58):
        found = equivalence(Estimate(value=value, se=0.03, df=20), margin=0.1, center=0.5)
        assert found.shown == (found.low > 0.4 and found.high < 0.6)


def test_equivalence_without_spread_is_not_shown() -> None:
    assert math.isnan(equivalence(Estimate(value=0.5, se=0.0), margin=0.1, center=0.5).p)
    assert not equivalence(Estimate(value=1.0, se=0.0), margin=0.1, center=0.5).shown
