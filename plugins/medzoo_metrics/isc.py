"""Inception score: how sure and how varied a classifier finds images (Salimans et al. 2016)."""

from __future__ import annotations

import math

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, expect_enough, features_of

SPLITS = 10
SPLIT_SIZE = 10  # the score of n images is n at most


def isc(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The synthetic images' score, from 1 to the number of the extractor's classes.

    Figure "real": that of the real images. Raises: DataError for fewer than ten images a side.
    """
    expect_enough("isc", SPLIT_SIZE, real=real, synthetic=fake)
    (value, spread, splits), (reference, _, parts) = (
        _score(features_of("isc", sample, role, "logits"), seed) for sample, role in ((fake, FAKE), (real, REAL))
    )
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
    """Mean and standard deviation of the score over splits, and how many: ten, or fewer of at least ten images."""
    splits = min(SPLITS, len(logits) // SPLIT_SIZE)
    found = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=seed % 2**32)
    value = found[KEY_METRIC_ISC_MEAN]
    # A probability that underflows to 0 makes a term 0 * -inf.
    return (value, found[KEY_METRIC_ISC_STD], splits) if math.isfinite(value) else (math.nan, math.nan, splits)
