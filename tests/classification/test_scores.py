"""Classification scores: hand-counted values, scikit-learn's, and what happens to classes the test set lacks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from medzoo.classification.scores import classification_scores, roc_points
from medzoo.errors import DataError

CLASSES = ("benign", "malignant", "normal")


def sure(predicted, count=3):
    """Probabilities (N, count) float32 that put 0.8 on the class predicted and share the rest."""
    rest = 0.2 / (count - 1)
    return np.where(np.eye(count, dtype=bool)[np.asarray(predicted)], 0.8, rest).astype(np.float32)


def drawn(seed=0, n=200, count=3):
    """Labels (n,) and probabilities (n, count) that know something of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, count, n)
    logits = random.normal(size=(n, count)) + np.eye(count)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_classification_scores_known_values():
    """Of 4 benign images 3 are right and 1 is called malignant; of 2 malignant ones 1 is right; 1 normal is right."""
    scores = classification_scores(np.array([0, 0, 0, 0, 1, 1, 2]), sure([0, 0, 0, 1, 1, 0, 2]), CLASSES)
    assert scores.n == 7
    assert scores.confusion == ((3, 1, 0), (1, 1, 0), (0, 0, 1))
    assert scores.accuracy == scores.exact_match == pytest.approx(5 / 7)
    assert scores.balanced_accuracy == scores.recall == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert scores.precision == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    benign = scores.per_class[0]
    assert (benign.name, benign.support, benign.accuracy, benign.recall) == ("benign", 4, 0.75, 0.75)
    assert benign.f1 == pytest.approx(0.75)
    # The benign images have 0.8, 0.8, 0.8 and 0.1, the others 0.1, 0.8 and 0.1; a tie counts one half.
    assert benign.auc == pytest.approx((3 * (1 + 0.5 + 1) + (0.5 + 0 + 0.5)) / 12)
    assert scores.absent == scores.one_sided == scores.unpredicted == ()


def test_classification_scores_match_scikit_learn():
    labels, probabilities = drawn()
    scores = classification_scores(labels, probabilities, CLASSES)
    predicted = probabilities.argmax(axis=1)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert scores.precision == pytest.approx(metrics.precision_score(labels, predicted, average="macro"))
    assert scores.f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert scores.auc == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(labels, predicted))


def test_classification_scores_absent_class():
    """One benign image is taken for the absent class; that costs benign's recall and nothing else."""
    scores = classification_scores(np.array([0, 0, 1, 1]), sure([0, 2, 1, 1]), CLASSES)
    normal = scores.per_class[2]
    assert normal.support == 0
    assert all(math.isnan(value) for value in (normal.accuracy, normal.precision, normal.recall, normal.f1, normal.auc))
    assert scores.absent == scores.one_sided == ("normal",)
    assert scores.balanced_accuracy == pytest.approx(0.75)
    assert scores.precision == 1.0
    assert scores.f1 == pytest.approx((2 / 3 + 1) / 2)
    assert scores.confusion == ((1, 0, 1), (0, 2, 0), (0, 0, 0))


def test_classification_scores_class_never_predicted():
    scores = classification_scores(np.array([0, 0, 1, 2]), sure([0, 0, 0, 2]), CLASSES)
    assert scores.unpredicted == ("malignant",)
    assert scores.per_class[1].precision == scores.per_class[1].f1 == 0.0
    assert scores.precision == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_classification_scores_single_class_has_no_auc():
    scores = classification_scores(np.array([1, 1]), sure([1, 0]), CLASSES)
    assert math.isnan(scores.auc)
    assert scores.one_sided == CLASSES
    assert scores.balanced_accuracy == 0.5
    assert roc_points(np.array([1, 1]), sure([1, 0]), CLASSES) == ()


MULTI_HOT = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
MULTI_PROBABILITIES = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.6, 0.7, 0.9], [0.1, 0.2, 0.3]])


