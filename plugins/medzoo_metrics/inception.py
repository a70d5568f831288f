"""Inception-v3 of 2015 as torch-fidelity ported it from TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from medzoo_metrics.networks import FidelityExtractor, build_network

LAYERS = {"features": "2048", "logits": "logits_unbiased"}


def build_inception(state: Mapping[str, Tensor], device: str) -> FidelityExtractor:
    """Build the extractor with the weights `state`."""
    network = build_network(FeatureExtractorInceptionV3, LAYERS, state)
    network.load_state_dict(state, assign=True)
    return FidelityExtractor(network, LAYERS, device)
