"""Logistic regression on standardized features, with which metrics classify images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medzoo.errors import DataError
from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import bootstrap_interval, features_of, labels_of

FOLDS = 5
_C = 0.1
PROBE = f"logistic regression on standardized features, L2 with C = {_C}"


def fit_probe(features: np.ndarray, labels: np.ndarray, *, class_weight: str | None = None) -> Any:
    """Fit a probe to `features` (N, D) and `labels` (N,) of two classes or more: a scikit-learn pipeline.

    `class_weight`: "balanced" lets each class count alike, however many images it has.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=200, class_weight=class_weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more steps would hardly change a prediction
        return probe.fit(features.astype(np.float64), labels)


def score_classes(
    real: Sample, fake: Sample, *, fit_on: Sample, read: Sample, reference: str, method: str, seed: int
) -> Score:
    """Score the shares, by class, of the images of `read` that a probe fitted on `fit_on` assigns to their class.

    The value is the mean over the classes that both sets have. Details: the share of each class, NaN where a set has no
    image of it, and under the name `reference` the same shares of real images by probes fitted on other real images.

    Raises:
        DataError: the images of a set are all of one class, or the sets have no class in common.
    """
    of_real, of_fake = labels_of(real), labels_of(fake)
    for name, labels in (("real", of_real), ("synthetic", of_fake)):
        if len(np.unique(labels)) < 2:
            raise DataError(f"it compares classes, and all {name} images are of one", "give images of several classes")
    common = np.intersect1d(of_real, of_fake)
    if not len(common):
        raise DataError("the real and the synthetic images have no class in common", "give images of the same classes")
    labels = labels_of(read)
    probe = fit_probe(features_of(fit_on).numpy(), labels_of(fit_on), class_weight="balanced")
    correct = probe.predict(features_of(read).numpy()) == labels
    parts = [correct[labels == label].astype(np.float64) for label in common]
    shares = {int(label): float(part.mean()) for label, part in zip(common, parts, strict=True)}
    interval = None
    if min(map(len, parts)) > 1:
        interval = bootstrap_interval(
            lambda *drawn, axis: np.mean([each.mean(axis=axis) for each in drawn], axis=0), *parts, seed=seed
        )
    own = _cross_validated(real, seed=seed)
    references = {int(label): float(own[of_real == label].mean()) for label in np.unique(of_real)}
    names = {int(label): real.classes[label] for label in np.union1d(of_real, of_fake)}
    return Score(
        value=float(np.mean(list(shares.values()))),
        interval=interval,
        n_real=real.size,
        n_fake=fake.size,
        details={
            **{name: shares.get(label, float("nan")) for label, name in names.items()},
            reference: float(np.mean([references[label] for label in shares])),
            **{f"{reference}: {name}": references.get(label, float("nan")) for label, name in names.items()},
        },
        method=f"{method} ({PROBE}), mean over {len(common)} classes; {reference}: {FOLDS}-fold cross-validation; "
        "bootstrap over images within classes",
    )


def _cross_validated(sample: Sample, *, seed: int) -> np.ndarray:
    """Return whether a probe fitted on the other folds classifies each image as its label says, bool (N,)."""
    features, labels = features_of(sample).numpy(), labels_of(sample)
    correct = np.zeros(sample.size, bool)
    folds = StratifiedKFold(min(FOLDS, int(np.bincount(labels).max())), shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer images than there are folds
        splits = list(folds.split(features, labels))
    for known, held_out in splits:
        if len(np.unique(labels[known])) > 1:
            probe = fit_probe(features[known], labels[known], class_weight="balanced")
            correct[held_out] = probe.predict(features[held_out]) == labels[held_out]
    return correct
