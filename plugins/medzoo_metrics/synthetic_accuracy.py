"""Classification accuracy of a classifier trained on synthetic images alone (CAS, Ravuri & Vinyals 2019)."""

from __future__ import annotations

from medzoo import MetricSpec, Sample, Score
from medzoo.protocols import Metric
from medzoo.specs import DOMAIN


def synthetic_accuracy(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the balanced accuracy on the real images of a classifier that was trained on the synthetic ones alone.

    Details: the recall of each class, NaN where either set lacks it, and "trained on real images", what the same
    classifier reaches where it is trained on other real images. Raises: DataError for images of a single class.
    """
    from medzoo_metrics.linear_probe import score_classes

    return score_classes(
        real,
        fake,
        fit_on=fake,
        read=real,
        reference="trained on real images",
        method="recall of the real images by a classifier trained on the synthetic ones",
        seed=seed,
    )


def build() -> Metric:
    """Return the metric, and import scikit-learn before it is called, for that changes the global random state."""
    import sklearn.linear_model  # noqa: F401

    return synthetic_accuracy


SYNTHETIC_ACCURACY = MetricSpec(
    contract=3,
    name="synthetic-accuracy",
    summary="balanced accuracy on real images of a classifier trained on synthetic images alone",
    unit="balanced accuracy",
    higher_is_better=True,
    needs_labels=True,
    needs_features=("features",),
    extractors=("efficientnet-lite0", DOMAIN),
    min_samples=10,
    baseline=True,
    build=build,
)