def test_classification_scores_multi_label_known_values():
    scores = classification_scores(MULTI_HOT, MULTI_PROBABILITIES, CLASSES, multi_label=True)
    first, second, third = scores.per_class
    assert (first.support, first.accuracy, first.recall, first.precision) == (2, 0.75, 1.0, pytest.approx(2 / 3))
    assert first.auc == 0.75
    assert (second.accuracy, second.recall, second.precision, second.auc) == (0.75, 0.5, 1.0, 1.0)
    assert third.support == 0
    assert math.isnan(third.accuracy)
    assert scores.absent == ("normal",)
    assert scores.exact_match == 0.5
    assert (scores.accuracy, scores.recall, scores.auc) == (0.75, 0.75, 0.875)
    assert scores.balanced_accuracy == pytest.approx(((1 + 0.5) / 2 + (0.5 + 1) / 2) / 2)
    assert scores.confusion == ()


def test_classification_scores_multi_label_always_present_label():
    labels = MULTI_HOT.copy()
    labels[:, 2] = 1
    scores = classification_scores(labels, MULTI_PROBABILITIES, CLASSES, multi_label=True)
    assert (scores.absent, scores.one_sided) == ((), ("normal",))
    assert scores.per_class[2].recall == 0.25
    assert math.isnan(scores.per_class[2].auc)
    assert scores.auc == 0.875
    assert scores.balanced_accuracy == pytest.approx(0.75)


def test_to_dict_nan_is_none():
    scores = classification_scores(np.array([0, 1]), sure([0, 1]), CLASSES)
    told = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert told["per_class"][2] == {
        "name": "normal",
        "support": 0,
        "accuracy": None,
        "precision": None,
        "recall": None,
        "f1": None,
        "auc": None,
    }
    assert told["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_roc_points_limit_keeps_ends_and_area():
    labels, probabilities = drawn(n=3000)
    scores = classification_scores(labels, probabilities, CLASSES)
    curves = roc_points(labels, probabilities, CLASSES, limit=100)
    assert [curve.name for curve in curves] == list(CLASSES)
    for curve, score in zip(curves, scores.per_class, strict=True):
        false, true = np.array(curve.false_positive_rate), np.array(curve.true_positive_rate)
        assert len(false) == len(true) == 100
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        assert (np.diff(false) >= 0).all()
        assert (np.diff(true) >= 0).all()
        assert curve.auc == score.auc == pytest.approx(np.trapezoid(true, false), abs=0.005)


def test_roc_points_skips_classes_without_curve():
    curves = roc_points(MULTI_HOT, MULTI_PROBABILITIES, CLASSES, multi_label=True)
    assert [(curve.name, curve.auc) for curve in curves] == [("benign", 0.75), ("malignant", 1.0)]


@pytest.mark.parametrize(
    ("labels", "probabilities", "multi_label", "message"),
    [
        ([0, 1], [[0.8, 0.2], [math.nan, 0.5]], False, "probability of 'a' for image 1 is nan"),
        ([0, 1], [[0.8, 0.2], [-1.0, 2.0]], False, "probability of 'a' for image 1 is -1.0"),
        ([0, 1], [[0.8, 0.2], [0.1, 0.3]], False, r"image 1 add up to 0.4, not 1"),
        ([0, 2], [[0.8, 0.2], [0.5, 0.5]], False, "label 2 of image 1 is not 0 to 1"),
        ([0], [[0.8, 0.2], [0.5, 0.5]], False, r"labels have shape \(1,\), but \(2,\)"),
        ([0, 1], [[0.8, 0.1, 0.1], [0.5, 0.5, 0.0]], False, r"shape \(2, 3\), but \(images, 2\)"),
        ([0, 1], [[0.8, 0.2], [0.5, 0.5]], True, r"labels have shape \(2,\), but \(2, 2\)"),
        ([[0, 1], [1, 3]], [[0.8, 0.2], [0.5, 0.5]], True, "label 3 of image 1 is not 0 or 1"),
        ([], np.empty((0, 2)), False, "no images"),
    ],
)
def test_classification_scores_invalid_input_raises(labels, probabilities, multi_label, message):
    for score in (classification_scores, roc_points):
        with pytest.raises(DataError, match=message):
            score(np.array(labels), np.array(probabilities), ("a", "b"), multi_label=multi_label)
