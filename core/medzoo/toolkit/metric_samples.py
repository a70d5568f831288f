"""What metrics ask of the samples they are given, and how they read them: in parts, and only if all is finite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo.errors import DataError
from medzoo.protocols import Sample

REAL, FAKE, TRAIN = "real", "synthetic", "training"
CHUNK = 64  # images read at a time
RESAMPLES = 1000


def expect_enough(metric: str, least: int, **samples: Sample) -> None:
    """Nothing. Raises: DataError if one of `samples` (by role) has fewer than `least` images."""
    for role, sample in samples.items():
        if sample.size < least:
            raise DataError(f"'{metric}' needs at least {least} {role} images, there are {sample.size}")


def features_of(metric: str, sample: Sample, role: str, layer: str = "features") -> Tensor:
    """The layer's vectors (N, D), float32 on the CPU. Raises: DataError if they are not finite."""
    vectors = sample.features[layer].detach().cpu()
    _expect_finite(metric, vectors, f"{layer} of the {role} images")
    return vectors


def batches_of(metric: str, sample: Sample, role: str) -> Iterator[Tensor]:
    """The images, `CHUNK` at a time. Raises: DataError if a pixel is not finite."""
    for start in range(0, sample.size, CHUNK):
        yield images_at(metric, sample, role, range(start, min(start + CHUNK, sample.size)))


def images_at(metric: str, sample: Sample, role: str, indices: range | np.ndarray) -> Tensor:
    """The images at `indices`, float32 (n, C, H, W). Raises: DataError if a pixel is not finite."""
    assert sample.pixels is not None, "the metric's spec asks for pixels"
    at = slice(indices.start, indices.stop) if isinstance(indices, range) else indices.tolist()
    images = sample.pixels[at].detach().cpu()
    _expect_finite(metric, images, f"pixels of the {role} images")
    return images


def labels_of(sample: Sample) -> np.ndarray:
    """The labels, int64 (N,)."""
    assert sample.labels is not None, "the metric's spec asks for labels"
    return sample.labels.detach().cpu().numpy()


def grey(images: Tensor) -> Tensor:
    """Images (N, H, W): grey as they are, colour as its luma (ITU-R BT.601)."""
    if images.shape[1] == 1:
        return images[:, 0]
    return torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114]))


def bootstrap_interval(statistic: Callable[..., Any], *values: np.ndarray, seed: int) -> tuple[float, float] | None:
    """The 95 % percentile interval of `statistic(*values, axis=)`, each of `values` resampled; None if undefined."""
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


def _expect_finite(metric: str, values: Tensor, whose: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"'{metric}' cannot measure {whose}: some are NaN or infinite")
