"""Images that show the same thing: equal pixels, or thumbnails that hardly differ."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from zlib import crc32

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.image_facts import THUMBNAIL

# On BUSI, pairs above this correlation are the same scan cropped or re-saved.
THRESHOLD = 0.99
# Below this norm, far less than one gray level in one pixel, an image is blank and correlates with nothing.
_BLANK = 1e-3
# Thumbnails are first compared by as many of their lowest frequencies, in each direction, and before that by the few
# directions in which these vary most.
_LOW = 8
_DIRECTIONS = 8
_ROUNDING = 1e-5  # of a squared distance, in 32 bits
_ROWS = 2048  # searched at once: at worst 100 MB of distances
_PAIRS = 4096  # compared in full at once: 32 MB
_LINKS = 1 << 21  # pairs held at once before they are reduced to groups


def thumbnails(*datasets: Dataset) -> np.ndarray:
    """Return each image of the datasets in turn as gray 32x32: uint8 (N, 1024), 1 MB for a thousand images."""
    found = np.empty((sum(map(len, datasets)), THUMBNAIL * THUMBNAIL), np.uint8)
    every = itertools.chain.from_iterable(dataset.thumbnails() for dataset in datasets)
    for row, thumbnail in zip(found, every, strict=True):
        row[:] = np.frombuffer(thumbnail, np.uint8)
    return found


def standardized(rows: np.ndarray) -> np.ndarray:
    """Return thumbnails with zero mean and unit norm: float32 (N, 1024), zeros for a blank image.

    The product of two is their correlation.
    """
    found = rows.astype(np.float32)
    found -= found.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    scaled = np.zeros_like(found)
    np.divide(found, norms, out=scaled, where=norms > _BLANK)
    return scaled


def near_pairs(
    first: np.ndarray, second: np.ndarray | None = None, *, rows: np.ndarray | None = None, above: float = THRESHOLD
) -> Iterator[np.ndarray]:
    """Yield pairs (M, 2) int64 of thumbnails, each pair once, that correlate above `above`, at least 0.

    They are rows i < j of `first`, of only `rows` among them if given, or a row of `first` and one of `second`.

    No pair is missed: the correlation of unit vectors is 1 less half their squared distance, and their lowest
    frequencies alone (of an orthonormal cosine transform), or these seen from a few directions, lie no farther apart
    than the whole vectors do. k-d trees find what is near in those directions, and only that is compared further.
    Beside the thumbnails, 0.4 MB are needed for a thousand of them.
    """
    blocks = [_low_frequencies(first, rows)]
    blocks += [_low_frequencies(second, None)] if second is not None else []
    covariance = sum(low.T @ low for _, low in blocks)
    _, directions = np.linalg.eigh(covariance)
    sides = [_Side(places, low @ directions[:, ::-1]) for places, low in blocks]
    own, other = sides[0], sides[-1]
    most = 2 * (1 - above) + _ROUNDING
    for a, b in _close_blocks(own, other, np.sqrt(most)):
        candidates = _within(own, other, a, b, np.sqrt(most))
        for start in range(0, len(candidates), _ROWS * 16):
            pairs = candidates[start : start + _ROWS * 16]
            apart = own.low[pairs[:, 0]] - other.low[pairs[:, 1]]
            pairs = pairs[np.einsum("ij,ij->i", apart, apart) < most]
            pairs = np.stack([own.places[pairs[:, 0]], other.places[pairs[:, 1]]], axis=1)
            if second is None:
                pairs.sort(axis=1)
            for begin in range(0, len(pairs), _PAIRS):
                few = pairs[begin : begin + _PAIRS]
                found = few[correlations(first, first if second is None else second, few) > above]
                if len(found):
                    yield found


def resemble(first: np.ndarray, second: np.ndarray, *, above: float = THRESHOLD) -> np.ndarray:
    """Return of each thumbnail of `first` whether it correlates above `above` with any of `second`: bool (N,)."""
    found = np.zeros(len(first), np.bool_)
    for pairs in near_pairs(first, second, above=above):
        found[pairs[:, 0]] = True
    return found


def just_below(correlation: float) -> float:
    """Return the greatest correlation, in 32 bits, below this one: pairs above it have this one or more."""
    return float(np.nextafter(np.float32(correlation), np.float32(-1)))


class _Side:
    """One of the two sets of thumbnails that are compared: their rows (`places`) and lowest frequencies.

    Both are in the order of a k-d tree's leaves, so that each block of `_ROWS` lies close together.
    """

    def __init__(self, places: np.ndarray, low: np.ndarray) -> None:
        from scipy.spatial import cKDTree

        order = cKDTree(low[:, :_DIRECTIONS]).indices if len(low) else np.empty(0, np.int64)
        self.places, self.low = places[order], low[order]
        few = np.ascontiguousarray(self.low[:, :_DIRECTIONS])
        self.starts = range(0, len(few), _ROWS)
        parts = [few[start : start + _ROWS] for start in self.starts]
        self.trees = [cKDTree(part) for part in parts]
        self.lowest = np.array([part.min(axis=0) for part in parts]).reshape(-1, _DIRECTIONS)
        self.highest = np.array([part.max(axis=0) for part in parts]).reshape(-1, _DIRECTIONS)


def _close_blocks(own: _Side, other: _Side, reach: float) -> Iterator[tuple[int, int]]:
    """Yield which blocks of the two sides may hold thumbnails within `reach`; of one side alone, each two once."""
    for a in range(len(own.starts)):
        gaps = np.maximum(np.maximum(own.lowest[a] - other.highest, other.lowest - own.highest[a]), 0)
        for b in np.flatnonzero(np.einsum("ij,ij->i", gaps, gaps) <= reach * reach).tolist():
            if own is not other or a <= b:
                yield a, b


def _within(own: _Side, other: _Side, a: int, b: int, reach: float) -> np.ndarray:
    """Return pairs (M, 2) of rows of two blocks that lie within `reach` in the few directions."""
    if own is other and a == b:
        pairs: np.ndarray = own.trees[a].query_pairs(reach, output_type="ndarray") + own.starts[a]
        return pairs
    found: np.ndarray = own.trees[a].sparse_distance_matrix(other.trees[b], reach, output_type="ndarray")
    return np.stack([found["i"] + own.starts[a], found["j"] + other.starts[b]], axis=1)


def correlations(first: np.ndarray, second: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of rows of two sets of thumbnails: float32 (M,)."""
    of_first, left = np.unique(pairs[:, 0], return_inverse=True)
    of_second, right = np.unique(pairs[:, 1], return_inverse=True)
    found: np.ndarray = np.einsum(
        "ij,ij->i", standardized(first[of_first])[left], standardized(second[of_second])[right]
    )
    return found


