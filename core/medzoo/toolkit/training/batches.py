"""Batches and their augmentation, as a function of the seed and the step only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medzoo.errors import ConfigError
from medzoo.protocols import LabeledImages, WeightedImages
from medzoo.seeds import generator
from medzoo.toolkit.devices import to_device
from medzoo.toolkit.settings import TrainingSettings


@dataclass(frozen=True)
class Batch:
    """Images float32 (N, C, H, W) in [0, 1] and their labels, on the training device, for optimizer step `step`.

    `labels` are int64 (N,), or float32 multi-hot (N, K). `step` counts from 0. `images` are augmented already, by
    `training.horizontal_flip` and `training.color_jitter`. A model trained on latents finds them in `images`. `weights`
    multiply the images' losses, float32 (N,); None where all are 1.
    """

    images: Tensor
    labels: Tensor
    step: int = 0
    weights: Tensor | None = None


@runtime_checkable
class RedrawnImages(LabeledImages, Protocol):
    """Training images that are drawn again for each epoch: as many, with the same labels.

    The images themselves, without `in_epoch`, are those of epoch 0.
    """

    def in_epoch(self, epoch: int) -> LabeledImages:
        """Return the images of `epoch`, counted from 0; the same call gives the same images."""


def loss_weights(data: LabeledImages) -> Tensor | None:
    """Return the loss weights of `data`, float32 (N,); None where it has none, or all are 1."""
    if not isinstance(data, WeightedImages):
        return None
    weights = torch.from_numpy(data.weights).float()
    return None if bool((weights == 1.0).all()) else weights


def pixels(data: LabeledImages, indices: Iterable[int]) -> Tensor:
    """Return the images at `indices`, float32 (N, C, H, W) in [0, 1], on the CPU."""
    return torch.stack([torch.from_numpy(data[index]) for index in indices]).float() / 255.0


def vary(images: Tensor, *, flip: bool, jitter: float, random: torch.Generator) -> Tensor:
    """Flip half of `images` (N, C, H, W) in [0, 1], and change brightness and contrast by up to `jitter`."""
    count = images.shape[0]
    if flip:
        mirrored = to_device(torch.rand(count, generator=random) < 0.5, images.device)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if jitter > 0:
        changes = 1.0 + jitter * (2.0 * torch.rand(2, count, generator=random) - 1.0)
        brightness, contrast = to_device(changes, images.device)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * contrast.view(-1, 1, 1, 1) + mean * brightness.view(-1, 1, 1, 1)
    return images.clamp(0.0, 1.0)


def epoch_order(labels: Tensor, *, count: int, balanced: bool, seed: int, epoch: int) -> Tensor:
    """Return `count` indices into the data for one epoch, int64 (count,).

    `balanced` draws classes equally often, with replacement; otherwise the order is a permutation. A multi-label image
    is weighted by the rarest of its labels. Images of the null label count as a class of their own.
    """
    random = generator(seed, "epoch", epoch)
    if balanced:
        if labels.ndim == 1:
            weights = 1.0 / torch.bincount(labels)[labels].double()
        else:
            present = labels.double().clamp(min=0.0)  # the null label is -1
            shares = present.mean(dim=0).clamp(min=1.0 / len(labels))
            weights = (present / shares).amax(dim=1).clamp(min=1.0)
        return torch.multinomial(weights, count, replacement=True, generator=random)
    turns = [torch.randperm(len(labels), generator=random) for _ in range(math.ceil(count / len(labels)))]
    return torch.cat(turns)[:count]


def loader(
    data: LabeledImages,
    settings: TrainingSettings,
    *,
    steps: range,
    steps_per_epoch: int,
    rank: int,
    world: int,
    seed: int,
    pin_memory: bool = False,
) -> DataLoader[tuple[Tensor, ...]]:
    """Return a DataLoader of micro-batches (uint8 images (n, C, H, W), labels) for `steps`, for process `rank`.

    Images of different loss weights have these third, float32 (n,). With `pin_memory`, all are in memory that a GPU
    reads by itself.

    Raises:
        ConfigError: the batch size is not divisible by `world` processes times micro-batches.
    """
    parts = world * settings.gradient_accumulation_steps
    if settings.batch_size % parts:
        raise ConfigError(
            f"training.batch_size = {settings.batch_size} is not divisible by {parts}",
            "processes times micro-batches; choose a multiple",
        )

    def indices(labels: Tensor) -> Iterator[list[tuple[int, int]]]:
        size, order = settings.batch_size, torch.empty(0)
        for step in steps:
            epoch, place = divmod(step, steps_per_epoch)
            if place == 0 or step == steps.start:
                count = size * steps_per_epoch
                order = epoch_order(labels, count=count, balanced=settings.class_balanced, seed=seed, epoch=epoch)
            whole = order[place * size : (place + 1) * size].tolist()
            for micro in range(settings.gradient_accumulation_steps):
                yield [(epoch, index) for index in whole[micro * world + rank :: parts]]

    pairs = _Pairs(data)
    batches: Any = indices(pairs.labels)
    random = generator(seed, "loader")  # its draws have no effect, but by default it would advance the global state
    return DataLoader(
        pairs, batch_sampler=batches, num_workers=settings.num_workers, generator=random, pin_memory=pin_memory
    )


class _Pairs(Dataset[tuple[Tensor, ...]]):
    """`LabeledImages` as a torch Dataset, by epoch and index, with their loss weights if they differ."""

    def __init__(self, data: LabeledImages) -> None:
        self.data = data
        self.labels = torch.from_numpy(data.labels)
        self._take(0)

    def _take(self, epoch: int) -> None:
        """Take the images of `epoch`."""
        self._epoch = epoch
        self._images = self.data.in_epoch(epoch) if isinstance(self.data, RedrawnImages) else self.data
        self._weights = loss_weights(self._images)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, index = place
        if epoch != self._epoch and isinstance(self.data, RedrawnImages):
            self._take(epoch)
        weight = () if self._weights is None else (self._weights[index],)
        return torch.from_numpy(self._images[index]), self.labels[index], *weight
