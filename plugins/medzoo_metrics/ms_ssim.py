"""Multi-scale structural similarity (Wang et al. 2003), between sets and within the synthetic one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medzoo import MetricSpec, Sample, Score
from medzoo.errors import DataError
from medzoo_metrics.ssim import PAIRS

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 176  # four halvings leave 11 pixels, the side of the window
_WHAT = "MS-SSIM of five scales, data range 1, negative terms cut to 0"


def ms_ssim(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the mean MS-SSIM, in [0, 1], of random pairs of a real and a synthetic image.

    Raises:
        DataError: the images are too small.
    """
    from medzoo_metrics.pairs import between_sets

    return between_sets(similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def ms_ssim_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the mean MS-SSIM of pairs of synthetic images, lower for varied ones; details as in `diversity`."""
    from medzoo_metrics.pairs import diversity

    return diversity(similarity, _WHAT, real, fake, seed=seed, pairs=PAIRS)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Compute the MS-SSIM (n,) of each pair. Raises: DataError for images too small for five scales."""
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

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


MS_SSIM = MetricSpec(
    contract=2,
    name="ms-ssim",
    summary="multi-scale structural similarity of random pairs of a real and a synthetic image",
    unit="MS-SSIM",
    needs_pixels=True,
    baseline=True,
    build=lambda: ms_ssim,
)

MS_SSIM_DIVERSITY = MetricSpec(
    contract=2,
    name="ms-ssim-diversity",
    summary="multi-scale structural similarity of random pairs of synthetic images",
    unit="MS-SSIM",
    needs_pixels=True,
    needs_labels=True,
    build=lambda: ms_ssim_diversity,
)
