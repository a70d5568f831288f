"""Kernel distance of two sets' features (Binkowski et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    import numpy as np

SUBSETS, SUBSET_SIZE = 100, 1000
WHOLE = 5000  # images a set up to which one kernel matrix (100 MB) serves all subsets


def kid(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Estimate the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbiased, so it may be negative.

    It is the mean over seeded subsets of up to a thousand images.
    """
    import numpy as np

    from medzoo.toolkit.metric_samples import features_of

    # Synthetic images first, as torch-fidelity takes them, so that the same subsets are drawn.
    one, other = features_of(fake).numpy(), features_of(real).numpy()
    size = min(SUBSET_SIZE, real.size, fake.size)
    if size == real.size == fake.size:
        value, spread = float(_distance(one, other)), None
        method = "both sets whole, hence no spread"
    else:
        values = np.array(list(_subset_distances(one, other, size, seed)))
        value, spread = float(values.mean()), float(values.std())
        method = f"{SUBSETS} subsets of {size} images per set"
    return Score(
        value=value,
        spread=spread,
        spread_over="" if spread is None else "subsets",
        n_real=real.size,
        n_fake=fake.size,
        method=f"{method}, kernel (x.y / {one.shape[1]} + 1)^3, unbiased",
    )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    return float(mmd2(kernel_poly(one, one), kernel_poly(one, other), kernel_poly(other, other)))


def _subset_distances(one: np.ndarray, other: np.ndarray, size: int, seed: int) -> Iterator[float]:
    """Yield the distance of each subset that torch-fidelity draws from the same seed, in its float32.

    Subsets overlap, so kernels are computed once and looked up if they fit in memory.
    """
    import numpy as np
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    random = np.random.RandomState(seed % 2**32)
    kernels = None
    if max(len(one), len(other)) <= WHOLE:
        kernels = kernel_poly(one, one), kernel_poly(one, other), kernel_poly(other, other)
    for _ in range(SUBSETS):
        rows = random.choice(len(one), size, replace=False)
        columns = random.choice(len(other), size, replace=False)
        if kernels is None:
            yield _distance(one[rows], other[columns])
        else:
            chosen = (rows, rows), (rows, columns), (columns, columns)
            yield float(mmd2(*(kernel[np.ix_(*at)] for kernel, at in zip(kernels, chosen, strict=True))))


KID = MetricSpec(
    contract=2,
    name="kid",
    summary="kernel distance between the features of both sets; unbiased, so it may be negative",
    unit="distance",
    higher_is_better=False,
    needs_features=("features",),
    extractors=("efficientnet-lite0", "inception", DOMAIN),
    baseline=True,
    build=lambda: kid,
)
