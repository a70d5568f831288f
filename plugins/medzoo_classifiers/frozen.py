"""Logistic regression on the features of a frozen network: `frozen`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from medzoo import ImageSpec
from medzoo.assets import load_extractor
from medzoo.errors import DataError
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import global_draws_from
from medzoo.toolkit.classification import StandardizedNetwork
from medzoo.toolkit.devices import reproducible_kernels
from medzoo.toolkit.training.batches import pixels
from medzoo.toolkit.validation import check_images, check_not_empty
from medzoo_classifiers.settings import FeatureConfig, FeatureSettings
from medzoo_classifiers.timm_networks import create_network, load_published, side_of

_BATCH = 16  # on a CPU, more images at once take longer each, as their activations leave its cache
_TOLERANCE = 1e-3  # of the gradient; a smaller one takes twice the time for the same scores
_NEVER = 30.0
"""Minus this is the logit of a class without training images, whose probability is 1e-13."""


class Backbone(nn.Module):
    """A frozen network of timm, saved with the model; images are resized (bilinear, antialiased) and standardized.

    Its published weights are loaded when features are first asked for, unless a saved model brought its own.
    """

    def __init__(self, settings: FeatureSettings, image: ImageSpec) -> None:
        super().__init__()
        self._settings, self._image = settings, image
        with global_draws_from(0, torch.device("cpu")):  # random weights are the same ones in every training
            network = create_network(settings, image, classes=0, dropout=0.0)
        self.dim = int(network.num_features)
        self.network = StandardizedNetwork(network, side=side_of(settings, image), channels=image.channels)
        self.network.set_statistics([0.5] * image.channels, [0.5] * image.channels)
        self.network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.missing = settings.weights == "imagenet"
        """Whether the published weights are still to be loaded."""
        self.facts = {"source": settings.weights}

    def prepare(self) -> None:
        """Load the published weights. Raises: as `load_published`."""
        if self.missing:
            start = load_published(self.network.body, self._settings, self._image)
            self.network.set_statistics(start.mean or (), start.deviation or ())
            self.facts = {"source": start.source, **({"license": start.license} if start.license else {})}
            self.missing = False

    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32 (N, dim), of images (N, C, H, W) in [0, 1]."""
        features: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return features.float()


class PluginExtractor:
    """A registered extractor. Its weights stay an asset, so a saved model needs that too; the asset's hash decides."""

    dim = 0
    """How many features it gives is known once it has seen an image."""

    def __init__(self, name: str, device: str) -> None:
        self._name, self._device = name, device
        self._extract: Any = None
        self.facts: dict[str, str] = {}

    def prepare(self) -> None:
        """Load the extractor. Raises: as `medzoo.assets.load_extractor`."""
        if self._extract is None:
            loaded = load_extractor(self._name, device=self._device)
            self._extract, self.facts = loaded.extract, {"source": loaded.identity}

    def __call__(self, images: Tensor) -> Tensor:
        """Return its layer "features", float32 (N, dim), of images (N, C, H, W) in [0, 1]."""
        features: Tensor = self._extract((images * 255.0).round().to(torch.uint8))["features"]
        return features.float()


