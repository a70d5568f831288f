"""Image classifiers: a network on standardized pixels of the size it needs, its training loss and its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.errors import ConfigError, DataError
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import reproducible_kernels, to_device
from medzoo.toolkit.settings import ClassifierSettings, RecipeSettings
from medzoo.toolkit.training.augmentation import augment
from medzoo.toolkit.training.batches import Batch, loss_weights, pixels
from medzoo.toolkit.training.loop import EarlyStopping, Recipe, make_optimizer, steps_of, train
from medzoo.toolkit.validation import check_images, check_not_empty

_BATCH = 64


class Body(Protocol):
    """An `nn.Module` over standardized images, float32 (N, C, side, side), of mean 0 and deviation 1."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return class logits (N, K)."""

    def features(self, images: Tensor) -> Tensor:
        """Return the features before the last layer, (N, D)."""


class StandardizedNetwork(nn.Module):
    """`body` on images in [0, 1], resized to `side` pixels and standardized to mean 0 and standard deviation 1.

    The statistics are buffers, so that they are saved with the weights. Resizing is bilinear and antialiased.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module, *, side: int, channels: int) -> None:
        super().__init__()
        self.body: Any = body
        self.side = side
        self._frozen = False
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits (N, K) of images (N, C, H, W) in [0, 1]."""
        logits: Tensor = self.body(self._standardize(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the features before the last layer, (N, D)."""
        features: Tensor = self.body.features(self._standardize(images))
        return features

    def freeze_backbone(self, *, classes: int) -> None:
        """Train the last layer alone from now on; the body stays in evaluation mode, batch-norm statistics included.

        Raises: ConfigError if the body has no linear layer with an output for each of so many classes.
        """
        layers = [layer for layer in self.body.modules() if isinstance(layer, nn.Linear)]
        last = next((layer for layer in reversed(layers) if layer.out_features == classes), None)
        if last is None:
            raise ConfigError(
                "this network has no linear last layer to train alone", "set training.freeze_backbone=false"
            )
        self._frozen = True
        self.body.requires_grad_(False)
        last.requires_grad_(True)

    def train(self, mode: bool = True) -> StandardizedNetwork:
        """Set the mode, of the body too unless it is frozen."""
        super().train(mode)
        if self._frozen:
            self.body.eval()
        return self

    def set_statistics(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Set the mean and standard deviation of each channel, of pixels in [0, 1]."""
        for buffer, values in ((self.mean, mean), (self.deviation, deviation)):
            buffer.copy_(torch.tensor(values).view(1, -1, 1, 1))

    def _standardize(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            images = functional.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=True)
        return (images - self.mean) / self.deviation


def pixel_statistics(data: LabeledImages) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over all pixels in [0, 1]; deviations are at least 1/255."""
    sums = squares = torch.zeros(())
    for index in range(len(data)):
        image = torch.from_numpy(data[index]).double() / 255.0
        sums, squares = sums + image.mean(dim=(1, 2)), squares + image.square().mean(dim=(1, 2))
    mean = sums / len(data)
    deviation = (squares / len(data) - mean.square()).clamp(min=0.0).sqrt().clamp(min=1.0 / 255.0)
    return mean.tolist(), deviation.tolist()


@dataclass(frozen=True, kw_only=True)
class Start:
    """Initial weights of a body: their source and license, and the pixel statistics of their training images."""

    source: str
    license: str = ""
    mean: Sequence[float] | None = None
    deviation: Sequence[float] | None = None


class ImageClassifier(nn.Module):
    """A Classifier over a `Body`, trained with the settings `config`; fp32 except for training's mixed precision.

    The body sees images of `side` pixels, resized from `image.size` and standardized by the mean and standard
    deviation of the training images.
    `start` gives the body its initial weights. Only `fit` calls it, and only for a fresh classifier: not when training
    resumes from a checkpoint, nor if the classifier was fitted or given weights before.
    """

    def __init__(
        self,
        config: ClassifierSettings,
        image: ImageSpec,
        body: nn.Module,
        *,
        side: int,
        start: Callable[[], Start] = lambda: Start(source="scratch"),
    ) -> None:
        super().__init__()
        self.config = config
        self.image = image
        network = StandardizedNetwork(body, side=side, channels=image.channels)
        # The memory layout of training from the start, because it decides how convolutions round.
        self.network = network.to(memory_format=torch.channels_last)
        self._start = start
        self._fresh = True
        self.eval()

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.network.mean.device

    def fit(
        self,
        data: LabeledImages,
        *,
        validation: LabeledImages,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Train on `data`; `training.load_best_model_at_end` keeps the weights of the lowest loss on `validation`.

        Where `data` has loss weights (`protocols.WeightedImages`), they multiply the images' losses, as `Objective`
        says.

        Raises:
            DataError: there are no images, or no validation images although the settings need them.
        """
        check_not_empty(data)
        training = self.config.training
        if len(validation) == 0 and (training.load_best_model_at_end or training.early_stopping_patience):
            raise DataError(
                "there are no validation images to choose weights by",
                "give some, or set training.load_best_model_at_end=false and training.early_stopping_patience=0",
            )
        if checkpoints.load_checkpoint() is None:
            self._begin(data, callback)
        if training.freeze_backbone:
            self.network.freeze_backbone(classes=len(self.image.classes))
        objective = Objective(self.config, data, device=self.device)
        stopping = EarlyStopping(
            self.network,
            lambda: evaluate(self.network, validation, objective),
            patience=training.early_stopping_patience,
            keep_best=training.load_best_model_at_end,
        )
        train(
            self.network,
            objective,
            data,
            training,
            seed=seed,
            callback=callback,
            checkpoints=checkpoints,
            recipe=_recipe(self.network, training, length=len(data)),
            early_stopping=stopping if len(validation) else None,
        )
        stopping.finish()
        self._fresh = False
        self.eval()
        if stopping.best_step:
            values: dict[str, float | str] = {"loss": stopping.lowest, "at_step": stopping.best_step}
            callback.log_metadata(
                "validation", {**values, "weights": "best" if training.load_best_model_at_end else "last"}
            )

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Return class probabilities, float32 (N, K); they sum to 1 unless an image may have several labels.

        Raises:
            DataError: there are no images, or their shape does not match `image`.
        """
        logits = self._in_batches(self.network, images)
        return logits.sigmoid() if self.image.multi_label else logits.softmax(dim=1)

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Return the features before the last layer, float32 (N, D). Raises: as `predict`."""
        return self._in_batches(self.network.features, images)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights, which `fit` then keeps as its initial ones."""
        self._fresh = False
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _begin(self, data: LabeledImages, callback: TrainingCallback) -> None:
        """Give a fresh network its initial weights and pixel statistics; log their source and the resizing."""
        if self._fresh:
            start = self._start()
            if start.mean is not None and start.deviation is not None:
                statistics, of = (start.mean, start.deviation), "the weights' training images"
            else:
                statistics, of = pixel_statistics(data), "the training images"
            self.network.set_statistics(*statistics)
            facts = {"source": start.source, **({"license": start.license} if start.license else {})}
            callback.log_metadata("weights", {**facts, "pixels_standardised_by": of})
        else:
            callback.log_metadata("weights", {"source": "the classifier's own, from before this training"})
        if self.network.side != self.image.size:
            how = "bilinear, antialiased, in the model"
            callback.log_metadata("resize", {"from": self.image.size, "to": self.network.side, "how": how})

    @reproducible_kernels()
    def _in_batches(self, call: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        check_images(self.image, images)
        self.eval()
        batches = images.to(self.device).split(_BATCH)
        return torch.cat([call(batch.contiguous(memory_format=torch.channels_last)).float() for batch in batches])


class Objective:
    """Cross-entropy, or binary cross-entropy for multi-hot labels, of batches after augmentation and mixup.

    With `objective.class_weighted`, classes are weighted by their inverse frequency in `data`, the mean image by 1.

    A batch's loss is the sum of its images' losses, each times its loss weight, over the number of images: an image of
    weight 0.3 pulls at the network with 0.3 of its gradient, whatever else the batch holds. (A mean over the weights
    would give a batch of such images their full pull back.) In the frequency of classes, an image counts as its weight.
    """

    def __init__(self, settings: ClassifierSettings, data: LabeledImages, *, device: torch.device) -> None:
        self.settings = settings
        labels = torch.from_numpy(data.labels)
        self.classes = len(data.classes)
        self.multi_label = labels.ndim == 2
        given = loss_weights(data)
        if given is None:
            positives = labels.sum(dim=0) if self.multi_label else torch.bincount(labels, minlength=self.classes)
            positives, total = positives.clamp(min=1).float(), float(len(labels))
        else:
            hot = labels if self.multi_label else functional.one_hot(labels, self.classes).float()
            positives, total = (given @ hot).clamp(min=given.min().item()), given.sum().item()
        rarity = (total - positives) / positives if self.multi_label else total / self.classes / positives
        self._weights = rarity.to(device) if settings.objective.class_weighted else None
        # Balanced sampling weights classes too, so the validation loss is weighted in both cases.
        balanced = settings.objective.class_weighted or settings.training.class_balanced
        self._validation_weights = rarity.to(device) if balanced else None

    def __call__(self, network: nn.Module, batch: Batch, random: torch.Generator) -> dict[str, Tensor]:
        """Return the loss on images augmented and mixed with draws from `random`."""
        augmentation = self.settings.augmentation
        images, targets, weights = augment(batch.images, augmentation, random), self._targets(batch.labels), None
        if batch.weights is not None:
            targets = torch.cat([targets, batch.weights[:, None]], dim=1)
        if augmentation.mixup_alpha > 0:
            images, targets = mixup(images, targets, alpha=augmentation.mixup_alpha, random=random)
        if batch.weights is not None:  # a mixed image has its two images' weights in their shares
            targets, weights = targets[:, :-1], targets[:, -1]
        logits, smoothing = network(images).float(), self.settings.objective.label_smoothing
        return {"entropy": self._entropy(logits, targets, self._weights, smoothing, image_weights=weights)}

    def validation_loss(self, logits: Tensor, labels: Tensor) -> float:
        """Return the mean loss, without label smoothing, of `labels` given float32 `logits` (N, K)."""
        return self._entropy(logits, self._targets(labels), self._validation_weights, smoothing=0.0).item()

    def _targets(self, labels: Tensor) -> Tensor:
        return labels.float() if self.multi_label else functional.one_hot(labels, self.classes).float()

    def _entropy(
        self,
        logits: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        smoothing: float,
        *,
        image_weights: Tensor | None = None,
    ) -> Tensor:
        reduction = "mean" if image_weights is None else "none"
        if self.multi_label:
            softened = targets * (1.0 - smoothing) + 0.5 * smoothing
            losses = functional.binary_cross_entropy_with_logits(
                logits, softened, pos_weight=weights, reduction=reduction
            )
        else:
            losses = functional.cross_entropy(
                logits, targets, weight=weights, label_smoothing=smoothing, reduction=reduction
            )
        if image_weights is None:
            return losses
        return ((losses.mean(dim=1) if self.multi_label else losses) * image_weights).mean()


def mixup(images: Tensor, targets: Tensor, *, alpha: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image and its targets with another's of the batch (Zhang et al. 2018, section 2)."""
    seed = int(torch.randint(2**62, (), generator=random))
    shares = np.random.default_rng(seed).beta(alpha, alpha, len(images)).astype(np.float32)
    partner = to_device(torch.randperm(len(images), generator=random), images.device)
    own = to_device(torch.from_numpy(shares), images.device)
    mixed = torch.lerp(images[partner], images, own.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partner], targets, own.view(-1, 1))


@torch.no_grad()
def evaluate(network: nn.Module, data: LabeledImages, objective: Objective) -> dict[str, float]:
    """Return the network's `validation_loss` on `data` and, for single labels, its `balanced_accuracy`."""
    device = next(network.parameters()).device
    network.eval()
    starts = range(0, len(data), _BATCH)
    batches = (pixels(data, range(start, min(start + _BATCH, len(data)))).to(device) for start in starts)
    logits = torch.cat([network(batch.contiguous(memory_format=torch.channels_last)).float() for batch in batches])
    labels = torch.from_numpy(data.labels).to(device)
    values = {"validation_loss": objective.validation_loss(logits, labels)}
    if not objective.multi_label:
        correct = (logits.argmax(dim=1) == labels).double()
        recalls = [correct[labels == k].mean() for k in labels.unique().tolist()]
        values["balanced_accuracy"] = torch.stack(recalls).mean().item()
    return values


def _recipe(network: nn.Module, training: RecipeSettings, *, length: int) -> Recipe:
    total, steps_per_epoch = training.max_steps or steps_of(length, training), math.ceil(length / training.batch_size)
    return Recipe(
        optimizer=make_optimizer(network, training, training.optimizer),
        learning_rate_factor=learning_rate_factor(training, total=total, steps_per_epoch=steps_per_epoch),
        total=total,
    )


def learning_rate_factor(settings: RecipeSettings, *, total: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the factor of the peak learning rate by optimizer step, counted from 1.

    "warm-restarts" is SGDR (Loshchilov & Hutter 2017, equation 5).
    """

    def after_warmup(step: int) -> float:
        epoch = (step - 1) / steps_per_epoch
        if settings.lr_scheduler == "constant":
            return 1.0
        if settings.lr_scheduler == "cosine":
            return _half_cosine((step - 1) / total)
        if settings.lr_scheduler == "step":
            return settings.lr_gamma ** int(epoch // settings.lr_step_epochs)
        length, since = settings.lr_restart_epochs, epoch
        while since >= length:
            since -= length
            length *= settings.lr_restart_mult
        return _half_cosine(since / length)

    return lambda step: min(1.0, step / settings.warmup_steps if settings.warmup_steps else 1.0) * after_warmup(step)


def _half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))
