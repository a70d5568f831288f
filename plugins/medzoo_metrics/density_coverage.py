"""Density and coverage of synthetic images (Naeem et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBORS = 5
_ROWS = 1024  # whose distances to all others are held at once


def density_coverage(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the coverage of the real images, in [0, 1]; the detail "density" is that of the synthetic ones.

    Around each real image lies a ball that reaches to its fifth nearest real neighbor. Coverage is the share of balls
    that hold a synthetic image, density the mean number of balls in which a synthetic image lies, over five: on average
    1 for images distributed as the real ones, more where they crowd. The detail "expected coverage" is the average for
    as many new real images. `seed` is not used.
    """
    import torch

    from medzoo.toolkit.metric_samples import features_of

    ones, others = features_of(real).double(), features_of(fake).double()
    center = ones.mean(dim=0)  # distances by products lose digits far from 0
    ones, others = ones - center, others - center
    inside = torch.zeros(real.size, dtype=torch.float64)
    for start in range(0, real.size, _ROWS):
        rows = ones[start : start + _ROWS]
        # The nearest real image is the image itself.
        radius = torch.cdist(rows, ones).kthvalue(NEIGHBORS + 1, dim=1).values
        inside[start : start + _ROWS] = _count_within(torch.cdist(rows, others), radius)
    return Score(
        value=float((inside > 0).double().mean()),
        n_real=real.size,
        n_fake=fake.size,
        details={
            "density": float(inside.sum()) / (NEIGHBORS * fake.size),
            "expected coverage": expected_coverage(real.size, fake.size),
        },
        method=f"balls around real images that reach to real neighbor {NEIGHBORS}",
    )


def _count_within(distances: Tensor, radius: Tensor) -> Tensor:
    """Return how many of each row's `distances` (n, m) are at most its `radius` (n,)."""
    return (distances <= radius[:, None]).double().sum(dim=1)


def expected_coverage(n_real: int, n_fake: int) -> float:
    """Return the mean coverage where all images come from one distribution (Naeem et al. 2020, proposition 1).

    A ball is empty if the five images nearest to its center, of all `n_real - 1 + n_fake` others, are real.
    """
    import math

    return 1.0 - math.comb(n_real - 1, NEIGHBORS) / math.comb(n_real - 1 + n_fake, NEIGHBORS)


DENSITY_COVERAGE = MetricSpec(
    contract=2,
    name="density-coverage",
    summary="coverage of the real images, and density of the synthetic ones among them",
    unit="coverage",
    higher_is_better=True,
    needs_features=("features",),
    extractors=("efficientnet-lite0", DOMAIN),
    min_samples=NEIGHBORS + 1,
    baseline=True,
    build=lambda: density_coverage,
)
