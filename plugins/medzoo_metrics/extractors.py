"""The extractors of `medzoo_metrics`: their specs and builders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medzoo import Extractor, ExtractorSpec
from medzoo.protocols import PerceptualExtractor

if TYPE_CHECKING:
    from torch import Tensor

    Weights = Mapping[str, Mapping[str, Tensor]]


def build_inception(weights: Weights, device: str) -> Extractor:
    """Build Inception-v3."""
    from medzoo_metrics.networks import Inception

    return Inception(weights["inception-fid"], device)


def build_vgg16(weights: Weights, device: str) -> PerceptualExtractor:
    """Build VGG16 and LPIPS on it."""
    from medzoo_metrics.networks import VGG16

    return VGG16(weights["vgg16-imagenet"], device)


def build_alexnet(weights: Weights, device: str) -> PerceptualExtractor:
    """Build LPIPS on AlexNet."""
    from medzoo_metrics.networks import AlexNet

    return AlexNet(weights["alexnet-imagenet"], device)


def build_efficientnet_lite0(weights: Weights, device: str) -> Extractor:
    """Build EfficientNet-Lite0."""
    from medzoo_metrics.networks import EfficientNetLite0

    return EfficientNetLite0(weights["efficientnet-lite0-imagenet"], device)


def build_dinov2(weights: Weights, device: str) -> Extractor:
    """Build DINOv2's ViT-S/14."""
    from medzoo_metrics.networks import DINOv2

    return DINOv2(weights["dinov2-vits14"], device)


def build_pixels(weights: Weights, device: str) -> Extractor:
    """Build the thumbnail extractor, which runs on the device of the images."""
    from medzoo_metrics.pixels import Pixels

    return Pixels()


_ENLARGED = "LPIPS on [-1, 1], upsampled if a side is below 32 pixels"

EXTRACTORS = (
    ExtractorSpec(
        contract=2,
        name="inception",
        summary="Inception-v3 (2015), as ported by torch-fidelity",
        layers=("features", "logits"),
        preprocessing="resized to 299x299 as in TensorFlow 1 (bilinear, no antialiasing), gray repeated to RGB",
        build=build_inception,
        assets=("inception-fid",),
    ),
    ExtractorSpec(
        contract=2,
        name="efficientnet-lite0",
        summary="EfficientNet-Lite0 trained on ImageNet; needs no download",
        layers=("features", "logits"),
        preprocessing="resized to 160x160 (bicubic with antialiasing), (x - 127) / 128, gray repeated to RGB",
        build=build_efficientnet_lite0,
        assets=("efficientnet-lite0-imagenet",),
    ),
    ExtractorSpec(
        contract=2,
        name="dinov2",
        summary="DINOv2 ViT-S/14 (Oquab et al. 2023): the class token",
        layers=("features",),
        preprocessing="resized to 224x224 (bicubic with antialiasing), ImageNet's statistics, gray repeated to RGB",
        build=build_dinov2,
        assets=("dinov2-vits14",),
    ),
    ExtractorSpec(
        contract=2,
        name="vgg16",
        summary="VGG16 trained on ImageNet: second fully connected layer, and LPIPS",
        layers=("features",),
        preprocessing=f"resized to 224x224 (bilinear, no antialiasing), gray repeated to RGB; {_ENLARGED}",
        build=build_vgg16,
        assets=("vgg16-imagenet",),
        perceptual=True,
    ),
    ExtractorSpec(
        contract=2,
        name="alexnet",
        summary="AlexNet trained on ImageNet: LPIPS",
        layers=(),
        preprocessing=f"gray repeated to RGB; {_ENLARGED}",
        build=build_alexnet,
        assets=("alexnet-imagenet",),
        perceptual=True,
    ),
    ExtractorSpec(
        contract=2,
        name="pixels",
        summary="normalized thumbnails; their distance measures correlation",
        layers=("features",),
        preprocessing="gray (BT.601 luma), resized to 32x32 with antialiasing, mean subtracted, divided by the norm",
        build=build_pixels,
    ),
)