def _low_frequencies(rows: np.ndarray, chosen: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the `chosen` rows, by default all, are not blank, and their lowest frequencies.

    These are float32 (N, 64), by an orthonormal cosine transform of the standardized thumbnails.
    """
    from scipy.fft import dct

    places = np.arange(len(rows)) if chosen is None else chosen
    waves = dct(np.eye(THUMBNAIL, dtype=np.float32), norm="ortho", axis=1)[:, :_LOW]
    transform = np.kron(waves, waves)
    found, kept = np.empty((len(places), _LOW * _LOW), np.float32), np.empty(len(places), np.bool_)
    for start in range(0, len(places), _ROWS):
        vectors = standardized(rows[places[start : start + _ROWS]])
        found[start : start + _ROWS] = vectors @ transform
        kept[start : start + _ROWS] = vectors.any(axis=1)
    return places[kept], found[kept]


def distinct(*keys: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first place of each distinct combination of keys, and how many places have it: int64 (M,) each."""
    first: dict[tuple[Hashable, ...], int] = {}
    of_place = np.array([first.setdefault(key, place) for place, key in enumerate(zip(*keys, strict=True))], np.int64)
    places, counts = np.unique(of_place, return_counts=True)
    return places, counts


def checksums(rows: np.ndarray) -> list[int]:
    """Return a number for each thumbnail that tells those of equal fingerprints apart, which a gray window may do."""
    return [crc32(row.data) for row in rows]


def equal_pairs(fingerprints: Sequence[str]) -> np.ndarray:
    """Return pairs (M, 2) int64 that tie each image to the first of the same fingerprint."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, index), index) for index, digest in enumerate(fingerprints)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def components(pairs: Iterable[np.ndarray], *, count: int) -> np.ndarray:
    """Return the group of each of `count` images, int64 (count,), numbered from 0 by first appearance.

    Images of a pair share a group; `pairs` are blocks (M, 2), of which few are held at a time.
    """
    held, total = [np.empty((0, 2), np.int64)], 0
    for block in pairs:
        held.append(block)
        total += len(block)
        if total > max(_LINKS, 2 * count):
            # What the pairs say of groups takes no more than one pair for each image.
            groups = _connected(np.concatenate(held), count=count)
            _, first = np.unique(groups, return_index=True)
            held = [np.stack([first[groups], np.arange(count)], axis=1)]
            total = count
    groups = _connected(np.concatenate(held), count=count)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _connected(pairs: np.ndarray, *, count: int) -> np.ndarray:
    """Return the group of each of `count` images, in any order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups: np.ndarray = connected_components(links, directed=False)[1]
    return groups


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
    unknown = np.array([not patient for patient in dataset.patients])
    rows = thumbnails(dataset)
    # Every copy of an image is compared here: it counts which of them has a patient.
    alike = itertools.chain([equal_pairs(dataset.fingerprints())], near_pairs(rows))
    links = (block[unknown[block].any(axis=1)] for block in alike)
    return components(itertools.chain([pairs], links), count=len(dataset))


def duplicate_groups(dataset: Dataset) -> np.ndarray:
    """Return the duplicate group of each image, int64 (N,), shared by images of equal or nearly equal pixels.

    Nearly equal means a correlation above 0.99 of 32x32 gray thumbnails. Raises: DataError on an unreadable image.
    """
    digests, rows = dataset.fingerprints(), thumbnails(dataset)
    different, _ = distinct(digests, checksums(rows))
    return components(itertools.chain([equal_pairs(digests)], near_pairs(rows, rows=different)), count=len(dataset))
