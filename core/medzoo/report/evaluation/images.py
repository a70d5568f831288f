"""The images in an evaluation's report: thumbnails embedded in the page, and contact sheets beside it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medzoo.data.images import contact_sheet, encode_png, prepare
from medzoo.evaluation.image_sets import EvaluationSet
from medzoo.evaluation.results import FAKE, REAL, TRAIN, Evaluation
from medzoo.protocols import Pair
from medzoo.report.page import PageImage, png_image

BUDGET = 3_000_000
"""Approximate bytes of all thumbnails of a page; base64 adds a third."""
PAIRS = 8
"""How many nearest pairs of a metric are shown."""

_SMALLEST, _LARGEST, _SHEET_SIDE, _SHEET_TILE = 32, 160, 256, 96


class MeasuredImages:
    """The images of the sets that were compared, by role ("real", "synthetic", "train") and index."""

    def __init__(self, sets: Mapping[str, EvaluationSet], classes: tuple[str, ...]) -> None:
        self.classes = classes  # including those that only one set has
        self._sets = sets

    def images(self, role: str, indices: Sequence[int]) -> np.ndarray:
        """Return the images as they were compared: uint8 (n, C, H, W)."""
        return self._sets[role].images[indices]

    def indices(self, role: str, label: str | None, count: int) -> Sequence[int]:
        """Return at most `count` indices spread evenly over a class, or over all; none if there is no such set."""
        if role not in self._sets:
            return []
        own = self._sets[role]
        if label is not None and label not in own.classes:
            return []
        places = own.indices(label or "")
        spread = {int(place) for place in np.linspace(0, len(places) - 1, min(count, len(places)))}
        return [int(places[place]) for place in sorted(spread)]

    def name(self, role: str, index: int) -> str:
        """Return the file name of an image in its set."""
        return self._sets[role].data.names[index]


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """Images to show: `indices` of the set `role`, under `title`."""

    role: str
    title: str
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """Rows of images to show together: real and synthetic ones of a class, or the nearest `pairs` of a metric."""

    name: str
    rows: tuple[ImageRow, ImageRow]
    pairs: tuple[Pair, ...] = ()


def class_samples(source: MeasuredImages) -> list[ImageGroup]:
    """Select a few real and synthetic images of each class."""
    count = 8 if len(source.classes) <= 6 else 4

    def select(role: str, label: str) -> ImageRow:
        return ImageRow(role=role, title=role, indices=tuple(source.indices(role, label, count)))

    return [ImageGroup(name=label, rows=(select(REAL, label), select(FAKE, label))) for label in source.classes]


def nearest_pairs(evaluation: Evaluation) -> list[ImageGroup]:
    """Select the synthetic images that each metric found closest to training images, with these."""
    groups = []
    for row in evaluation.results:
        if row.score and (pairs := row.score.pairs[:PAIRS]):
            fakes = ImageRow(role=FAKE, title="synthetic", indices=tuple(pair.fake for pair in pairs))
            trains = ImageRow(role=TRAIN, title="nearest training image", indices=tuple(pair.train for pair in pairs))
            groups.append(ImageGroup(name=row.name, pairs=pairs, rows=(fakes, trains)))
    return groups


def thumbnail_side(groups: Sequence[ImageGroup], *, size: int, channels: int) -> int:
    """Return the side in pixels at which all images, `size` square, stay within the page's budget."""
    count = sum(len(row.indices) for group in groups for row in group.rows)
    # One byte per value: PNG hardly compresses noise.
    fitting = math.isqrt(BUDGET // (max(1, count) * channels))
    return min(size, _LARGEST, max(_SMALLEST, fitting))


def thumbnails(source: MeasuredImages, row: ImageRow, side: int) -> list[PageImage]:
    """Embed the images of a row, `side` pixels square, each described by its set and file name."""
    images = source.images(row.role, list(row.indices)) if row.indices else ()
    return [
        png_image(encode_png(_shrink(image, side)), alt=f"{row.title}: {source.name(row.role, index)}", width=side)
        for index, image in zip(row.indices, images, strict=True)
    ]


def contact_sheets(
    source: MeasuredImages, classes: Sequence[ImageGroup], nearest: Sequence[ImageGroup]
) -> dict[str, bytes]:
    """Render a PNG by file name for each class that has images and each metric that found pairs."""
    stems = file_names([group.name for group in classes])
    groups = {f"samples-{stems[group.name]}.png": group for group in classes if any(row.indices for row in group.rows)}
    names = file_names([group.name for group in nearest])
    groups |= {f"{names[group.name]}.png": group for group in nearest}
    return {name: _contact_sheet(source, group.rows) for name, group in groups.items()}


def _contact_sheet(source: MeasuredImages, rows: Sequence[ImageRow]) -> bytes:
    shown = [
        (row.title, np.stack([_shrink(image, _SHEET_SIDE) for image in source.images(row.role, list(row.indices))]))
        for row in rows
        if row.indices
    ]
    scale = max(1, _SHEET_TILE // shown[0][1].shape[2])
    return encode_png(contact_sheet(shown, columns=8, scale=scale))


def file_names(names: Sequence[str]) -> Mapping[str, str]:
    """Return a file name without extension for each name: readable, safe on any system, and unique."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        stem = unique = re.sub(r"[^A-Za-z0-9@_.]+", "-", ascii_name).strip("-.")[:60] or "unnamed"
        number = 2
        while unique.lower() in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique.lower())
        stems[name] = unique
    return stems


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 (C, H, W) to at most `side` with the resize that all images go through."""
    channels, height, width = image.shape
    if max(height, width) <= side:
        return image
    decoded = image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    return prepare(decoded, size=side, channels=channels, crop="none")
