"""Distance of two sets' grey-level histograms."""

from __future__ import annotations

import numpy as np
from scipy import stats

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, expect_enough
from medzoo_metrics.levels import LEVELS, grey_levels


def wasserstein(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The 1-Wasserstein distance of both sets' grey levels, in [0, 1]: how far a pixel's level moves on average.

    Nothing is drawn from `seed`. Raises: DataError for fewer than two images a side.
    """
    expect_enough("wasserstein", 2, real=real, synthetic=fake)
    counts = [grey_levels("wasserstein", sample, role).counts for sample, role in ((real, REAL), (fake, FAKE))]
    levels = np.linspace(0.0, 1.0, LEVELS)
    return Score(
        value=float(stats.wasserstein_distance(levels, levels, *counts)),
        n_real=real.size,
        n_fake=fake.size,
        method=f"histograms of {LEVELS} grey levels from 0 to 1 over all pixels, colour as its luma (BT.601)",
    )
