"""Published networks as extractors: torch-fidelity's, timm's, and LPIPS on backbones of torchvision."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from medzoo.toolkit.nn.pretrained import LITE0_DEVIATION, LITE0_MEAN, build_lpips, lite0_weights

MIN_SIDE, ENLARGED_SIDE = 32, 64
LITE0_SIDE, DINOV2_SIDE = 160, 224
_BATCH = 16  # of a network on a CPU: more images at once take longer each, as they leave its cache


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


class TimmExtractor:
    """An Extractor: a network of timm with its published weights, on images resized to `side`; `logits` if it has them.

    Images are resized by bicubic interpolation with antialiasing. Pixels in [0, 1] are standardized by `mean` and
    `deviation`, of one value or three.
    """

    def __init__(
        self,
        network: Any,
        state: Mapping[str, Tensor],
        device: str,
        *,
        side: int,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        network.load_state_dict(state, assign=True)
        network = network.requires_grad_(False).eval()
        # On a CPU, convolutions of this memory layout take half the time.
        self.network = network.to(device, memory_format=torch.channels_last)
        self.device = device
        self.side = side
        self.mean, self.deviation = (torch.tensor(values).view(1, -1, 1, 1) * 255.0 for values in (mean, deviation))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return features by layer, float32 (N, D) on the images' device, of uint8 images (N, 1 or 3, H, W)."""
        parts = [self._features(part) for part in images.split(_BATCH)]
        features = torch.cat(parts)
        layers = {"features": features.to(images.device)}
        if self.network.num_classes:
            layers["logits"] = self.network.get_classifier()(features).to(images.device)
        return layers

    def _features(self, images: Tensor) -> Tensor:
        seen = images.to(self.device).float()
        if seen.shape[-2:] != (self.side, self.side):
            seen = functional.interpolate(seen, size=(self.side, self.side), mode="bicubic", antialias=True)
        seen = (seen.clamp(0.0, 255.0) - self.mean.to(seen)) / self.deviation.to(seen)
        seen = seen.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network.forward_head(self.network.forward_features(seen), pre_logits=True)
        return features


class EfficientNetLite0(TimmExtractor):
    """An Extractor: EfficientNet-Lite0 of the asset `efficientnet-lite0-imagenet`."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        network = _without_draws("tf_efficientnet_lite0")
        statistics = {"mean": [LITE0_MEAN], "deviation": [LITE0_DEVIATION]}
        super().__init__(network, lite0_weights(state), device, side=LITE0_SIDE, **statistics)


class DINOv2(TimmExtractor):
    """An Extractor: DINOv2's ViT-S/14; its features are the class token, its position embeddings are resampled."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        from timm.models.vision_transformer import checkpoint_filter_fn

        network = _without_draws("vit_small_patch14_dinov2", img_size=DINOV2_SIDE, num_classes=0)
        fitted = checkpoint_filter_fn(dict(state), network)
        config = network.pretrained_cfg
        super().__init__(network, fitted, device, side=DINOV2_SIDE, mean=config["mean"], deviation=config["std"])


def _without_draws(name: str, **settings: Any) -> Any:
    """Create a network of timm; the global random state, from which its weights are drawn, is restored."""
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(name, **settings)
