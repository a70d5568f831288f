"""Frechet distance of two sets' features (Heusel et al. 2017, eq. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    from torch import Tensor

FEW = 2048


def fid(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the Frechet distance of Gaussians fitted to both sets' features, in float64; 0 at least, biased in n.

    `seed` is not used.
    """
    from medzoo.toolkit.metric_samples import features_of

    warnings = []
    if min(real.size, fake.size) < FEW:
        warnings.append(f"below {FEW} images FID is biased upwards: compare at equal n only, and look at KID")
    if real.size != fake.size:
        warnings.append(f"{real.size} real and {fake.size} synthetic images: its floor has equal n")
    return Score(
        value=frechet_distance(features_of(real).double(), features_of(fake).double()),
        n_real=real.size,
        n_fake=fake.size,
        method="float64, unbiased covariances",
        warnings=tuple(warnings),
    )


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Compute |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the rows' means m and covariances S.

    With the centered rows A and B of the sets, scaled so that S1 = A'A and S2 = B'B, the trace of the root is the sum
    of the singular values of A B'. torch-fidelity takes the eigenvalues of S1 S2; in 2048 dimensions, for a thousand
    images per set, the singular values take a tenth of the time, for a hundred a five-hundredth, and the distance of a
    set to itself comes out at rounding error. The triangular factors stand for A and B where there are more rows than
    columns.
    """
    import torch

    def factor(rows: Tensor) -> Tensor:
        """Return R with the covariance R'R, at most as many rows as columns."""
        centered: Tensor = (rows - rows.mean(dim=0)) / (len(rows) - 1) ** 0.5
        return torch.linalg.qr(centered, mode="r")[1] if len(rows) > rows.shape[1] else centered

    shift = first.mean(dim=0) - second.mean(dim=0)
    factors = [factor(rows) for rows in (first, second)]
    spread = sum(each.square().sum() for each in factors)
    shared = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    return float(shift.square().sum() + spread - 2.0 * shared)


FID = MetricSpec(
    contract=2,
    name="fid",
    summary="Frechet distance between the features of both sets; biased upward for few images",
    unit="distance",
    higher_is_better=False,
    needs_features=("features",),
    extractors=("efficientnet-lite0", "inception", DOMAIN),
    baseline=True,
    symmetric=True,
    build=lambda: fid,
)
