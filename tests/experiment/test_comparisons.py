"""What a comparison's sentence claims in every case, and what it leaves unclaimed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medzoo.experiment.statistics import (
    Comparison,
    adjust_family,
    detectable_difference,
    mcnemar_test,
    paired_test,
)

FIVE_FOLDS, SEEDS = 20 / 80, 0.0
REAL = [0.70, 0.71, 0.69, 0.72, 0.70]
BETTER = [0.80, 0.80, 0.79, 0.82, 0.81]
ALIKE = [0.72, 0.70, 0.71, 0.74, 0.69]


def compare(arm, baseline=REAL, overlap=FIVE_FOLDS):
    """ldm against real with a cnn, by itself."""
    return of_test(paired_test(arm, baseline, overlap=overlap))


def of_test(test, metric="balanced accuracy"):
    return Comparison(arm="ldm", baseline="real", classifier="cnn", metric=metric, test=test)


def test_sentence_gain():
    assert compare(BETTER).sentence() == (
        "Against real, ldm raised balanced accuracy of cnn by 10.0 points (95% interval 8.7 to 11.3, corrected "
        "resampled t-test, p < 0.001): a gain is shown over 5 folds, which says nothing about images from other "
        "sources."
    )


def test_sentence_loss():
    sentence = compare(REAL, BETTER).sentence()
    assert "ldm lowered balanced accuracy of cnn by 10.0 points (95% interval -11.3 to -8.7" in sentence
    assert "a loss is shown" in sentence


def test_sentence_no_significance_states_detectable_difference():
    comparison = compare(ALIKE)
    assert comparison.sentence() == (
        "Against real, ldm raised balanced accuracy of cnn by 0.8 points (95% interval -2.3 to 3.9, corrected "
        "resampled t-test, p = 0.508): no difference is shown, which does not show that there is none; with 5 folds of "
        f"this spread, only a true difference of about {100 * comparison.detectable:.1f} points or more would be "
        "detected with 80% power."
    )
    assert comparison.detectable == detectable_difference(comparison.test, alpha=0.05)


def test_adjust_family_removes_significance():
    """Alone p is 0.034; among three it is 0.102, and larger differences are needed."""
    alone = compare([0.73, 0.78, 0.71, 0.76, 0.76])
    assert alone.shown
    among = adjust_family([alone, compare(ALIKE), compare(ALIKE)])[0]
    assert among.p_adjusted == pytest.approx(3 * alone.test.p)
    assert not among.shown
    assert among.detectable > alone.detectable
    assert "Holm-adjusted p = " in among.sentence()
    assert "over 3 comparisons): no difference is shown after correction for all 3 comparisons" in among.sentence()


def test_adjust_family_keeps_order_of_failed_comparisons():
    family = adjust_family([compare([None] * 5), compare(BETTER)])
    assert math.isnan(family[0].p)
    assert not family[0].shown
    assert family[1].p == pytest.approx(2 * family[1].test.p)
    assert adjust_family([]) == ()


def test_sentence_over_seeds_limits_claim_to_test_set():
    for arm in (BETTER, ALIKE):
        sentence = compare(arm, overlap=SEEDS).sentence()
        assert "paired t-test" in sentence
        assert sentence.endswith("; the seeds share one test set, so their spread does not reflect other test images.")


@pytest.mark.parametrize(
    ("last", "verdict"), [(0.81, "a gain is shown over 4 folds"), (0.40, "no difference is shown")]
)
def test_sentence_failed_cells_are_provisional(last, verdict):
    sentence = compare([None, *BETTER[1:4], last]).sentence()
    assert f": provisionally (1 of 5 folds left out without a score), {verdict}" in sentence


@pytest.mark.parametrize(
    ("arm", "overlap", "start"),
    [
        ([0.8], FIVE_FOLDS, "Only 1 fold has {}:"),
        ([0.8, None], SEEDS, "Only 1 seed has {} (1 of 2 seeds without a score):"),
        ([None], FIVE_FOLDS, "No fold has {} (1 of 1 fold without a score):"),
    ],
)
def test_sentence_too_few_values(arm, overlap, start):
    comparison = compare(arm, REAL[: len(arm)], overlap)
    had = start.format("balanced accuracy of cnn with both ldm and real")
    assert comparison.sentence() == f"{had} too few for a test, so nothing is concluded."
    assert not comparison.shown
    assert math.isnan(comparison.detectable)


@pytest.mark.parametrize(
    ("shift", "told"),
    [
        (0.0, "the same with ldm and with real"),
        (0.02, "2.0 points higher with ldm than with real"),
        (-0.02, "2.0 points lower with ldm than with real"),
    ],
)
def test_sentence_equal_differences(shift, told):
    assert compare([value + shift for value in REAL]).sentence() == (
        f"In each of 5 folds, balanced accuracy of cnn is {told}: without any spread there is no test, so nothing is "
        "concluded."
    )


def answers(gained, lost, both=30, neither=10):
    """Which images came right with the arm and with the baseline."""
    counts = (both, gained, lost, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("gained", "lost", "verb", "verdict"),
    [
        (12, 2, "raised accuracy of cnn by 18.5 points", "a gain is shown"),
        (2, 12, "lowered accuracy of cnn by 18.5 points", "a loss is shown"),
        (
            3,
            2,
            "raised accuracy of cnn by 2.2 points",
            "no difference is shown, which does not show that there is none",
        ),
        (2, 2, "changed accuracy of cnn by 0.0 points", "no difference is shown"),
    ],
)
def test_sentence_mcnemar(gained, lost, verb, verdict):
    comparison = of_test(mcnemar_test(*answers(gained, lost)), "accuracy")
    sentence = comparison.sentence()
    assert sentence.startswith(f"Against real, ldm {verb} (95% interval ")
    total = 40 + gained + lost
    counts = f"{gained} were classified correctly with ldm alone and {lost} with real alone"
    assert f"of {total} images, {counts}, and {verdict}" in sentence
    assert sentence.endswith("; this is about these two trained classifiers, not about another training of them.")
    assert math.isnan(comparison.detectable)


def test_sentence_mcnemar_no_discordant_images():
    assert of_test(mcnemar_test(*answers(0, 0)), "accuracy").sentence() == (
        "With ldm and with real, cnn is right on the same images of 40: no difference is shown, which does not show "
        "that there is none."
    )
