"""SSIM (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), between sets and within the synthetic one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medzoo import MetricSpec, Sample, Score
from medzoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
MULTI_SCALE_SIDE = 176  # four halvings leave 11 pixels, the side of the window
PAIRS = 200  # SSIM is slow: 20 to 40 ms per pair at 256 pixels


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM (n,) of each pair. Raises: DataError for images smaller than its window."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = first.shape[-2:]
    if min(height, width) < WINDOW:
        raise DataError(f"SSIM needs images of at least {WINDOW} pixels a side, these are {width}x{height}")
    return _pair_by_pair(structural_similarity_index_measure, first, second)


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the MS-SSIM (n,) of each pair. Raises: DataError for images too small for five scales."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    height, width = first.shape[-2:]
    if min(height, width) < MULTI_SCALE_SIDE:
        raise DataError(
            f"MS-SSIM needs images of at least {MULTI_SCALE_SIDE} pixels a side, these are {width}x{height}",
            "leave it out, or compare larger images",
        )
    return _pair_by_pair(multiscale_structural_similarity_index_measure, first, second)


def _pair_by_pair(measure: Callable[..., Any], first: Tensor, second: Tensor) -> Tensor:
    """Compare one pair at a time: more leave the processor's cache, which takes twice as long at 256 pixels."""
    import torch

    return torch.stack([measure(two[None], one[None], data_range=1.0) for one, two in zip(first, second, strict=True)])


def _specs(
    name: str, title: str, compare: Callable[[Tensor, Tensor], Tensor], *, unit: str, method: str
) -> tuple[MetricSpec, MetricSpec]:
    """Return the specs of the similarity between the sets and within the synthetic one."""

    def similarity(real: Sample, fake: Sample, *, seed: int) -> Score:
        """Compute the mean similarity of random pairs of a real and a synthetic image. Raises: DataError."""
        from medzoo_metrics.pairs import between_sets

        return between_sets(compare, method, real, fake, seed=seed, pairs=PAIRS)

    def similarity_within(real: Sample, fake: Sample, *, seed: int) -> Score:
        """Compute the mean similarity of pairs of synthetic images, lower for varied ones; details as `diversity`."""
        from medzoo_metrics.pairs import diversity

        return diversity(compare, method, real, fake, seed=seed, pairs=PAIRS)

    between = MetricSpec(
        contract=2,
        name=name,
        summary=f"{title} of random pairs of a real and a synthetic image",
        unit=unit,
        needs_pixels=True,
        baseline=True,
        build=lambda: similarity,
    )
    within = MetricSpec(
        contract=2,
        name=f"{name}-diversity",
        summary=f"{title} of random pairs of synthetic images",
        unit=unit,
        needs_pixels=True,
        needs_labels=True,
        build=lambda: similarity_within,
    )
    return between, within


SSIM, SSIM_DIVERSITY = _specs(
    "ssim",
    "structural similarity",
    ssim,
    unit="SSIM",
    method="SSIM, data range 1, Gaussian window of 11 pixels",
)
MS_SSIM, MS_SSIM_DIVERSITY = _specs(
    "ms-ssim",
    "multi-scale structural similarity",
    ms_ssim,
    unit="MS-SSIM",
    method="MS-SSIM of five scales, data range 1, negative terms cut to 0",
)
