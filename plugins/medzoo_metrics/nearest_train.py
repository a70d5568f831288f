"""Copy check: whether synthetic images are nearer to the training images than new real ones are."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import pairwise_distances_argmin

from medzoo.protocols import Histogram, Pair, Sample, Score
from medzoo_metrics.samples import FAKE, REAL, TRAIN, expect_enough, features_of

PERCENTILE = 0.01
SIGNIFICANCE = 0.01
SHOWN, BINS = 16, 40
_ROUNDING = 1e-5  # of the median distance: features of one image vary by this much from batch to batch


def nearest_train(real: Sample, fake: Sample, *, train: Sample, seed: int) -> Score:
    """The share of synthetic images as near to a training image as the nearest 1 % of the held-out `real` ones.

    Were the synthetic images as new as the held-out ones, their count below the k-th smallest of n held-out distances
    would be beta-binomial with k and n + 1 - k; "p_value" is the chance of as many, and the check failed below 0.01.
    Mirrored training images count as copies too. Figures: "threshold", "expected share", "p_value", "real median",
    "synthetic median". Nothing is drawn from `seed`. Raises: DataError for a side without two images.
    """
    expect_enough("nearest-train", 2, real=real, synthetic=fake, training=train)
    ways = [features_of("nearest-train", train, TRAIN, layer).numpy() for layer in ("features", "mirrored")]
    _, held_out = _nearest(features_of("nearest-train", real, REAL).numpy(), ways)
    index, distances = _nearest(features_of("nearest-train", fake, FAKE).numpy(), ways)
    asked = max(1, int(PERCENTILE * real.size))
    threshold = np.sort(held_out)[asked - 1]
    reach = threshold + _ROUNDING * np.median(held_out)
    rank = int((held_out <= reach).sum())  # more than asked for where distances are equal
    count = int((distances <= reach).sum())
    p_value = float(stats.betabinom.sf(count - 1, fake.size, rank, real.size + 1 - rank))
    closest = np.argsort(distances, kind="stable")[:SHOWN]
    return Score(
        value=count / fake.size,
        n_real=real.size,
        n_fake=fake.size,
        figures={
            "threshold": float(threshold),
            "expected share": rank / (real.size + 1),
            "p_value": p_value,
            "real median": float(np.median(held_out)),
            "synthetic median": float(np.median(distances)),
        },
        method=_method(rank, real.size, train.size),
        histogram=_histogram(held_out, distances),
        pairs=tuple(Pair(fake=int(k), train=int(index[k]) % train.size, distance=float(distances[k])) for k in closest),
        failed=p_value < SIGNIFICANCE,
    )


def _nearest(images: np.ndarray, ways: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For each image the index of the nearest training image, those of the second way after the first, and how far."""
    indices = np.stack([pairwise_distances_argmin(images, way) for way in ways])
    # Once more from differences: the search takes them from products, which leaves copies at 1e-8.
    distances = np.stack(
        [np.linalg.norm(images - way[index], axis=1) for way, index in zip(ways, indices, strict=True)]
    )
    way, here = distances.argmin(axis=0), np.arange(len(images))
    return indices[way, here] + way * len(ways[0]), distances[way, here]


def _method(rank: int, held_out: int, trained_on: int) -> str:
    coarse = "" if held_out >= 1 / PERCENTILE else f"; {held_out} are too few to tell their nearest 1 %"
    return (
        f"Euclidean distance to the nearest of {trained_on} training images, mirrored ones included, against that of "
        f"{held_out} held-out images; threshold: distance {rank} of theirs, exact beta-binomial test{coarse}"
    )


def _histogram(held_out: np.ndarray, distances: np.ndarray) -> Histogram:
    largest = max(held_out.max(), distances.max()) or 1.0
    edges = np.linspace(0.0, largest, BINS + 1)
    return Histogram(
        title="Distance to the nearest training image",
        unit="Euclidean distance of features",
        edges=tuple(edges.tolist()),
        shares={
            role: tuple((np.histogram(values, edges)[0] / len(values)).tolist())
            for role, values in ((REAL, held_out), (FAKE, distances))
        },
    )
