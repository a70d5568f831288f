"""Logistic regression on standardized features, with which metrics classify images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_C = 0.1
PENALTY = f"a logistic regression (L2, C = {_C}) on standardized features"


def fit_probe(features: np.ndarray, labels: np.ndarray, *, class_weight: str | None = None) -> Any:
    """Fit a probe to `features` (N, D) and `labels` (N,) of two classes or more: a scikit-learn pipeline.

    `class_weight`: "balanced" lets each class count alike, however many images it has.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=200, class_weight=class_weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few more steps would not change a prediction
        return probe.fit(features.astype(np.float64), labels)
