"""How metrics read their samples, in batches, and resample images for a confidence interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo.protocols import Sample

REAL, FAKE, TRAIN = "real", "synthetic", "training"
CHUNK = 64  # images read at a time
RESAMPLES = 1000


def features_of(sample: Sample, layer: str = "features") -> Tensor:
    """Return the feature vectors of `layer`, float32 (N, D) on the CPU."""
    return sample.features[layer].detach().cpu()


def batches_of(sample: Sample) -> Iterator[Tensor]:
    """Yield the images, float32 (n, C, H, W) in [0, 1] on the CPU, in batches of `CHUNK`."""
    for start in range(0, sample.size, CHUNK):
        yield images_at(sample, range(start, min(start + CHUNK, sample.size)))


def images_at(sample: Sample, indices: range | np.ndarray) -> Tensor:
    """Return the images at `indices`, float32 (n, C, H, W) in [0, 1] on the CPU."""
    assert sample.pixels is not None, "the metric's spec asks for pixels"
    at = slice(indices.start, indices.stop) if isinstance(indices, range) else indices.tolist()
    return sample.pixels[at].detach().cpu()


def labels_of(sample: Sample) -> np.ndarray:
    """Return the labels, int64 (N,)."""
    assert sample.labels is not None, "the metric's spec asks for labels"
    return sample.labels.detach().cpu().numpy()


def grayscale(images: Tensor) -> Tensor:
    """Convert images (N, C, H, W) to gray levels (N, H, W): color to its luma (ITU-R BT.601)."""
    if images.shape[1] == 1:
        return images[:, 0]
    return torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114]))


def bootstrap_interval(statistic: Callable[..., Any], *values: np.ndarray, seed: int) -> tuple[float, float] | None:
    """Bootstrap the 95 % percentile interval of `statistic(*values, axis=)`; None if it is undefined.

    Each array of `values` is resampled along its first axis, `RESAMPLES` times.
    """
    from scipy import stats

    batch = max(1, 10**6 // max(map(len, values)))
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # some draw left nothing to divide by: None
        found = stats.bootstrap(
            values,
            statistic,
            n_resamples=RESAMPLES,
            batch=batch,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng([1, seed]),  # other draws than of pairs
        )
    low, high = map(float, found.confidence_interval)
    return (low, high) if np.isfinite([low, high]).all() else None
