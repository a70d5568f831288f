"""The training loss of a classifier, and its evaluation on validation images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.protocols import LabeledImages
from medzoo.toolkit.classifier_settings import ClassifierSettings
from medzoo.toolkit.training.augmentation import augment
from medzoo.toolkit.training.batches import Batch, pixels

_BATCH = 64


class Objective:
    """Cross-entropy, or binary cross-entropy for multi-hot labels, of batches after augmentation and mixup.

    With `objective.class_weighted`, classes are weighted by their inverse frequency in `data`, the mean image by 1.
    """

    def __init__(self, settings: ClassifierSettings, data: LabeledImages, *, device: torch.device) -> None:
        self.settings = settings
        labels = torch.from_numpy(data.labels)
        self.classes = len(data.classes)
        self.multi_label = labels.ndim == 2
        positives = labels.sum(dim=0) if self.multi_label else torch.bincount(labels, minlength=self.classes)
        positives = positives.clamp(min=1).float()
        rarity = (len(labels) - positives) / positives if self.multi_label else len(labels) / self.classes / positives
        self._weights = rarity.to(device) if settings.objective.class_weighted else None
        # Balanced sampling weights classes too, so the validation loss is weighted in both cases.
        balanced = settings.objective.class_weighted or settings.training.class_balanced
        self._validation_weights = rarity.to(device) if balanced else None

    def __call__(self, network: nn.Module, batch: Batch, random: torch.Generator) -> dict[str, Tensor]:
        """Return the loss on images augmented and mixed with draws from `random`."""
        augmentation = self.settings.augmentation
        images, targets = augment(batch.images, augmentation, random), self._targets(batch.labels)
        if augmentation.mixup_alpha > 0:
            images, targets = mixup(images, targets, alpha=augmentation.mixup_alpha, random=random)
        logits = network(images).float()
        return {"entropy": self._entropy(logits, targets, self._weights, self.settings.objective.label_smoothing)}

    def validation_loss(self, logits: Tensor, labels: Tensor) -> float:
        """Return the mean loss, without label smoothing, of `labels` given float32 `logits` (N, K)."""
        return self._entropy(logits, self._targets(labels), self._validation_weights, smoothing=0.0).item()

    def _targets(self, labels: Tensor) -> Tensor:
        return labels.float() if self.multi_label else functional.one_hot(labels, self.classes).float()

    def _entropy(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        if self.multi_label:
            softened = targets * (1.0 - smoothing) + 0.5 * smoothing
            return functional.binary_cross_entropy_with_logits(logits, softened, pos_weight=weights)
        return functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)


def mixup(images: Tensor, targets: Tensor, *, alpha: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image and its targets with another's of the batch (Zhang et al. 2018, section 2)."""
    seed = int(torch.randint(2**62, (), generator=random))
    shares = np.random.default_rng(seed).beta(alpha, alpha, len(images)).astype(np.float32)
    partner = torch.randperm(len(images), generator=random).to(images.device)
    own = torch.from_numpy(shares).to(images.device)
    mixed = torch.lerp(images[partner], images, own.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partner], targets, own.view(-1, 1))


@torch.no_grad()
def evaluate(network: nn.Module, data: LabeledImages, objective: Objective) -> dict[str, float]:
    """Return the network's `validation_loss` on `data` and, for single labels, its `balanced_accuracy`."""
    device = next(network.parameters()).device
    network.eval()
    starts = range(0, len(data), _BATCH)
    batches = [pixels(data, range(start, min(start + _BATCH, len(data)))).to(device) for start in starts]
    logits = torch.cat([network(batch.contiguous(memory_format=torch.channels_last)).float() for batch in batches])
    labels = torch.from_numpy(data.labels).to(device)
    values = {"validation_loss": objective.validation_loss(logits, labels)}
    if not objective.multi_label:
        correct = (logits.argmax(dim=1) == labels).double()
        recalls = [correct[labels == k].mean() for k in labels.unique().tolist()]
        values["balanced_accuracy"] = torch.stack(recalls).mean().item()
    return values
