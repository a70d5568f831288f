"""Detection: how well a linear classifier tells real from synthetic images (Lopez-Paz & Oquab 2017, with AUC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.protocols import Metric
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    import numpy as np


def detection(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the cross-validated AUC of telling real from synthetic images: 0.5 if it cannot be done, 1 if always.

    It is the mean over five folds of a logistic regression on standardized features, fitted on the other four. Of the
    larger set, as many images as in the smaller one are drawn by `seed`. AUC on images that were not fitted falls below
    0.5 by chance only.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from medzoo.toolkit.metric_samples import features_of
    from medzoo_metrics.linear_probe import FOLDS, PROBE, fit_probe

    random = np.random.default_rng(seed)
    size = min(real.size, fake.size)
    rows = [features_of(each).numpy()[np.sort(random.permutation(each.size)[:size])] for each in (real, fake)]
    folds = np.concatenate(_assign_folds(*rows, count=FOLDS, random=random))
    features, synthetic = np.concatenate(rows), np.repeat([0, 1], size)
    areas = []
    for fold in range(FOLDS):
        held_out = folds == fold
        probe = fit_probe(features[~held_out], synthetic[~held_out])
        areas.append(roc_auc_score(synthetic[held_out], probe.decision_function(features[held_out])))
    return Score(
        value=float(np.mean(areas)),
        spread=float(np.std(areas)),
        spread_over="folds",
        n_real=real.size,
        n_fake=fake.size,
        method=f"AUC of a {PROBE}; mean over {FOLDS} stratified folds of {size} real and {size} synthetic images",
    )


def _assign_folds(*sets: np.ndarray, count: int, random: np.random.Generator) -> list[np.ndarray]:
    """Assign the rows of each set (n, D) to `count` folds, evenly and at random; equal rows of both sets share a fold.

    A copy of a real image that was fitted as synthetic would otherwise be taken for synthetic: the AUC of equal sets
    would lie below 0.5.
    """
    import numpy as np

    keys = [[row.tobytes() for row in rows] for rows in sets]
    shared = set(keys[0]).intersection(*keys[1:])
    ranks = dict(zip(sorted(shared), random.permutation(len(shared)).tolist(), strict=True))
    assigned = []
    for rows in keys:
        left = dict(ranks)  # each shared row comes first once, in the same order in every set
        order = [left.pop(key, len(ranks)) for key in rows]
        folds = np.empty(len(rows), np.int64)
        folds[np.lexsort([random.permutation(len(rows)), order])] = np.arange(len(rows)) % count
        assigned.append(folds)
    return assigned


def build() -> Metric:
    """Return the metric, and import scikit-learn before it is called, for that changes the global random state."""
    import sklearn.linear_model
    import sklearn.metrics  # noqa: F401

    return detection


DETECTION = MetricSpec(
    contract=3,
    name="detection",
    summary="cross-validated AUC of telling real from synthetic images; 0.5 = indistinguishable",
    unit="AUC",
    higher_is_better=False,
    needs_features=("features",),
    extractors=("efficientnet-lite0", DOMAIN),
    min_samples=10,
    baseline=True,
    ideal=0.5,
    build=build,
)
