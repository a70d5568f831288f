"""A classifier as an extractor."""

from __future__ import annotations

import torch

from medzoo import ImageSpec
from medzoo.evaluation.features import ClassifierExtractor


class Counting:
    """A classifier of two classes that counts what it is asked."""

    image = ImageSpec(size=4, channels=1, classes=("a", "b"))

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append("predict")
        bright = images.mean(dim=(1, 2, 3))
        return torch.stack([1.0 - bright, bright], dim=1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append("features")
        return images.flatten(1)


def test_classifier_extractor_computes_one_layer() -> None:
    classifier = Counting()
    layers = ClassifierExtractor(classifier)(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8))
    assert "pooled" not in layers
    assert classifier.asked == []
    torch.testing.assert_close(layers["features"], torch.ones(2, 16))
    assert classifier.asked == ["features"]


def test_classifier_extractor_logits() -> None:
    layers = ClassifierExtractor(Counting())(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8))
    torch.testing.assert_close(layers["logits"].exp(), torch.tensor([[0.0, 1.0]]), atol=1e-9, rtol=0.0)
    assert layers["logits"].isfinite().all()


def test_classifier_extractor_resizes() -> None:
    red = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 255
    features = ClassifierExtractor(Counting())(red)["features"]
    torch.testing.assert_close(features, torch.full((1, 16), 0.299))
