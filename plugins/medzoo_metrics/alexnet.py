"""AlexNet: LPIPS alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from medzoo.toolkit.nn.pretrained import build_lpips
from medzoo_metrics.networks import Perceptual


class AlexNet:
    """A PerceptualExtractor without layers."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        self.distance = Perceptual(build_lpips("alex", state), device)

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return no features."""
        return {}