class FrozenClassifier(nn.Module):
    """A FeatureClassifier: multinomial logistic regression on standardized features; with several labels, one each.

    With `network.mirrored`, an image has two views, itself and its mirror image. In training each counts half, and
    predictions are averaged over them.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    identity: Tensor

    def __init__(self, config: FeatureConfig, image: ImageSpec, device: str) -> None:
        super().__init__()
        self.config = config
        self.image = image
        extractor = config.network.extractor
        self.source: Any = PluginExtractor(extractor, device) if extractor else Backbone(config.network, image)
        # Of an extractor, whose weights are not saved with the model: the hash of what its features depend on.
        self.register_buffer("identity", torch.zeros(32, dtype=torch.uint8))
        self._shape_head(self.source.dim)
        self.eval()

    def fit(
        self,
        data: LabeledImages,
        *,
        validation: LabeledImages,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Extract the features of `data`, and train on them to the optimum, which `seed` does not change.

        Raises:
            DataError: there are no images, or no validation images although `regression.C` has several values.
            HubError: the published weights are not on this machine and cannot be downloaded.
        """
        check_not_empty(data)
        self._check_selection(len(validation))
        own, other = ((self._features_of(images), torch.from_numpy(images.labels)) for images in (data, validation))
        weights = getattr(data, "weights", None)
        losses = self._train(*own, None if weights is None else torch.from_numpy(weights), other)
        for step, loss in enumerate(losses.values(), start=1):
            callback.on_step_end(step, len(losses), {"loss": loss})
        callback.log_metadata("weights", self.source.facts)
        facts: dict[str, float | str] = {"C": min(losses, key=losses.__getitem__), "features": self.weight.shape[1]}
        callback.log_metadata("regression", facts)

    def fit_features(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        weights: Tensor | None = None,
        validation: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        """Train on `features` to the optimum, which `seed` does not change. Raises: DataError, as `fit`."""
        if len(features) == 0:
            raise DataError("there are no images to train on", "give some")
        self._check_selection(len(validation[0]))
        self._train(features, labels, weights, validation)

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Tensor:
        """Return features, float32 (N, views, D).

        Raises:
            DataError: there are no images, their shape does not match `image`, or the extractor has changed since.
            HubError: the published weights are not on this machine and cannot be downloaded.
        """
        views = (images, images.flip(-1)) if self.config.network.mirrored else (images,)
        return torch.stack([self.features(view) for view in views], dim=1)

    @torch.inference_mode()
    @reproducible_kernels()
    def features(self, images: Tensor) -> Tensor:
        """Return the features, float32 (N, D), of the images as they are. Raises: as `extract`."""
        check_images(self.image, images)
        self.eval()
        self.source.prepare()
        if isinstance(self.source, PluginExtractor):
            self._check_extractor(self.source.facts["source"])
        return torch.cat([self.source(part) for part in images.to(self.bias.device).split(_BATCH)])

    def predict(self, images: Tensor) -> Tensor:
        """Return class probabilities, float32 (N, K). Raises: as `extract`."""
        return self.predict_features(self.extract(images))

    @torch.inference_mode()
    def predict_features(self, features: Tensor) -> Tensor:
        """Return class probabilities, float32 (N, K), averaged over the views of each image."""
        logits = functional.linear(self._standardized(features.to(self.bias.device)), self.weight, self.bias)
        views = logits.sigmoid() if self.image.multi_label else logits.softmax(dim=-1)
        return views.mean(dim=1)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; those of the network are then kept."""
        if "mean" in state_dict and not self.source.dim:
            self._shape_head(len(state_dict["mean"]))
        found = super().load_state_dict(state_dict, strict=strict, assign=assign)
        if isinstance(self.source, Backbone):
            self.source.missing = False
        return found

    def _shape_head(self, dim: int) -> None:
        """Set a regression that knows nothing on `dim` features."""
        device = self.identity.device
        classes = len(self.image.classes)
        self.register_buffer("mean", torch.zeros(dim, device=device))
        self.register_buffer("deviation", torch.ones(dim, device=device))
        self.register_buffer("weight", torch.zeros(classes, dim, device=device))
        self.register_buffer("bias", torch.zeros(classes, device=device))

    def _check_extractor(self, identity: str) -> None:
        """Remember the extractor a model begins with. Raises: DataError if the model was trained with another one."""
        found = torch.frombuffer(bytearray(hashlib.sha256(identity.encode()).digest()), dtype=torch.uint8)
        if bool(self.identity.any()) and not torch.equal(self.identity.cpu(), found):
            raise DataError(
                f"the extractor '{self.config.network.extractor}' has changed since this model was trained: its "
                "features are others",
                "train it again, or install the versions that its run.json names",
            )
        self.identity.copy_(found)

    def _standardized(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation

    def _features_of(self, data: LabeledImages) -> Tensor:
        starts = range(0, len(data), _BATCH)
        found = [self.extract(pixels(data, range(at, min(at + _BATCH, len(data))))).cpu() for at in starts]
        return torch.cat(found) if found else torch.empty(0)

    def _check_selection(self, validation: int) -> None:
        """Raise DataError unless there are images to choose among several values of C by."""
        given = self.config.regression.C
        if len(given) > 1 and validation == 0:
            raise DataError(
                "there are no validation images to choose the penalty by", f"give some, or set regression.C={given[0]}"
            )

    def _train(
        self, features: Tensor, labels: Tensor, weights: Tensor | None, validation: tuple[Tensor, Tensor]
    ) -> dict[float, float]:
        """Train with each value of C, keep the best, and return the losses: on the validation images if any."""
        features, labels = features.cpu().float(), labels.cpu()
        count, views, dim = features.shape
        each = torch.ones(count) if weights is None else weights.cpu().float()
        shares = (each / each.sum() / views).view(-1, 1, 1)
        mean = (features * shares).sum(dim=(0, 1))
        deviation = ((features - mean).square() * shares).sum(dim=(0, 1)).sqrt()
        self._shape_head(dim)
        self.mean.copy_(mean)
        # One that hardly varies in training must not blow up in another image.
        self.deviation.copy_(deviation.clamp(min=1e-3 * deviation.mean().item() + 1e-6))
        rows = self._standardized(features.to(self.mean.device)).cpu().flatten(0, 1).numpy()
        hot = labels.float() if self.image.multi_label else functional.one_hot(labels, len(self.bias)).float()
        targets, counts = (
            hot.repeat_interleave(views, dim=0).numpy(),
            (each / views).repeat_interleave(views).numpy(),
        )
        rarity = _rarity(hot, each, multi_label=self.image.multi_label)
        if not self.config.objective.class_weighted:
            rarity = torch.ones_like(rarity)
        losses: dict[float, float] = {}
        fitted: dict[float, tuple[Tensor, Tensor]] = {}
        for penalty in self.config.regression.C:
            solve = _one_vs_rest if self.image.multi_label else _softmax
            found = solve(rows, targets, counts, rarity.numpy(), C=penalty, max_iter=self.config.regression.max_iter)
            fitted[penalty] = (torch.from_numpy(found[0]), torch.from_numpy(found[1]))
            self.weight.copy_(fitted[penalty][0])
            self.bias.copy_(fitted[penalty][1])
            losses[penalty] = self._loss(*(validation if len(validation[0]) else (features, labels)), rarity)
        best = min(losses, key=losses.__getitem__)
        self.weight.copy_(fitted[best][0])
        self.bias.copy_(fitted[best][1])
        return losses

    def _loss(self, features: Tensor, labels: Tensor, rarity: Tensor) -> float:
        """Return the mean cross-entropy of these images, weighted by class as in training."""
        probabilities = self.predict_features(features).cpu().clamp(1e-12, 1.0)
        if self.image.multi_label:
            positive = labels.float() * rarity * probabilities.log()
            negative = (1.0 - labels.float()) * (1.0 - probabilities).clamp(min=1e-12).log()
            return -(positive + negative).mean().item()
        own = rarity[labels]
        picked = probabilities.gather(1, labels.view(-1, 1)).squeeze(1)
        return -(own * picked.log()).sum().item() / own.sum().item()


def _rarity(hot: Tensor, weights: Tensor, *, multi_label: bool) -> Tensor:
    """Return the factor of each class, (K,), by its inverse frequency: of its images, or of a label's positives."""
    total, positives = weights.sum(), (hot * weights.view(-1, 1)).sum(dim=0)
    rarity = (total - positives) / positives if multi_label else total / len(positives) / positives
    return torch.where(positives > 0, rarity, 1.0)


def _softmax(
    rows: np.ndarray, hot: np.ndarray, counts: np.ndarray, rarity: np.ndarray, *, C: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D) and biases (K,) of a multinomial regression; a class without images is never predicted."""
    weight, bias = np.zeros((hot.shape[1], rows.shape[1]), np.float32), np.full(hot.shape[1], -_NEVER, np.float32)
    targets = hot.argmax(axis=1)
    classes = np.unique(targets)
    if len(classes) == 1:
        bias[classes] = 0.0
        return weight, bias
    found = _regression(rows, targets, counts * rarity[targets], C=C, max_iter=max_iter)
    # Of two classes, scikit-learn gives the log-odds of the second.
    rest = len(classes) - len(found.coef_)
    weight[classes] = np.concatenate([np.zeros((rest, rows.shape[1])), found.coef_])
    bias[classes] = np.concatenate([np.zeros(rest), found.intercept_])
    return weight, bias


def _one_vs_rest(
    rows: np.ndarray, hot: np.ndarray, counts: np.ndarray, rarity: np.ndarray, *, C: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D) and biases (K,) of one regression a label; one that all or none have is a constant."""
    weight, bias = np.zeros((hot.shape[1], rows.shape[1]), np.float32), np.zeros(hot.shape[1], np.float32)
    for k, targets in enumerate(hot.T):
        if len(np.unique(targets)) == 1:
            bias[k] = _NEVER if targets[0] else -_NEVER
            continue
        found = _regression(rows, targets, counts * np.where(targets > 0, rarity[k], 1.0), C=C, max_iter=max_iter)
        weight[k], bias[k] = found.coef_[0], found.intercept_[0]
    return weight, bias


def _regression(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, C: float, max_iter: int) -> Any:
    """Fit scikit-learn's logistic regression; where `max_iter` comes first, its result is near the optimum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, max_iter=max_iter, tol=_TOLERANCE).fit(rows, targets, sample_weight=weights)
