"""The share of edge pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

THRESHOLD = 0.05


def edge_density(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the synthetic images' share of edge pixels over that of the real ones: below 1 they are smoother.

    A pixel is on an edge where gray levels in [0, 1] rise by more than 0.05 per pixel. The value is NaN if no real
    image has an edge. Details: both shares.
    """
    import torch

    from medzoo.toolkit.metric_samples import FAKE, REAL, batches_of, bootstrap_interval, grayscale

    shares = {
        role: torch.cat([edge_shares(grayscale(batch)) for batch in batches_of(sample)]).numpy()
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
        method=f"share of pixels whose Sobel gradient / 8 is over {THRESHOLD} per pixel, color as its luma (BT.601); "
        "bootstrap over images",
    )


def edge_shares(images: Tensor) -> Tensor:
    """Compute each image's share of edge pixels (N,), float64, of gray images (N, H, W) in [0, 1]."""
    import torch
    from torch.nn import functional

    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")
    gradient = functional.conv2d(padded, torch.stack([across, across.T])[:, None])
    return (gradient.square().sum(dim=1).sqrt() > THRESHOLD).double().mean(dim=(1, 2))


def _ratio(real: np.ndarray, fake: np.ndarray, axis: int) -> np.ndarray:
    ratio: np.ndarray = fake.mean(axis=axis) / real.mean(axis=axis)
    return ratio


EDGE_DENSITY = MetricSpec(
    contract=3,
    name="edge-density",
    summary="edge pixel fraction, synthetic / real",
    unit="ratio",
    needs_pixels=True,
    ideal=1.0,
    build=lambda: edge_density,
)
