"""Label agreement: whether synthetic images are recognized as the class they were asked for."""

from __future__ import annotations

from medzoo import MetricSpec, Sample, Score
from medzoo.protocols import Metric
from medzoo.specs import DOMAIN


def label_agreement(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the share of synthetic images that a classifier trained on the real images assigns to their class.

    It is trained on the features of the real set, for the logits of an extractor have an order of classes of their own.
    The value is the mean over classes. Details: the share of each class, NaN for a class without real images, and "real
    images", the share of those that were not trained on. Raises: DataError for images of a single class.
    """
    from medzoo_metrics.linear_probe import score_classes

    return score_classes(
        real,
        fake,
        fit_on=real,
        read=fake,
        reference="real images",
        method="share of the synthetic images assigned to their class by a classifier trained on the real ones",
        seed=seed,
    )


def build() -> Metric:
    """Return the metric, and import scikit-learn before it is called, for that changes the global random state."""
    import sklearn.linear_model  # noqa: F401

    return label_agreement


LABEL_AGREEMENT = MetricSpec(
    contract=3,
    name="label-agreement",
    summary="share of synthetic images that a classifier trained on the real ones assigns to their class",
    unit="share",
    higher_is_better=True,
    needs_labels=True,
    needs_features=("features",),
    extractors=("efficientnet-lite0", DOMAIN),
    min_samples=10,
    baseline=True,
    build=build,
)
