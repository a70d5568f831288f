"""A plugin whose classifier learns in milliseconds: an image is of the class whose mean image is nearest."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import medzoo
from medzoo import CheckpointStore, ClassifierSpec, ImageSpec, LabeledImages, TrainingCallback
from medzoo.config import setting
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import Plugins, load_plugins

CLASSES = ("bright", "dark")
LEVELS = {"bright": 200, "dark": 60}


@dataclass(frozen=True)
class _Images:
    size: int = setting(8, "side", min=1)
    channels: int = setting(1, "channels", choices=(1, 3))
    crop: str = setting("none", "crop", choices=("none", "center"))


@dataclass(frozen=True)
class _Training:
    epochs: int = setting(3, "epochs", min=1)


@dataclass(frozen=True)
class _Prediction:
    sharpness: float = setting(10.0, "how sure it is", min=0)


@dataclass(frozen=True)
class Config:
    image: _Images = field(default_factory=_Images)
    training: _Training = field(default_factory=_Training)
    prediction: _Prediction = field(default_factory=_Prediction)


class NearestMean(nn.Module):
    def __init__(self, config: Config, image: ImageSpec) -> None:
        super().__init__()
        self.config, self.image = config, image
        self.register_buffer("means", torch.rand(len(image.classes), image.channels * image.size**2))

    def fit(
        self,
        data: LabeledImages,
        *,
        validation: LabeledImages,
        seed: int,
        callback: TrainingCallback,
        checkpoints: CheckpointStore,
    ) -> None:
        images = torch.stack([torch.from_numpy(data[i]) for i in range(len(data))]).float() / 255
        labels = torch.from_numpy(data.labels)
        state = checkpoints.load_checkpoint()
        first = int(state["step"]) + 1 if state is not None else 1
        for step in range(first, self.config.training.epochs + 1):
            self.means = torch.stack(
                [self.features(images[labels == k]).mean(dim=0) for k in range(len(self.image.classes))]
            )
            callback.on_step_end(step, self.config.training.epochs, {"loss": 1.0 / step})
            checkpoints.save_checkpoint(step, {"step": torch.tensor(step), "means": self.means})
        callback.log_metadata("fit", {"images": len(data), "validation_images": len(validation)})

    def predict(self, images: Tensor) -> Tensor:
        distances = torch.cdist(self.features(images), self.means) / self.means.shape[1] ** 0.5
        return (-self.config.prediction.sharpness * distances).softmax(dim=1)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def build(config: Config, image: ImageSpec, device: str) -> NearestMean:
    return NearestMean(config, image).to(device)


SPEC = ClassifierSpec(
    contract=2,
    name="nearest-mean",
    summary="nearest mean image",
    config=Config,
    presets=Path(__file__).parent / "tiny_presets",
    build=build,
)


@medzoo.hookimpl
def register_classifiers() -> list[ClassifierSpec]:
    return [SPEC]


def plugins_with_it() -> Plugins:
    """The installed plugins and this one."""
    return load_plugins(extra=[("nearest-mean", sys.modules[__name__])])


def make_classifier(folder: Path, *, classes: Sequence[str] = CLASSES, trained_on: Sequence[str] = ()) -> Path:
    """A folder with an untrained classifier of 8 pixels that says it was trained on these images."""
    from medzoo import config as settings

    config = settings.resolve(Config, presets=SPEC.presets)
    image = ImageSpec(size=8, channels=1, classes=tuple(classes))
    classifier = build_model(SPEC, config, image, device="cpu", seed=0)
    data: Mapping[str, object] = {"name": "test", "images": sorted(trained_on)}
    save_model(folder, classifier, spec=SPEC, config=config, data=data)
    return folder


def write_images(root: Path, counts: Mapping[str, int], *, seed: int) -> Path:
    """`root` with class folders of noise around each class's gray level, no two images alike."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.normal(LEVELS[name], 25, (12, 12)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03d}.png")
    return root
