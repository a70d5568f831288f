"""How much of the images is edge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, batches_of, bootstrap_interval, expect_enough, grey

THRESHOLD = 0.05


def edge_density(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The synthetic images' share of edge pixels over that of the real ones: below 1 they are smoother; NaN over 0.

    A pixel is on an edge where grey levels in [0, 1] rise by more than 0.05 a pixel. Figures: both shares.
    Raises: DataError for fewer than two images a side.
    """
    expect_enough("edge-density", 2, real=real, synthetic=fake)
    shares = {
        role: torch.cat([edge_shares(grey(batch)) for batch in batches_of("edge-density", sample, role)]).numpy()
        for role, sample in ((REAL, real), (FAKE, fake))
    }
    means = {role: float(values.mean()) for role, values in shares.items()}
    defined = means[REAL] > 0
    return Score(
        value=means[FAKE] / means[REAL] if defined else float("nan"),
        interval=bootstrap_interval(_ratio, shares[REAL], shares[FAKE], seed=seed) if defined else None,
        n_real=real.size,
        n_fake=fake.size,
        details=means,
        method=f"share of pixels whose Sobel gradient / 8 is over {THRESHOLD} a pixel, colour as its luma (BT.601); "
        "bootstrap over images",
    )


def edge_shares(images: Tensor) -> Tensor:
    """Each image's share of edge pixels (N,), float64, of grey images (N, H, W) in [0, 1]; borders are continued."""
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")
    gradient = functional.conv2d(padded, torch.stack([across, across.T])[:, None])
    return (gradient.square().sum(dim=1).sqrt() > THRESHOLD).double().mean(dim=(1, 2))


def _ratio(real: np.ndarray, fake: np.ndarray, axis: int) -> np.ndarray:
    ratio: np.ndarray = fake.mean(axis=axis) / real.mean(axis=axis)
    return ratio
