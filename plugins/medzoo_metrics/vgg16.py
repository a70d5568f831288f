"""VGG16: torch-fidelity's features for precision and recall, and LPIPS."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from medzoo.toolkit.nn.pretrained import build_lpips
from medzoo_metrics.networks import FidelityExtractor, Perceptual, build_network

LAYERS = {"features": "fc2_relu"}


class VGG16(FidelityExtractor):
    """A PerceptualExtractor."""

    def __init__(self, state: Mapping[str, Tensor], device: str) -> None:
        network = build_network(FeatureExtractorVGG16, LAYERS, state)
        network.model.load_state_dict({name: state[name] for name in network.model.state_dict()}, assign=True)
        super().__init__(network, LAYERS, device)
        self.distance = Perceptual(build_lpips("vgg", state), device)
