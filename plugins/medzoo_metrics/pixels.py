"""Normalized thumbnails: vectors whose distance measures correlation, without weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from medzoo.toolkit.metric_samples import grayscale

SIDE = 32
_FLAT = 1e-5  # below this norm a thumbnail is constant but for rounding


class Pixels:
    """An Extractor: gray 32x32 thumbnails, mean subtracted, normalized to length 1; a constant image is zero.

    The Euclidean distance of two is sqrt(2 (1 - r)), r being the correlation of the thumbnails.
    """

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the layer "features", float32 (N, 1024), of uint8 images (N, 1 or 3, H, W)."""
        small = functional.interpolate(
            grayscale(images.float() / 255.0)[:, None], size=(SIDE, SIDE), mode="bilinear", antialias=True
        )
        vectors = small.flatten(1)
        vectors = vectors - vectors.mean(dim=1, keepdim=True)
        norm = vectors.norm(dim=1, keepdim=True)
        return {"features": torch.where(norm < _FLAT, 0.0, vectors / norm.clamp_min(_FLAT))}
