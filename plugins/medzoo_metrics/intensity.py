"""Gray levels of two sets: minimum, maximum, mean, standard deviation, histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.protocols import Histogram

if TYPE_CHECKING:
    from medzoo_metrics.levels import GrayLevels

BINS = 64


def intensity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the synthetic images' mean gray level minus that of the real ones, in [-1, 1].

    Details: "min", "max", "mean" and "std" over all pixels of each set.
    """
    import numpy as np

    from medzoo.toolkit.metric_samples import FAKE, REAL, bootstrap_interval
    from medzoo_metrics.levels import gray_levels

    levels = {REAL: gray_levels(real), FAKE: gray_levels(fake)}
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
        method="gray levels in [0, 1] of all pixels, color as its luma (BT.601); bootstrap over images",
        histogram=Histogram(
            title="Gray levels",
            unit="gray level, 0 black, 1 white",
            edges=tuple(np.linspace(0.0, 1.0, BINS + 1).tolist()),
            shares={role: _shares(found) for role, found in levels.items()},
        ),
    )


def _shares(found: GrayLevels) -> tuple[float, ...]:
    from medzoo_metrics.levels import LEVELS

    counts = found.counts.reshape(BINS, LEVELS // BINS).sum(axis=1)
    return tuple((counts / counts.sum()).tolist())


INTENSITY = MetricSpec(
    contract=3,
    name="intensity",
    summary="difference in mean gray level, synthetic - real, and gray-level statistics of both sets",
    unit="gray levels, 0 to 1",
    needs_pixels=True,
    ideal=0.0,
    build=lambda: intensity,
)
