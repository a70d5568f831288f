"""Nearest images by features, and the distance below which an image counts as a near copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERCENTILE = 0.01
"""The share of real images whose distances are the lower tail."""

_ROUNDING = 1e-5  # of the median distance: features of one image vary by this much from batch to batch


def nearest(
    images: np.ndarray, references: Sequence[np.ndarray], *, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest reference of each image, int64 (N,), and its Euclidean distance (N,).

    `images` are features (N, D), and each array of `references` (M, D) holds the features of the same M images in
    another way, such as mirrored; an index of the second array is increased by M, and so on. Image i is not compared
    with reference `exclude[i]`, int64 (N,), in any way; -1 excludes none. Where that leaves none, its distance is inf.
    """
    from sklearn.metrics import pairwise_distances_argmin
    from sklearn.neighbors import NearestNeighbors

    found = []
    for way in references:
        if exclude is None or not (exclude >= 0).any():
            found.append(pairwise_distances_argmin(images, way))
            continue
        two = NearestNeighbors(n_neighbors=min(2, len(way))).fit(way).kneighbors(images, return_distance=False)
        # Among equal images, the first need not be the excluded one.
        found.append(np.where(two[:, 0] == exclude, two[:, -1], two[:, 0]))
    indices = np.stack(found)
    # Once more from differences: the search takes them from products, which leaves copies at 1e-8.
    distances = np.stack(
        [np.linalg.norm(images - way[index], axis=1) for way, index in zip(references, indices, strict=True)]
    )
    if exclude is not None:
        distances[indices == exclude] = np.inf
    which, here = distances.argmin(axis=0), np.arange(len(images))
    return indices[which, here] + which * len(references[0]), distances[which, here]


def lower_tail(distances: np.ndarray) -> tuple[float, float]:
    """Return the distance at the `PERCENTILE` of `distances` (N,), the smallest of fewer than 100, and its reach.

    Distances up to the reach are in the tail: it is larger by the rounding of features.
    """
    threshold = float(np.sort(distances)[max(1, int(PERCENTILE * len(distances))) - 1])
    return threshold, threshold + _ROUNDING * float(np.median(distances))
