"""Summarize a dataset and find its problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.duplicates import checksums, components, distinct, equal_pairs, near_pairs, thumbnails
from medzoo.data.summary import DataSummary


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs of equal or nearly equal images: how many within a class and part, how many across."""

    pairs: int
    across_classes: int
    across_parts: int


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """A dataset's contents by part and class, its image sizes and kinds, and its faults.

    `sizes` counts images by "width x height", `kinds` by Pillow mode and bits a channel. `exact` are pairs of equal
    pixels, `near` pairs of thumbnails that correlate above 0.99 but differ. `groups` lists the images of each
    duplicate group of two or more as "part/name (class)", groups across parts and classes first. `blank` are images of
    one color all over, `synthetic` those that a model made, both as "part/name"; `summary` says how the path was read.
    Of images with several labels, `label_sets` counts those of each set of labels joined by "|", the most frequent
    first, and `labels_per_image` those of each number of labels; both are empty where images have one label.
    """

    path: str
    summary: DataSummary
    counts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    kinds: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    exact: Duplicates
    near: Duplicates
    groups: tuple[tuple[str, ...], ...]
    blank: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()
    label_sets: Mapping[str, int] = field(default_factory=dict)
    labels_per_image: Mapping[int, int] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """Each fault in one sentence; empty if there is none."""
        found = []
        if self.unreadable:
            found.append(f"unreadable images: {len(self.unreadable)}")
        if self.blank:
            found.append(f"images without content (one color all over, or all transparent): {len(self.blank)}")
        if held_out := [name for name in self.synthetic if name.startswith(("val/", "test/"))]:
            found.append(f"synthetic images in a part that should be real: {len(held_out)}")
        found += self.summary.warnings
        for kind, duplicates in (("exact", self.exact), ("near", self.near)):
            if duplicates.pairs:
                found.append(
                    f"pairs of {kind} duplicates: {duplicates.pairs} "
                    f"({duplicates.across_classes} across classes, {duplicates.across_parts} across parts)"
                )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, `problems` included."""
        return {**asdict(self), "summary": self.summary.to_dict(), "problems": list(self.problems)}


def check_dataset(dataset: Dataset) -> DataReport:
    """Report on a dataset and its held-out parts; unreadable files are those in `bad`.

    Raises: DataError on a file that cannot be read; open the dataset with `skip_bad` to have them listed.
    """
    parts = dataset.parts()
    headers = list(chain.from_iterable(part.headers for part in parts.values()))
    sizes = Counter(f"{header.width}x{header.height}" for header in headers)
    kinds = Counter(f"{header.format} {header.mode}".strip() + f", {header.bits} bit" for header in headers)
    exact, near, groups = _duplicates(parts)
    many = dataset.multi_label
    sets = Counter(label for part in parts.values() for label in (_label_sets(part) if many else ()))
    per_image = Counter(int(row.sum()) for part in parts.values() for row in (part.hot() if many else ()))
    blank = [f"{name}/{file}" for name, part in parts.items() for file in part.blank()]
    return DataReport(
        path=str(dataset.path),
        summary=dataset.summary(),
        counts={name: part.counts() for name, part in parts.items()},
        sizes=dict(sizes.most_common()),
        kinds=dict(kinds.most_common()),
        unreadable=tuple((f"{name}/{file}", why) for name, part in parts.items() for file, why in part.bad),
        exact=exact,
        near=near,
        groups=groups,
        blank=tuple(blank),
        synthetic=tuple(f"{name}/{file}" for name, part in parts.items() for file in sorted(part.synthetic)),
        label_sets=dict(sets.most_common()),
        labels_per_image=dict(sorted(per_image.items())),
    )


def image_names(parts: Mapping[str, Dataset]) -> list[str]:
    """Return what duplicate groups call each image, part by part: "part/name (class)", without a part if it is one."""
    return [
        f"{f'{name}/' if len(parts) > 1 else ''}{file} ({kind})"
        for name, part in parts.items()
        for file, kind in zip(part.names, _label_sets(part), strict=True)
    ]


def _label_sets(data: Dataset) -> list[str]:
    """Return each image's labels, joined by "|"; "no label" where it has none."""
    if not data.multi_label:
        return [data.classes[label] for label in data.labels.tolist()]
    return ["|".join(data.classes[k] for k in np.flatnonzero(row)) or "no label" for row in data.hot()]


def _duplicates(parts: Mapping[str, Dataset]) -> tuple[Duplicates, Duplicates, tuple[tuple[str, ...], ...]]:
    """Return exact duplicates, near ones, and the groups that both make over all parts."""
    rows = thumbnails(*parts.values())
    digests = [digest for part in parts.values() for digest in part.fingerprints()]
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    kinds = [label for part in parts.values() for label in _label_sets(part)]
    labels = np.unique(kinds, return_inverse=True)[1]
    # Copies of an image would make the square of their number in pairs, so it is compared once, and its pairs counted
    # as often as there are copies.
    different, counts = distinct(digests, checksums(rows), labels.tolist(), part_of.tolist())
    copies = dict(zip(different.tolist(), counts.tolist(), strict=True))
    near = np.zeros(3, np.int64)

    def close_pairs() -> Iterator[np.ndarray]:
        for pairs in near_pairs(rows, rows=different):
            found = np.array([digests[i] != digests[j] for i, j in pairs.tolist()])
            weights = np.array([copies[i] * copies[j] for i, j in pairs[found].tolist()], np.int64)
            near[:] += [(weights * apart).sum() for apart in _apart(pairs[found], labels, part_of)]
            yield pairs

    exact = equal_pairs(digests)
    groups = components(chain([exact], close_pairs()), count=len(digests))
    names = image_names(parts)
    members: dict[int, list[int]] = {}
    shared = np.bincount(groups)[groups] > 1
    for index in np.flatnonzero(shared).tolist():
        members.setdefault(int(groups[index]), []).append(index)
    # The harmful ones first: those that cross parts, then those that cross classes.
    ranked = sorted(members.values(), key=lambda group: (-len(set(part_of[group])), -len(set(labels[group]))))
    tallies = [[int(apart.sum()) for apart in _apart(exact, labels, part_of)], near.tolist()]
    of_exact, of_near = (Duplicates(pairs=one, across_classes=two, across_parts=three) for one, two, three in tallies)
    return of_exact, of_near, tuple(tuple(names[i] for i in group) for group in ranked)


def _apart(pairs: np.ndarray, labels: np.ndarray, part_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pair whether it counts at all, crosses classes, and crosses parts: bool (M,) each."""
    first, second = pairs[:, 0], pairs[:, 1]
    return np.ones(len(pairs), np.bool_), labels[first] != labels[second], part_of[first] != part_of[second]
