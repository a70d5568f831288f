"""Image classifiers: study C's small network, timm models, and logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from medzoo import Classifier, ClassifierSpec, ImageSpec, hookimpl

if TYPE_CHECKING:
    from medzoo_classifiers.settings import CNNConfig, FeatureConfig, FrozenConfig, TimmConfig


def build_cnn(config: CNNConfig, image: ImageSpec, device: str) -> Classifier:
    """Build a small convolutional network with fresh weights on `device`."""
    from medzoo.toolkit.classification import ImageClassifier
    from medzoo_classifiers.cnn import CNN

    body = CNN(config.network, channels=image.channels, classes=len(image.classes))
    return ImageClassifier(config, image, body, side=image.size).to(device)


def build_timm(config: TimmConfig, image: ImageSpec, device: str) -> Classifier:
    """Build a timm model with fresh weights on `device`; pretrained weights are loaded when training starts."""
    from medzoo_classifiers.timm_networks import TimmBody, classifier

    return classifier(config, image, TimmBody(config.network, image)).to(device)


def build_frozen(config: FrozenConfig, image: ImageSpec, device: str) -> Classifier:
    """Build two dense layers on a frozen timm model; its pretrained weights are loaded when training starts."""
    from medzoo_classifiers.timm_networks import FrozenBody, classifier

    return classifier(config, image, FrozenBody(config.network, image)).to(device)


def build_features(config: FeatureConfig, image: ImageSpec, device: str) -> Classifier:
    """Build a regression on the features of a frozen network, whose weights are loaded when they are first needed."""
    from medzoo_classifiers.frozen import FrozenClassifier

    return FrozenClassifier(config, image, device).to(device)


@hookimpl
def register_classifiers() -> list[ClassifierSpec]:
    """Provide study C's classifiers, study A's, and whatever timm has."""
    return [
        _spec("cnn", "three convolutional and three dense layers; the smallest (study C)", "CNNConfig", build_cnn),
        _spec("resnet18", "ResNet-18 (He et al. 2016)", "ResNet18Config", build_timm),
        _spec("swin_tiny", "Swin Transformer, tiny (Liu et al. 2021)", "SwinConfig", build_timm),
        _spec("vit_tiny", "Vision Transformer, tiny, patch size 16 (Dosovitskiy et al. 2021)", "ViTConfig", build_timm),
        _spec("convnext_tiny", "ConvNeXt, tiny (Liu et al. 2022)", "ConvNeXtConfig", build_timm),
        _spec("efficientnet_lite0", "EfficientNet-Lite0, its ImageNet weights need no Hub", "Lite0Config", build_timm),
        _spec(
            "frozen",
            "logistic regression on the features of a frozen network (ImageNet, DINOv2)",
            "FeatureConfig",
            build_features,
            converges=True,
        ),
        _spec("resnet50-frozen", "two dense layers on a frozen ResNet-50 (study C)", "FrozenConfig", build_frozen),
        _spec("timm", "any timm model: timm:NAME, or network.name=NAME", "TimmConfig", build_timm),
    ]


def _spec(
    name: str,
    summary: str,
    config: str,
    build: Callable[[Any, ImageSpec, str], Classifier],
    *,
    converges: bool = False,
) -> ClassifierSpec:
    presets = files(__name__) / "presets" / name
    return ClassifierSpec(
        contract=3,
        name=name,
        summary=summary,
        config=f"{__name__}.settings:{config}",
        presets=presets,
        build=build,
        multi_label=True,
        sample_weights=True,
        converges=converges,
    )
