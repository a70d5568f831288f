"""Multi-scale structural similarity (Wang et al. 2003), between sets and within the synthetic one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from medzoo.errors import DataError
from medzoo.protocols import Sample, Score
from medzoo_metrics.pairs import between_sets, diversity
from medzoo_metrics.ssim import PAIRS

SIDE = 176  # four halvings leave 11 pixels, the window's side
_WHAT = "MS-SSIM of five scales, data range 1, negative terms cut to 0"


def ms_ssim(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The mean MS-SSIM, in [0, 1], of random pairs of a real and a synthetic image.

    Raises: DataError for fewer than two images a side, or sides of 175 pixels or less.
    """
    return between_sets("ms-ssim", similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def ms_ssim_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The mean MS-SSIM of pairs of synthetic images, lower for more varied ones; figures as in `pairs.diversity`."""
    return diversity("ms-ssim-diversity", similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM of each pair (n,). Raises: DataError for images too small for five scales."""
    height, width = first.shape[-2:]
    if min(height, width) < SIDE:
        raise DataError(
            f"MS-SSIM needs sides over 160 pixels, {SIDE} and more, these images are {width}x{height}",
            "leave it out, or compare larger images",
        )
    # A pair at a time: more leave the processor's cache, which takes twice as long at 256 pixels.
    values: list[Any] = [
        multiscale_structural_similarity_index_measure(one[None], other[None], data_range=1.0)
        for one, other in zip(second, first, strict=True)
    ]
    return torch.stack(values)
