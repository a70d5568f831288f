"""Structural similarity (Wang et al. 2004), between sets and within the synthetic one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medzoo import MetricSpec, Sample, Score
from medzoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
PAIRS = 200  # SSIM is slow: 20 to 40 ms per pair at 256 pixels
_WHAT = "SSIM, data range 1, Gaussian window of 11 pixels"


def ssim(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the mean SSIM, in [-1, 1], of random pairs of a real and a synthetic image.

    Raises:
        DataError: the images are too small.
    """
    from medzoo_metrics.pairs import between_sets

    return between_sets(similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def ssim_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the mean SSIM of pairs of synthetic images, lower for more varied ones; details as in `diversity`."""
    from medzoo_metrics.pairs import diversity

    return diversity(similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM (n,) of each pair. Raises: DataError for images smaller than its window."""
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = first.shape[-2:]
    if min(height, width) < WINDOW:
        raise DataError(f"SSIM needs images of at least {WINDOW} pixels a side, these are {width}x{height}")
    # A pair at a time: more leave the processor's cache, which takes twice as long at 256 pixels.
    values: list[Any] = [
        structural_similarity_index_measure(one[None], other[None], data_range=1.0)
        for one, other in zip(second, first, strict=True)
    ]
    return torch.stack(values)


SSIM = MetricSpec(
    contract=2,
    name="ssim",
    summary="structural similarity of random pairs of a real and a synthetic image",
    unit="SSIM",
    needs_pixels=True,
    baseline=True,
    build=lambda: ssim,
)

SSIM_DIVERSITY = MetricSpec(
    contract=2,
    name="ssim-diversity",
    summary="structural similarity of random pairs of synthetic images",
    unit="SSIM",
    needs_pixels=True,
    needs_labels=True,
    build=lambda: ssim_diversity,
)
