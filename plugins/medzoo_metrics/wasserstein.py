"""Distance of two sets' gray-level histograms."""

from __future__ import annotations

from medzoo import MetricSpec, Sample, Score


def wasserstein(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the 1-Wasserstein distance of both sets' gray levels, in [0, 1]: the mean shift of a pixel's level.

    `seed` is not used.
    """
    import numpy as np
    from scipy import stats

    from medzoo_metrics.levels import LEVELS, gray_levels

    counts = [gray_levels(sample).counts for sample in (real, fake)]
    levels = np.linspace(0.0, 1.0, LEVELS)
    return Score(
        value=float(stats.wasserstein_distance(levels, levels, *counts)),
        n_real=real.size,
        n_fake=fake.size,
        method=f"histograms of {LEVELS} gray levels from 0 to 1 over all pixels, color as its luma (BT.601)",
    )


WASSERSTEIN = MetricSpec(
    contract=2,
    name="wasserstein",
    summary="Wasserstein distance between gray-level histograms",
    unit="gray levels, 0 to 1",
    higher_is_better=False,
    needs_pixels=True,
    baseline=True,
    symmetric=True,
    build=lambda: wasserstein,
)
