"""Frechet distance of two sets' features (Heusel et al. 2017, eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, expect_enough, features_of

FEW = 2048


def fid(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The Frechet distance of Gaussians fitted to both sets' features, in float64; as small as 0, biased in n.

    Nothing is drawn from `seed`. Raises: DataError for fewer than two images a side.
    """
    expect_enough("fid", 2, real=real, synthetic=fake)
    features = (features_of("fid", sample, role).double() for sample, role in ((real, REAL), (fake, FAKE)))
    warnings = []
    if min(real.size, fake.size) < FEW:
        warnings.append(f"below {FEW} images FID is biased upwards: compare at equal n only, and look at KID")
    if real.size != fake.size:
        warnings.append(f"{real.size} real and {fake.size} synthetic images: its floor has equal n")
    return Score(
        value=frechet_distance(*features),
        n_real=real.size,
        n_fake=fake.size,
        method="float64, unbiased covariances",
        warnings=tuple(warnings),
    )


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the rows' means m and covariances S.

    With the centred rows A and B of the sets, divided so that S1 = A'A and S2 = B'B, the trace of the root is the sum
    of the singular values of A B'. torch-fidelity takes the eigenvalues of S1 S2; in 2048 dimensions, for a thousand
    images a set, the singular values take a tenth of the time, for a hundred a five-hundredth, and a set's distance to
    itself comes out at rounding error. The triangular factors stand for A and B where there are more rows than columns.
    """
    shift = first.mean(dim=0) - second.mean(dim=0)
    factors = [_factor(rows) for rows in (first, second)]
    spread = sum(factor.square().sum() for factor in factors)
    shared = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    return float(shift.square().sum() + spread - 2.0 * shared)


def _factor(rows: Tensor) -> Tensor:
    """A matrix R with the covariance R'R, at most as many rows as columns."""
    centred: Tensor = (rows - rows.mean(dim=0)) / (len(rows) - 1) ** 0.5
    if len(rows) > rows.shape[1]:
        centred = torch.linalg.qr(centred, mode="r")[1]
    return centred
