"""How classifiers are trained, as settings to nest in a plugin's own. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings, TrainingSettings

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step", "warm-restarts")


@dataclass(frozen=True, kw_only=True)
class RecipeSettings(TrainingSettings):
    """One training run of a classifier: how long, by which optimiser, and which weights it ends with."""

    epochs: int = setting(50, "passes over the data", low=1)
    rate: float = setting(1e-3, "peak learning rate", low=0.0)
    warmup: int = setting(0, "steps of linear warm-up", low=0)
    schedule: str = setting("cosine", "rate after warm-up", choices=SCHEDULES)
    beta1: float = setting(0.9, "Adam's decay of the mean; SGD's momentum", low=0.0, high=1.0)
    weight_decay: float = setting(0.0, "L2 penalty (SGD, Adam), or decoupled decay (AdamW)", low=0.0)
    clip: float = setting(0.0, "largest gradient norm; 0 does not clip", low=0.0)
    ema: float = setting(0.0, "decay of averaged weights; 0 does not average", low=0.0, high=1.0)
    balanced: bool = setting(False, "draw classes equally often (inverse class frequency)")
    jitter: float = setting(0.0, "colour jitter: largest relative change of brightness and contrast", low=0.0, high=1.0)
    preview_every: int = setting(1, "epochs between measurements on the validation images", low=1)
    steps: int = setting(0, "optimiser steps in place of epochs, equal whatever the data; 0 is none", low=0)
    optimizer: str = setting("adamw", "algorithm", choices=OPTIMIZERS)
    step_epochs: int = setting(7, "step: epochs after which the rate falls", low=1)
    step_factor: float = setting(0.1, "step: what the rate is then multiplied with", low=0.0, high=1.0)
    restart_epochs: int = setting(10, "warm-restarts: epochs of the first cosine (T0)", low=1)
    restart_factor: int = setting(2, "warm-restarts: how much longer each next one is (Tmult)", low=1)
    patience: int = setting(0, "measurements without a lower validation loss, after which it ends; 0 goes on", low=0)
    best: bool = setting(True, "end with the weights of the lowest validation loss; false ends with the last")


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """How training images are varied beside `training.flip` and `training.jitter`, each image on its own."""

    vertical_flip: bool = setting(False, "turn half of the images upside down")
    rotation: float = setting(0.0, "largest rotation, degrees", low=0.0, high=180.0)
    translation: float = setting(0.0, "largest shift, share of the side", low=0.0, high=1.0)
    scale: float = setting(0.0, "largest relative change of size", low=0.0, high=0.9)
    operations: int = setting(0, "RandAugment: operations an image (N); 0 is none", low=0)
    magnitude: int = setting(9, "RandAugment: their strength (M), 0 to 30", low=0, high=30)
    mixup: float = setting(0.0, "mixup: alpha of the Beta distribution of the shares; 0 is none", low=0.0)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What training minimises: cross-entropy, or binary cross-entropy for several labels an image."""

    smoothing: float = setting(0.0, "label smoothing", low=0.0, high=0.99)
    weighted: bool = setting(False, "weigh classes by their inverse frequency (multi-label: positives by it)")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What every classifier has; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: RecipeSettings = RecipeSettings()
