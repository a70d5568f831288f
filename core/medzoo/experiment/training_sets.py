"""Training sets of an arm: how many synthetic images of each label it adds, and all its images as one dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.errors import ConfigError
from medzoo.experiment.config import Arm
from medzoo.generation.label_sets import missing_images
from medzoo.generation.plan import exact_shares
from medzoo.seeds import derive_seed


def synthetic_counts(data: Dataset, arm: Arm) -> dict[str, dict[str, int]]:
    """Count the synthetic images that each generator of the arm adds to `data`, by label; labels without any left out.

    Each class is filled up to the target; with `classes` "all", as many images in all are spread evenly over the
    classes. Arms that pretrain on synthetic images, or replace real ones by them, have the target of each class beside
    the real ones. In multi-label data the whole set is filled (or made), its sets of labels in proportion.
    Raises: ConfigError if the arm has generators and adds no image.
    """
    if not arm.mixture:
        return {}
    given = missing_images(data, arm.target, apart=arm.pretrain or arm.replace > 0)
    if arm.classes == "all":
        given = dict(zip(given, exact_shares(sum(given.values()), [Fraction(1)] * len(given)), strict=True))
    if not any(given.values()):
        raise ConfigError(f"the arm '{arm.name}' adds no image: every class has {arm.target} or more", "raise target")
    shares = [Fraction(str(share)) for share in arm.mixture.values()]
    split = {label: exact_shares(count, shares) for label, count in given.items()}
    return {
        name: {label: parts[place] for label, parts in split.items() if parts[place]}
        for place, name in enumerate(arm.mixture)
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some images of a decoded set: their indices into it, int64 (N,), labels, and loss weight, or weights (N,)."""

    images: Decoded
    rows: np.ndarray
    labels: np.ndarray
    weight: float | np.ndarray = 1.0


class ConcatDataset:
    """Images of several parts as one (`protocols.WeightedImages`).

    Up to `length`, images are repeated: each equally often, and for the remainder a choice by `seed`.
    """

    def __init__(
        self, classes: tuple[str, ...], parts: Sequence[Part], *, length: int | None = None, seed: int = 0
    ) -> None:
        self.classes = classes
        self._parts = parts
        self._source, self._row, self.labels, self.weights = _joined(parts)
        order = _repeated(len(self._row), length or len(self._row), np.random.default_rng(seed))
        self._select(order)

    def _select(self, order: np.ndarray) -> None:
        """Keep the images at `order`, which may name one several times."""
        self._source, self._row = self._source[order], self._row[order]
        self.labels, self.weights = self.labels[order], self.weights[order]

    def __len__(self) -> int:
        return len(self._row)

    def sources(self) -> Iterator[tuple[Decoded, np.ndarray, np.ndarray]]:
        """Yield each set of images with the places here that its images take, and their rows there (int64)."""
        for number, part in enumerate(self._parts):
            places = np.flatnonzero(self._source == number)
            yield part.images, places, self._row[places]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image `index`: uint8 (C, size, size)."""
        pixels: np.ndarray = self._parts[self._source[index]].images[[self._row[index]]][0]
        return pixels


class BatchShareDataset(ConcatDataset):
    """Real and synthetic images of which the synthetic ones are the `share` of an epoch of `length` images.

    The expected share of a batch is thereby the same. Within each of the two, labels are as frequent as among its
    images. Where not all of them have a place in an epoch, each epoch draws others (`batches.RedrawnImages`).
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        real: Sequence[Part],
        synthetic: Sequence[Part],
        *,
        share: float,
        length: int,
        seed: int,
        epoch: int = 0,
    ) -> None:
        self._given = (classes, real, synthetic)
        self._share, self._length, self._seed = share, length, seed
        super().__init__(classes, [*real, *synthetic])
        numbers = _label_numbers(self.labels)
        made = self._source >= len(real)
        places = round(share * length)
        rng = np.random.default_rng(derive_seed(seed, "batch share", epoch))
        order = []
        for group, count in ((~made, length - places), (made, places)):
            present, counts = np.unique(numbers[group], return_counts=True)
            for number, own in zip(present, exact_shares(count, [Fraction(int(n)) for n in counts]), strict=True):
                rows = np.flatnonzero(group & (numbers == number))
                order.append(rows[_repeated(len(rows), own, rng)])
        self._select(np.concatenate(order))

    def in_epoch(self, epoch: int) -> BatchShareDataset:
        """Return the images of `epoch`."""
        classes, real, synthetic = self._given
        length, seed = self._length, self._seed
        return BatchShareDataset(classes, real, synthetic, share=self._share, length=length, seed=seed, epoch=epoch)


