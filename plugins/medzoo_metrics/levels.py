"""The frequency of each gray level in a set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medzoo.protocols import Sample
from medzoo.toolkit.metric_samples import batches_of, grayscale

LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class GrayLevels:
    """Gray levels of a set's pixels, in [0, 1]; color counts as its luma.

    `means` are of each image (N,). `counts[k]` pixels are nearest to k / 255.
    """

    low: float
    high: float
    mean: float
    std: float
    means: np.ndarray
    counts: np.ndarray


def gray_levels(sample: Sample) -> GrayLevels:
    """Measure the gray levels of all pixels of `sample`, in batches."""
    low, high, means, squares = np.inf, -np.inf, [], []
    counts = np.zeros(LEVELS, np.int64)
    for batch in batches_of(sample):
        pixels = grayscale(batch).flatten(1)
        low, high = min(low, pixels.min().item()), max(high, pixels.max().item())
        means.append(pixels.double().mean(dim=1))
        squares.append(pixels.double().square().mean(dim=1))
        counts += torch.bincount((pixels * (LEVELS - 1)).round().long().flatten(), minlength=LEVELS).numpy()
    by_image = torch.cat(means).numpy()
    mean = float(by_image.mean())
    variance = max(0.0, float(torch.cat(squares).mean()) - mean**2)
    return GrayLevels(low=low, high=high, mean=mean, std=variance**0.5, means=by_image, counts=counts)
