"""SSIM (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), between sets and within the synthetic one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from medzoo import MetricSpec, Sample, Score
from medzoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
MULTI_SCALE_SIDE = 176  # four halvings leave 11 pixels, the side of the window
SCALE_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
PAIRS = 200
_SIGMA = 1.5
_STABILIZERS = (0.01**2, 0.03**2)  # of luminance and of contrast, for pixels in [0, 1]


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM (n,) of each pair. Raises: DataError for images smaller than its window."""
    height, width = first.shape[-2:]
    if min(height, width) < WINDOW:
        raise DataError(f"SSIM needs images of at least {WINDOW} pixels a side, these are {width}x{height}")
    return _pair_by_pair(lambda one, two: _similarity(one, two)[0], first, second)


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the MS-SSIM (n,) of each pair. Raises: DataError for images too small for five scales."""
    height, width = first.shape[-2:]
    if min(height, width) < MULTI_SCALE_SIDE:
        raise DataError(
            f"MS-SSIM needs images of at least {MULTI_SCALE_SIDE} pixels a side, these are {width}x{height}",
            "leave it out, or compare larger images",
        )
    return _pair_by_pair(_multi_scale, first, second)


def _pair_by_pair(measure: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Compare one pair at a time: more leave the processor's cache, which takes twice as long at 256 pixels."""
    import torch

    with torch.inference_mode():
        return torch.stack([measure(one, two) for one, two in zip(first, second, strict=True)])


def _multi_scale(first: Tensor, second: Tensor) -> Tensor:
    """Compute the MS-SSIM of two images (C, H, W), negative terms cut to 0."""
    import torch
    from torch.nn.functional import avg_pool2d

    terms = []
    for number in range(len(SCALE_EXPONENTS)):
        if number:
            first, second = avg_pool2d(first, 2), avg_pool2d(second, 2)
        terms.append(_similarity(first, second))
    contrasts = [contrast for _, contrast in terms[:-1]]
    found = torch.stack([*contrasts, terms[-1][0]]).relu()
    return (found ** torch.tensor(SCALE_EXPONENTS)).prod()


def _similarity(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the means of SSIM and of its contrast term over two images (C, H, W) in [0, 1], as torchmetrics does.

    The window is a Gaussian, over images continued by reflection; contrast leaves out where it reaches beyond them. Two
    passes of 11 weights do what one of 121 does in torchmetrics.
    """
    import torch
    from torch.nn.functional import pad

    reach = WINDOW // 2
    weights = torch.exp(-((torch.arange(-reach, reach + 1) / _SIGMA) ** 2) / 2)
    window = (weights / weights.sum()).tolist()
    both = torch.stack([first, second])
    shift = both.mean()  # variances are differences of squares: near 0 they are exact to more digits
    one, two = pad(both - shift, (reach,) * 4, mode="reflect")
    smooth = torch.stack([one, two, one * one, two * two, one * two])
    for axis in (-1, -2):
        kept = smooth.shape[axis] - 2 * reach
        total = smooth.narrow(axis, 0, kept) * window[0]
        for offset, weight in enumerate(window[1:], 1):
            total.add_(smooth.narrow(axis, offset, kept), alpha=weight)
        smooth = total
    mean_one, mean_two, square_one, square_two, product = smooth
    variance = (square_one - mean_one.square()).clamp(min=0) + (square_two - mean_two.square()).clamp(min=0)
    of_luminance, of_contrast = _STABILIZERS
    contrast = (2 * (product - mean_one * mean_two) + of_contrast) / (variance + of_contrast)
    gray_one, gray_two = mean_one + shift, mean_two + shift
    luminance = (2 * gray_one * gray_two + of_luminance) / (gray_one.square() + gray_two.square() + of_luminance)
    return (luminance * contrast).mean(), contrast[..., reach:-reach, reach:-reach].mean()


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