class ReplacingDataset(ConcatDataset):
    """Real images, repeated to `length`, each replaced with a `probability` by a synthetic one of the same label.

    Every epoch draws anew which are replaced and by which (`batches.RedrawnImages`). A label without synthetic images
    keeps its real ones. DA-Fusion (Trabucco et al. 2023) does so with a probability of 0.5 each time an image is read;
    DiffDA-Eval (Li et al. 2026) calls it random replacement.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        real: Sequence[Part],
        synthetic: Sequence[Part],
        *,
        probability: float,
        length: int,
        seed: int,
        epoch: int = 0,
    ) -> None:
        super().__init__(classes, [*real, *synthetic])
        self._given = (classes, real, synthetic)
        self._probability, self._length, self._seed = probability, length, seed
        numbers, made = _label_numbers(self.labels), self._source >= len(real)
        rows = np.flatnonzero(~made)
        # As in a training on real images alone.
        order = rows[_repeated(len(rows), length, np.random.default_rng(seed))]
        rng = np.random.default_rng(derive_seed(seed, "replace", epoch))
        replaced = rng.random(length) < probability
        for number in np.unique(numbers[order]):
            places = np.flatnonzero(replaced & (numbers[order] == number))
            others = np.flatnonzero(made & (numbers == number))
            if len(others) and len(places):
                order[places] = others[rng.permutation(_repeated(len(others), len(places), rng))]
        self._select(order)

    def in_epoch(self, epoch: int) -> ReplacingDataset:
        """Return the images of `epoch`."""
        classes, real, synthetic = self._given
        length, seed, probability = self._length, self._seed, self._probability
        return ReplacingDataset(
            classes, real, synthetic, probability=probability, length=length, seed=seed, epoch=epoch
        )


def training_images(
    arm: Arm,
    images: str,
    classes: tuple[str, ...],
    *,
    real: Sequence[Part],
    synthetic: Sequence[Part],
    length: int,
    seed: int,
) -> ConcatDataset:
    """Return the training set of a stage, `length` images an epoch: "all" of the arm's, the "real" or "synthetic"."""
    if images == "all" and arm.batch_share and synthetic:
        return BatchShareDataset(classes, real, synthetic, share=arm.batch_share, length=length, seed=seed)
    if images == "all" and arm.replace and synthetic:
        return ReplacingDataset(classes, real, synthetic, probability=arm.replace, length=length, seed=seed)
    parts = {"all": [*real, *synthetic], "real": real, "synthetic": synthetic}
    return ConcatDataset(classes, parts[images], length=length, seed=seed)


def weighted_images(
    arm: Arm, classes: tuple[str, ...], *, real: Sequence[Part], synthetic: Sequence[Part]
) -> ConcatDataset:
    """Return the training set of a classifier that converges: each image once, with the weight its arm gives it.

    Draws are replaced by weights: the weighted loss is, up to a factor, what `training_images` gives on average.
    """
    parts, counts = [*real, *synthetic], [sum(len(part.rows) for part in own) for own in (real, synthetic)]
    if synthetic and arm.batch_share:
        shares = (1 - arm.batch_share, arm.batch_share)
        factors = [sum(counts) * share / count for share, count in zip(shares, counts, strict=True)]
        parts = [
            *(replace(part, weight=part.weight * factors[0]) for part in real),
            *(replace(part, weight=part.weight * factors[1]) for part in synthetic),
        ]
    elif synthetic and arm.replace:
        numbers = _label_numbers(np.concatenate([part.labels for part in parts]))
        present, made = (np.bincount(own, minlength=numbers.max() + 1) for own in np.split(numbers, [counts[0]]))
        kept = np.where(made > 0, 1 - arm.replace, 1.0)
        taken = arm.replace * present / np.maximum(made, 1)
        own = np.split(numbers, np.cumsum([len(part.rows) for part in parts])[:-1])
        factor = [*([kept] * len(real)), *([taken] * len(synthetic))]
        parts = [
            replace(part, weight=part.weight * by_label[labels])
            for part, by_label, labels in zip(parts, factor, own, strict=True)
        ]
    return ConcatDataset(classes, parts)


def _joined(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, image by image, the number of its part, its row there, its label and its loss weight."""
    source = np.concatenate([np.full(len(part.rows), number) for number, part in enumerate(parts)])
    row = np.concatenate([part.rows for part in parts]).astype(np.int64)
    weights = np.concatenate([np.broadcast_to(part.weight, len(part.rows)) for part in parts]).astype(np.float32)
    return source, row, np.concatenate([part.labels for part in parts]), weights


def _repeated(count: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return `length` indices below `count` in order, int64: each equally often, the remainder chosen by `rng`."""
    if not count:
        return np.empty(0, np.int64)
    rest = rng.permutation(count)[: length % count]
    return np.concatenate([np.tile(np.arange(count), length // count), np.sort(rest)])


def _label_numbers(labels: np.ndarray) -> np.ndarray:
    """Return a number for each label, or set of labels, int64 (N,)."""
    return labels if labels.ndim == 1 else np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def fraction_of(data: Dataset, indices: Sequence[int], fraction: float, *, seed: int) -> list[int]:
    """Choose about `fraction` of the images at `indices`, in their order; at least one of each class unless it is 0.

    With one seed, a smaller fraction lies within a larger one.
    """
    if fraction >= 1:
        return list(indices)
    hot, chosen = data.hot()[list(indices)], set()
    for k, name in enumerate(data.classes):
        own = np.flatnonzero(hot[:, k])
        order = np.random.default_rng(derive_seed(seed, "fraction", name)).permutation(own)
        chosen |= set(order[: math.ceil(fraction * len(own))].tolist())
    return [index for place, index in enumerate(indices) if place in chosen]
