"""Images that show the same thing: equal pixels, or thumbnails that hardly differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.images import prepare

# Thumbnails of this side are compared; on BUSI, pairs above the correlation are the same scan cropped or re-saved.
THUMBNAIL = 32
THRESHOLD = 0.99
# Rows compared at once: 512 x 100,000 distances take 200 MB.
_ROWS = 512
# Thumbnails are first compared by as many of their lowest frequencies, in each direction.
_LOW = 8
_PAIRS = 4096  # compared in full at once: 32 MB


def thumbnails(dataset: Dataset) -> np.ndarray:
    """Return each image as gray 32x32 of zero mean and unit norm: float32 (N, 1024), zeros for a blank image."""
    found = np.zeros((len(dataset), THUMBNAIL * THUMBNAIL), np.float32)
    for row, pixels in zip(found, dataset.all_pixels(), strict=True):
        row[:] = prepare(pixels, size=THUMBNAIL, channels=1, crop="none").ravel()
    found -= found.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    # A blank image correlates with nothing; the bound is far below one gray level in one pixel.
    scaled = np.zeros_like(found)
    np.divide(found, norms, out=scaled, where=norms > 1e-3)
    return scaled


def near_pairs(vectors: np.ndarray) -> np.ndarray:
    """Return pairs (M, 2) int64 of rows i < j of `thumbnails` whose correlation is above 0.99, in order.

    No pair is missed: the correlation of unit vectors is 1 less half their squared distance, and the lowest frequencies
    alone (of an orthonormal cosine transform) lie no farther apart than the whole vectors do. Rows are sorted by one
    frequency and compared within the distance by 64; the few that are left are compared in full.
    """
    rows = np.flatnonzero(vectors.any(axis=1))  # a blank image is near to none
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    low = _low_frequencies(vectors[rows])
    key = int(low.var(axis=0).argmax())
    order = np.argsort(low[:, key], kind="stable")
    rows, low = rows[order], low[order]
    squares = np.einsum("ij,ij->i", low, low)
    most = 2 * (1 - THRESHOLD) + 1e-5  # the bound of the squared distance, and the rounding of 32 bits
    ends = np.searchsorted(low[:, key], low[:, key] + np.sqrt(most), side="right")
    found = []
    for start in range(0, len(rows), _ROWS):
        stop = min(start + _ROWS, len(rows))
        end = int(ends[stop - 1])
        distances = squares[start:stop, None] + squares[start:end] - 2 * (low[start:stop] @ low[start:end].T)
        first, second = np.nonzero(np.triu(distances < most, k=1))
        for begin in range(0, len(first), _PAIRS):
            pairs = np.stack(
                [rows[start + first[begin : begin + _PAIRS]], rows[start + second[begin : begin + _PAIRS]]]
            )
            close = np.einsum("ij,ij->i", vectors[pairs[0]], vectors[pairs[1]]) > THRESHOLD
            found.append(np.sort(pairs[:, close], axis=0))
    pairs = np.concatenate(found, axis=1).T if found else np.empty((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)


def _low_frequencies(vectors: np.ndarray) -> np.ndarray:
    """Return the lowest frequencies of `thumbnails` by an orthonormal cosine transform: float32 (N, 64)."""
    from scipy.fft import dctn

    found = np.empty((len(vectors), _LOW * _LOW), np.float32)
    for start in range(0, len(vectors), _ROWS):
        pictures = vectors[start : start + _ROWS].reshape(-1, THUMBNAIL, THUMBNAIL)
        found[start : start + _ROWS] = dctn(pictures, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(
            len(pictures), -1
        )
    return found


def equal_pairs(fingerprints: Sequence[str]) -> np.ndarray:
    """Return pairs (M, 2) int64 that tie each image to the first of the same fingerprint."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, index), index) for index, digest in enumerate(fingerprints)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def components(pairs: np.ndarray, *, count: int) -> np.ndarray:
    """Return the group of each of `count` images, int64 (count,), numbered from 0 by first appearance.

    Images of a pair share a group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, groups = connected_components(links, directed=False)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def image_groups(dataset: Dataset) -> np.ndarray:
    """Return a group number for each image, int64 (N,): of its patient where known, else of `duplicate_groups`.

    An image without a patient among others that have one is in the group of its duplicates, theirs included.
    """
    if dataset.patients is None:
        return duplicate_groups(dataset)
    if "" not in dataset.patients:
        return np.unique(dataset.patients, return_inverse=True)[1].astype(np.int64)
    known = [index for index, patient in enumerate(dataset.patients) if patient]
    of_patients = equal_pairs([dataset.patients[index] for index in known])
    pairs = np.array([(known[first], known[second]) for first, second in of_patients], np.int64).reshape(-1, 2)
    alike = np.concatenate([near_pairs(thumbnails(dataset)), equal_pairs(dataset.fingerprints())])
    unknown = np.array([not patient for patient in dataset.patients])
    return components(np.concatenate([pairs, alike[unknown[alike].any(axis=1)]]), count=len(dataset))


def duplicate_groups(dataset: Dataset) -> np.ndarray:
    """Return the duplicate group of each image, int64 (N,), shared by images of equal or nearly equal pixels.

    Nearly equal means a correlation above 0.99 of 32x32 gray thumbnails. Raises: DataError on an unreadable image.
    """
    pairs = np.concatenate([near_pairs(thumbnails(dataset)), equal_pairs(dataset.fingerprints())])
    return components(pairs, count=len(dataset))
