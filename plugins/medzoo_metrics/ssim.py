"""Structural similarity (Wang et al. 2004), between sets and within the synthetic one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from medzoo.errors import DataError
from medzoo.protocols import Sample, Score
from medzoo_metrics.pairs import between_sets, diversity

WINDOW = 11
PAIRS = 200  # SSIM is slow: 20 to 40 ms a pair at 256 pixels
_WHAT = "SSIM, data range 1, Gaussian window of 11 pixels"


def ssim(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The mean SSIM, in [-1, 1], of random pairs of a real and a synthetic image.

    Raises: DataError for fewer than two images a side, or images below 11 pixels.
    """
    return between_sets("ssim", similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def ssim_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The mean SSIM of pairs of synthetic images, lower for more varied ones; figures as in `pairs.diversity`."""
    return diversity("ssim-diversity", similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each pair (n,). Raises: DataError for images smaller than its window."""
    if min(first.shape[-2:]) < WINDOW:
        raise DataError(f"SSIM needs images of at least {WINDOW} pixels a side, these are {_size(first)}")
    # A pair at a time: more leave the processor's cache, which takes twice as long at 256 pixels.
    values: list[Any] = [
        structural_similarity_index_measure(one[None], other[None], data_range=1.0)
        for one, other in zip(second, first, strict=True)
    ]
    return torch.stack(values)


def _size(images: Tensor) -> str:
    height, width = images.shape[-2:]
    return f"{width}x{height}"
