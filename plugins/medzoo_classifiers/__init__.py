"""Classifiers of images: study C's small network, and the networks of timm."""

from __future__ import annotations

from importlib.resources import files

from medzoo import Classifier, ClassifierSpec, ImageSpec, hookimpl
from medzoo_classifiers.settings import CNNConfig

_PRESETS = files(__name__) / "presets"


def build_cnn(config: CNNConfig, image: ImageSpec, device: str) -> Classifier:
    """A small convolutional network with fresh weights on `device`."""
    from medzoo.toolkit.classification import ImageClassifier
    from medzoo_classifiers.cnn import CNN

    body = CNN(config.network, channels=image.channels, classes=len(image.classes))
    return ImageClassifier(config, image, body, side=image.size).to(device)


@hookimpl
def register_classifiers() -> list[ClassifierSpec]:
    """Offer `cnn`."""
    return [
        ClassifierSpec(
            name="cnn",
            summary="three convolutions and three dense layers; seconds on a CPU",
            config=CNNConfig,
            presets=_PRESETS / "cnn",
            build=build_cnn,
            multi_label=True,
        ),
    ]
