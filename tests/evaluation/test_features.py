"""A classifier as an extractor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medzoo import ImageSpec
from medzoo.assets import LoadedExtractor
from medzoo.data.dataset import open_dataset
from medzoo.evaluation.features import ClassifierExtractor, Extraction, extract_all
from medzoo.evaluation.image_sets import EvaluationSet
from medzoo.runs.progress import no_progress
from medzoo.storage.files import temporary_name
from medzoo.storage.paths import features_root


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


def extracted(folder: Path, layers: tuple[str, ...] = ("features", "mirrored")) -> tuple[dict[str, torch.Tensor], int]:
    """The layers of the images by a counting classifier, and how often it was asked."""
    one, classifier = EvaluationSet("real", open_dataset(folder, log=False)), Counting()
    one.decode(Counting.image, crop="none")
    assert one.images.digest
    extractor = LoadedExtractor(
        name="counting",
        extract=ClassifierExtractor(classifier),
        preprocessing="",
        weights="",
        identity="counting 1",
        device="cpu",
    )
    job = Extraction(images=one, extractor=extractor, layers=layers)
    extract_all([job], batch_size=64, progress=no_progress)
    return one.features["counting"], len(classifier.asked)


@pytest.mark.parametrize("damage", ["flip", "cut", "no hash"])
def test_extract_all_damaged_features_are_computed_again(images: Path, damage: str, logged: list[str]) -> None:
    first, asked = extracted(images)
    assert asked == 2
    assert extracted(images)[1] == 0
    for path in features_root().iterdir():
        content = path.read_bytes()
        if damage == "flip":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "cut":
            path.write_bytes(content[:50])
        else:
            path.write_bytes(content.replace(b"sha256", b"older!"))
    temporary_name(features_root() / "x").write_bytes(b"half")
    logged.clear()
    again, asked = extracted(images)
    assert asked == 2
    assert all(torch.equal(first[layer], again[layer]) for layer in ("features", "mirrored"))
    assert len(logged) == (0 if damage == "no hash" else 2)
    assert all("is damaged" in line and line.endswith("computing it again") for line in logged)
    assert extracted(images)[1] == 0
    assert len(list(features_root().iterdir())) == 2
