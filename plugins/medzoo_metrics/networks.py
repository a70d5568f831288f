"""Published networks as extractors: torch-fidelity's, and LPIPS on the backbones that torchvision publishes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from medzoo.toolkit.nn.pretrained import build_lpips

MIN_SIDE, ENLARGED_SIDE = 32, 64


def build_network(kind: type[FeatureExtractorBase], layers: Mapping[str, str], state: Mapping[str, Tensor]) -> Any:
    """Build torch-fidelity's extractor `kind` of `layers.values()` without weights; `state` has their names and shapes.

    Its constructor unpickles a weights file and copies it over random weights, so it gets one of shapes only, on the
    meta device.
    """
    shapes = io.BytesIO()
    torch.save({name: value.to("meta") for name, value in state.items()}, shapes)
    shapes.seek(0)
    with torch.device("meta"):
        return kind(kind.__name__, list(layers.values()), feature_extractor_weights_path=shapes)


class FidelityExtractor:
    """An Extractor: torch-fidelity's `network` with `layers` under medzoo's names; it resizes images itself."""

    def __init__(self, network: nn.Module, layers: Mapping[str, str], device: str) -> None:
        self.network = network.to(device).requires_grad_(False).eval()
        self.layers = tuple(layers)
        self.device = device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return features by layer, float32 (N, D) on the images' device, of uint8 images (N, 1 or 3, H, W)."""
        vectors = self.network(images.to(self.device).expand(-1, 3, -1, -1))
        return {layer: values.to(images.device) for layer, values in zip(self.layers, vectors, strict=True)}


class Perceptual:
    """LPIPS on uint8 images, upsampled if a side is below 32, because the networks halve it five times."""

    def __init__(self, lpips: nn.Module, device: str) -> None:
        self.lpips = lpips.to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance (N,), float32 on the images' device, of pairs (N, 1 or 3, H, W)."""
        distances: Tensor = self.lpips(self._prepared(first), self._prepared(second))
        return distances.flatten().to(first.device)

    def _prepared(self, images: Tensor) -> Tensor:
        seen = images.to(self.device).float().expand(-1, 3, -1, -1) / 127.5 - 1.0
        if (side := min(seen.shape[-2:])) < MIN_SIDE:
            seen = functional.interpolate(seen, scale_factor=ENLARGED_SIDE / side, mode="bilinear")
        return seen


class Inception(FidelityExtractor):
    """An Extractor: Inception-v3 of 2015 as torch-fidelity ported it from TensorFlow."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        layers = {"features": "2048", "logits": "logits_unbiased"}
        network = build_network(FeatureExtractorInceptionV3, layers, state)
        network.load_state_dict(state, assign=True)
        super().__init__(network, layers, device)


class VGG16(FidelityExtractor):
    """A PerceptualExtractor: torch-fidelity's features for precision and recall, and LPIPS."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        layers = {"features": "fc2_relu"}
        network = build_network(FeatureExtractorVGG16, layers, state)
        network.model.load_state_dict({name: state[name] for name in network.model.state_dict()}, assign=True)
        super().__init__(network, layers, device)
        self.distance = Perceptual(build_lpips("vgg", state), device)


class AlexNet:
    """A PerceptualExtractor without layers: LPIPS alone."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        self.distance = Perceptual(build_lpips("alex", state), device)

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return no features."""
        return {}
