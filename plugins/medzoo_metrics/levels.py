"""How often each grey level occurs in a set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medzoo.protocols import Sample
from medzoo.toolkit.metric_samples import batches_of, grey

LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class GreyLevels:
    """Grey levels of a set's pixels, in [0, 1]; colour counts as its luma.

    `means` are of each image (N,). `counts[k]` pixels are nearest to k / 255.
    """

    low: float
    high: float
    mean: float
    std: float
    means: np.ndarray
    counts: np.ndarray


def grey_levels(metric: str, sample: Sample, role: str) -> GreyLevels:
    """The grey levels of all pixels of `sample`, read a few images at a time. Raises: DataError for NaN."""
    low, high, means, squares = np.inf, -np.inf, [], []
    counts = np.zeros(LEVELS, np.int64)
    for batch in batches_of(metric, sample, role):
        pixels = grey(batch).flatten(1)
        low, high = min(low, pixels.min().item()), max(high, pixels.max().item())
        means.append(pixels.double().mean(dim=1))
        squares.append(pixels.double().square().mean(dim=1))
        counts += torch.bincount((pixels * (LEVELS - 1)).round().long().flatten(), minlength=LEVELS).numpy()
    by_image = torch.cat(means).numpy()
    mean = float(by_image.mean())
    variance = max(0.0, float(torch.cat(squares).mean()) - mean**2)
    return GreyLevels(low=low, high=high, mean=mean, std=variance**0.5, means=by_image, counts=counts)
