"""The extractors of `medzoo_metrics`: what they are, and how each is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medzoo import Extractor, ExtractorSpec
from medzoo.protocols import PerceptualExtractor

if TYPE_CHECKING:
    from torch import Tensor

    Weights = Mapping[str, Mapping[str, Tensor]]


def build_inception(weights: Weights, device: str) -> Extractor:
    """Inception-v3."""
    from medzoo_metrics.inception import build_inception

    return build_inception(weights["inception-fid"], device)


def build_vgg16(weights: Weights, device: str) -> PerceptualExtractor:
    """VGG16 and LPIPS on it."""
    from medzoo_metrics.vgg16 import VGG16

    return VGG16(weights["vgg16-imagenet"], device)


def build_alexnet(weights: Weights, device: str) -> PerceptualExtractor:
    """LPIPS on AlexNet."""
    from medzoo_metrics.alexnet import AlexNet

    return AlexNet(weights["alexnet-imagenet"], device)


def build_pixels(weights: Weights, device: str) -> Extractor:
    """Thumbnails, made on the device that holds the images."""
    from medzoo_metrics.pixels import Pixels

    return Pixels()


_ENLARGED = "LPIPS on [-1, 1], sides below 32 pixels enlarged"

EXTRACTORS = (
    ExtractorSpec(
        contract=2,
        name="inception",
        summary="Inception-v3 of 2015 as torch-fidelity ported it",
        layers=("features", "logits"),
        preprocessing="resized to 299x299 as TensorFlow 1 does (bilinear, no antialiasing), grey repeated",
        build=build_inception,
        assets=("inception-fid",),
    ),
    ExtractorSpec(
        contract=2,
        name="vgg16",
        summary="VGG16 trained on ImageNet: the second fully connected layer; LPIPS",
        layers=("features",),
        preprocessing=f"resized to 224x224 (bilinear, no antialiasing), grey repeated; {_ENLARGED}",
        build=build_vgg16,
        assets=("vgg16-imagenet",),
        perceptual=True,
    ),
    ExtractorSpec(
        contract=2,
        name="alexnet",
        summary="AlexNet trained on ImageNet: LPIPS",
        layers=(),
        preprocessing=f"grey repeated; {_ENLARGED}",
        build=build_alexnet,
        assets=("alexnet-imagenet",),
        perceptual=True,
    ),
    ExtractorSpec(
        contract=2,
        name="pixels",
        summary="thumbnails, whose distance is one of correlation",
        layers=("features",),
        preprocessing="grey (luma BT.601), resized to 32x32 with antialiasing, less the mean, divided by the norm",
        build=build_pixels,
    ),
)
