"""Settings that classifiers share: dataclasses to nest in a plugin's own. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings, TrainingSettings

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step", "warm-restarts")


@dataclass(frozen=True, kw_only=True)
class RecipeSettings(TrainingSettings):
    """One training run of a classifier: its length, optimizer, learning rate, and choice of weights."""

    epochs: int = setting(50, "passes over the training images", min=1)
    learning_rate: float = setting(1e-3, "peak learning rate", min=0.0)
    warmup_steps: int = setting(0, "optimizer steps of linear warm-up", min=0)
    lr_scheduler: str = setting("cosine", "learning rate after warm-up", choices=SCHEDULES)
    beta1: float = setting(0.9, "Adam's decay of the mean; SGD's momentum", min=0.0, max=1.0)
    weight_decay: float = setting(0.0, "L2 penalty (SGD, Adam), or decoupled decay (AdamW)", min=0.0)
    max_grad_norm: float = setting(0.0, "gradient norm to clip at; 0 does not clip", min=0.0)
    ema_decay: float = setting(0.0, "decay of the averaged (EMA) weights; 0 does not average", min=0.0, max=1.0)
    class_balanced: bool = setting(False, "sample classes equally often (by inverse class frequency)")
    color_jitter: float = setting(0.0, "largest relative change of brightness and contrast", min=0.0, max=1.0)
    validation_epochs: int = setting(1, "epochs between evaluations on the validation images", min=1)
    max_steps: int = setting(0, "optimizer steps in place of epochs; 0 uses epochs", min=0)
    optimizer: str = setting("adamw", "algorithm", choices=OPTIMIZERS)
    lr_step_epochs: int = setting(7, "step: epochs between decays (StepLR step_size)", min=1)
    lr_gamma: float = setting(0.1, "step: factor of each decay (StepLR gamma)", min=0.0, max=1.0)
    lr_restart_epochs: int = setting(10, "warm-restarts: epochs of the first cosine (T_0)", min=1)
    lr_restart_mult: int = setting(2, "warm-restarts: factor by which each next one is longer (T_mult)", min=1)
    early_stopping_patience: int = setting(
        0, "evaluations without a lower validation loss before training stops; 0 never stops early", min=0
    )
    load_best_model_at_end: bool = setting(True, "keep the weights of the lowest validation loss; false keeps the last")


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Random changes of each training image, beside `training.horizontal_flip` and `training.color_jitter`."""

    vertical_flip: bool = setting(False, "flip half of the images upside down")
    rotation: float = setting(0.0, "largest rotation, degrees", min=0.0, max=180.0)
    translation: float = setting(0.0, "largest shift, share of the side", min=0.0, max=1.0)
    scale: float = setting(0.0, "largest relative change of size", min=0.0, max=0.9)
    randaugment_num_ops: int = setting(0, "RandAugment: operations per image (N); 0 is off", min=0)
    randaugment_magnitude: int = setting(9, "RandAugment: magnitude (M)", min=0, max=30)
    mixup_alpha: float = setting(0.0, "mixup: alpha of the Beta distribution; 0 is off", min=0.0)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The loss: cross-entropy, or binary cross-entropy for several labels per image."""

    label_smoothing: float = setting(0.0, "label smoothing", min=0.0, max=0.99)
    class_weighted: bool = setting(False, "weight classes by their inverse frequency (multi-label: the positives)")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """The settings of a classifier; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: RecipeSettings = RecipeSettings()
