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

    epochs: int = setting(50, "passes over the data", min=1)
    learning_rate: float = setting(1e-3, "peak learning rate", min=0.0)
    warmup_steps: int = setting(0, "steps of linear warm-up", min=0)
    lr_scheduler: str = setting("cosine", "rate after warm-up", choices=SCHEDULES)
    beta1: float = setting(0.9, "Adam's decay of the mean; SGD's momentum", min=0.0, max=1.0)
    weight_decay: float = setting(0.0, "L2 penalty (SGD, Adam), or decoupled decay (AdamW)", min=0.0)
    max_grad_norm: float = setting(0.0, "largest gradient norm; 0 does not clip", min=0.0)
    ema_decay: float = setting(0.0, "decay of averaged weights; 0 does not average", min=0.0, max=1.0)
    class_balanced: bool = setting(False, "draw classes equally often (inverse class frequency)")
    color_jitter: float = setting(
        0.0, "colour jitter: largest relative change of brightness and contrast", min=0.0, max=1.0
    )
    validation_epochs: int = setting(1, "epochs between measurements on the validation images", min=1)
    max_steps: int = setting(0, "optimiser steps in place of epochs, equal whatever the data; 0 is none", min=0)
    optimizer: str = setting("adamw", "algorithm", choices=OPTIMIZERS)
    lr_step_epochs: int = setting(7, "step: epochs after which the rate falls", min=1)
    lr_gamma: float = setting(0.1, "step: what the rate is then multiplied with", min=0.0, max=1.0)
    lr_restart_epochs: int = setting(10, "warm-restarts: epochs of the first cosine (T0)", min=1)
    lr_restart_mult: int = setting(2, "warm-restarts: how much longer each next one is (Tmult)", min=1)
    early_stopping_patience: int = setting(
        0, "measurements without a lower validation loss, after which it ends; 0 goes on", min=0
    )
    load_best_model_at_end: bool = setting(
        True, "end with the weights of the lowest validation loss; false ends with the last"
    )


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Random changes of each training image, beside `training.horizontal_flip` and `training.color_jitter`."""

    vertical_flip: bool = setting(False, "turn half of the images upside down")
    rotation: float = setting(0.0, "largest rotation, degrees", min=0.0, max=180.0)
    translation: float = setting(0.0, "largest shift, share of the side", min=0.0, max=1.0)
    scale: float = setting(0.0, "largest relative change of size", min=0.0, max=0.9)
    randaugment_num_ops: int = setting(0, "RandAugment: operations an image (N); 0 is none", min=0)
    randaugment_magnitude: int = setting(9, "RandAugment: their strength (M), 0 to 30", min=0, max=30)
    mixup_alpha: float = setting(0.0, "mixup: alpha of the Beta distribution of the shares; 0 is none", min=0.0)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What training minimises: cross-entropy, or binary cross-entropy for several labels an image."""

    label_smoothing: float = setting(0.0, "label smoothing", min=0.0, max=0.99)
    class_weighted: bool = setting(False, "weigh classes by their inverse frequency (multi-label: positives by it)")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What every classifier has; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: RecipeSettings = RecipeSettings()
