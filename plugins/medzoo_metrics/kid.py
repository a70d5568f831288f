"""Kernel distance of two sets' features (Binkowski et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch_fidelity.metric_kid import kernel_poly, mmd2

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, expect_enough, features_of

SUBSETS, SUBSET_SIZE = 100, 1000
WHOLE = 5000  # images a set up to which one kernel matrix (100 MB) serves all subsets


def kid(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbiased, so that it may be negative.

    It is the mean over seeded subsets of up to a thousand images. Raises: DataError for fewer than two images a side.
    """
    expect_enough("kid", 2, real=real, synthetic=fake)
    # Synthetic ones first, as one gives them to torch-fidelity, so that its subsets are drawn.
    one, other = (features_of("kid", sample, role).numpy() for sample, role in ((fake, FAKE), (real, REAL)))
    size = min(SUBSET_SIZE, real.size, fake.size)
    if size == real.size == fake.size:
        value, spread = float(_distance(one, other)), None
        method = "both sets whole, hence no spread"
    else:
        values = np.array(list(_subset_distances(one, other, size, seed)))
        value, spread = float(values.mean()), float(values.std())
        method = f"{SUBSETS} subsets of {size} images a side"
    return Score(
        value=value,
        spread=spread,
        spread_over="" if spread is None else "subsets",
        n_real=real.size,
        n_fake=fake.size,
        method=f"{method}, kernel (x.y / {one.shape[1]} + 1)^3, unbiased",
    )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(mmd2(kernel_poly(one, one), kernel_poly(one, other), kernel_poly(other, other)))


def _subset_distances(one: np.ndarray, other: np.ndarray, size: int, seed: int) -> Iterator[float]:
    """The distance of each of the subsets that torch-fidelity draws from the same seed, in its float32.

    Subsets overlap, so kernels are computed once and looked up, where they fit in memory.
    """
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
