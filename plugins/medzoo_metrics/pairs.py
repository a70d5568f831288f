"""Means over pairs of images: within a set, its diversity; between sets, their similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import bootstrap_interval, images_at, labels_of

_BATCH = 32

Compare = Callable[[Tensor, Tensor], Tensor]
"""Compares two batches float32 (n, C, H, W) in [0, 1] pair by pair: (n,)."""


@dataclass(frozen=True, kw_only=True)
class _Within:
    """Pairs of different images of one set, `first[k]` and `second[k]` by index, and their values."""

    first: np.ndarray
    second: np.ndarray
    values: np.ndarray
    same: np.ndarray

    def means(self) -> tuple[float, float, float]:
        """Return the mean over all pairs, those within a class, and those between classes; NaN if there is none."""
        return _mean(self.values), _mean(self.values[self.same]), _mean(self.values[~self.same])

    def interval(self, size: int, seed: int) -> tuple[float, float] | None:
        """Bootstrap the 95 % interval of the mean over all pairs, by resampling images."""

        def mean(images: np.ndarray, axis: int) -> np.ndarray:
            drawn = np.moveaxis(images, axis, -1)
            times = np.stack([np.bincount(row, minlength=size) for row in drawn.reshape(-1, drawn.shape[-1])])
            weights = times[:, self.first] * times[:, self.second]
            means: np.ndarray = (weights @ self.values / weights.sum(axis=1)).reshape(drawn.shape[:-1])
            return means

        return bootstrap_interval(mean, np.arange(size), seed=seed)


def diversity(compare: Compare, what: str, real: Sample, fake: Sample, *, seed: int, pairs: int) -> Score:
    """Average `compare` over up to `pairs` seeded pairs of synthetic images.

    Details: the means over pairs within and between classes, and all three of the real set. `what` names `compare` in
    the score's `method`.
    """
    mine = _within(compare, fake, seed, pairs)
    overall, within, between = mine.means()
    reference = _within(compare, real, seed, pairs).means()
    names = ("real overall", "real within classes", "real between classes")
    return Score(
        value=overall,
        spread=float(mine.values.std()),
        spread_over="pairs",
        interval=mine.interval(fake.size, seed),
        n_real=real.size,
        n_fake=fake.size,
        details={"within classes": within, "between classes": between, **dict(zip(names, reference, strict=True))},
        method=f"{what}; {len(mine.values)} random pairs within the synthetic set; bootstrap over images",
    )


def between_sets(compare: Compare, what: str, real: Sample, fake: Sample, *, seed: int, pairs: int) -> Score:
    """Average `compare` over up to `pairs` random pairs of a real and a synthetic image; no image is in two pairs."""
    random = np.random.default_rng(seed)
    count = min(pairs, real.size, fake.size)
    chosen = [random.permutation(sample.size)[:count] for sample in (real, fake)]
    values = _compared(compare, (real, fake), chosen)
    return Score(
        value=float(values.mean()),
        spread=float(values.std()),
        spread_over="pairs",
        interval=bootstrap_interval(lambda drawn, axis: drawn.mean(axis=axis), values, seed=seed),
        n_real=real.size,
        n_fake=fake.size,
        method=f"{what}; {count} random pairs of a real and a synthetic image, none in two; bootstrap over pairs",
    )


def _within(compare: Compare, sample: Sample, seed: int, pairs: int) -> _Within:
    """Compare up to `pairs` different pairs of `sample`."""
    total = sample.size * (sample.size - 1) // 2
    number = np.random.default_rng(seed).choice(total, min(total, pairs), replace=False)
    # Pair (i, j), i < j, has the number j (j - 1) / 2 + i.
    second = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) // 2).astype(np.int64)
    first = number - second * (second - 1) // 2
    labels = labels_of(sample)
    values = _compared(compare, (sample, sample), (first, second))
    return _Within(first=first, second=second, values=values, same=labels[first] == labels[second])


def _compared(compare: Compare, samples: Sequence[Sample], chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Compare the images chosen from either sample, float64 (n,), in batches."""
    values = []
    for start in range(0, len(chosen[0]), _BATCH):
        first, second = (
            images_at(sample, indices[start : start + _BATCH]) for sample, indices in zip(samples, chosen, strict=True)
        )
        values.append(compare(first, second).detach().cpu().double())
    return torch.cat(values).numpy()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
