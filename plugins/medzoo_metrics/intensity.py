"""Grey levels of two sets: least, largest, mean, standard deviation, histogram."""

from __future__ import annotations

import numpy as np

from medzoo.protocols import Histogram, Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, bootstrap_interval, expect_enough
from medzoo_metrics.levels import LEVELS, GreyLevels, grey_levels

BINS = 64


def intensity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The synthetic images' mean grey level less that of the real ones, in [-1, 1]; 0 for images as bright.

    Figures: "min", "max", "mean" and "std" over all pixels of each set. Raises: DataError for fewer than two images.
    """
    expect_enough("intensity", 2, real=real, synthetic=fake)
    levels = {role: grey_levels("intensity", sample, role) for role, sample in ((REAL, real), (FAKE, fake))}
    interval = bootstrap_interval(
        lambda one, other, axis: other.mean(axis=axis) - one.mean(axis=axis),
        levels[REAL].means,
        levels[FAKE].means,
        seed=seed,
    )
    return Score(
        value=levels[FAKE].mean - levels[REAL].mean,
        interval=interval,
        n_real=real.size,
        n_fake=fake.size,
        details={
            f"{role} {name}": value
            for role, found in levels.items()
            for name, value in (("min", found.low), ("max", found.high), ("mean", found.mean), ("std", found.std))
        },
        method="grey levels in [0, 1] of all pixels, colour as its luma (BT.601); bootstrap over images",
        histogram=Histogram(
            title="Grey levels",
            unit="grey level, 0 black, 1 white",
            edges=tuple(np.linspace(0.0, 1.0, BINS + 1).tolist()),
            shares={role: _shares(found) for role, found in levels.items()},
        ),
    )


def _shares(found: GreyLevels) -> tuple[float, ...]:
    counts = found.counts.reshape(BINS, LEVELS // BINS).sum(axis=1)
    return tuple((counts / counts.sum()).tolist())
