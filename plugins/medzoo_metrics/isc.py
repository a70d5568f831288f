"""Inception score: confidence and diversity of a classifier's predictions (Salimans et al. 2016)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = 10
SPLIT_SIZE = 10  # the score of n images is n at most


def isc(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the synthetic images' score, from 1 to the number of the extractor's classes.

    The detail "real" is the score of the real images.
    """
    from medzoo.toolkit.metric_samples import features_of

    (value, spread, splits), (reference, _, parts) = (_score(features_of(s, "logits"), seed) for s in (fake, real))
    return Score(
        value=value,
        spread=spread if splits > 1 else None,
        spread_over="splits" if splits > 1 else "",
        n_real=real.size,
        n_fake=fake.size,
        details={"real": reference},
        method=f"mean over splits: {splits} of the synthetic images, {parts} of the real ones",
    )


def _score(logits: Tensor, seed: int) -> tuple[float, float, int]:
    """Return mean and standard deviation over splits, and their number: ten, or fewer of at least ten images."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    splits = min(SPLITS, len(logits) // SPLIT_SIZE)
    found = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=seed % 2**32)
    value = found[KEY_METRIC_ISC_MEAN]
    # A probability that underflows to 0 makes a term 0 * -inf.
    return (value, found[KEY_METRIC_ISC_STD], splits) if math.isfinite(value) else (math.nan, math.nan, splits)


ISC = MetricSpec(
    contract=2,
    name="isc",
    summary="Inception score: confidence and diversity of a classifier's predictions",
    unit="score",
    higher_is_better=True,
    needs_features=("logits",),
    extractors=("inception", DOMAIN),
    min_samples=SPLIT_SIZE,
    build=lambda: isc,
)
