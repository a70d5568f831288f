"""The images in an evaluation's report: thumbnails embedded in the page, and contact sheets beside it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medzoo.data.images import encode_png, spread
from medzoo.data.pixels import contact_sheet, prepare
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
        return [int(places[place]) for place in spread(len(places), count)]

    def name(self, role: str, index: int) -> str:
        """Return the file name of an image in its set."""
        return self._sets[role].data.names[index]


class ImageRow(NamedTuple):
    """Images to show: `indices` of the set `role`, under `title`."""

    role: str
    title: str
    indices: Sequence[int]


Groups = Mapping[str, tuple[ImageRow, ImageRow]]
"""By class, rows of real and of synthetic images; by metric, rows of synthetic and of their nearest training images."""


def class_samples(source: MeasuredImages) -> Groups:
    """Select a few real and synthetic images of each class."""
    count = 8 if len(source.classes) <= 6 else 4
    rows = {
        label: [ImageRow(role, role, source.indices(role, label, count)) for role in (REAL, FAKE)]
        for label in source.classes
    }
    return {label: (real, fake) for label, (real, fake) in rows.items()}


def nearest_pairs(evaluation: Evaluation) -> dict[str, Sequence[Pair]]:
    """Return the synthetic images that each metric found closest to training images, with these."""
    return {row.name: row.score.pairs[:PAIRS] for row in evaluation.results if row.score and row.score.pairs}


def pair_rows(nearest: Mapping[str, Sequence[Pair]]) -> Groups:
    """Return the images of each metric's nearest pairs."""
    return {
        name: (
            ImageRow(FAKE, "synthetic", [pair.fake for pair in pairs]),
            ImageRow(TRAIN, "nearest training image", [pair.train for pair in pairs]),
        )
        for name, pairs in nearest.items()
    }


def thumbnail_side(count: int, *, size: int, channels: int) -> int:
    """Return the side in pixels at which `count` images, `size` square, stay within the page's budget."""
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


def contact_sheets(source: MeasuredImages, classes: Groups, nearest: Groups) -> dict[str, bytes]:
    """Render a PNG by file name for each class that has images and each metric that found pairs."""
    groups = {f"samples-{stem}.png": classes[name] for name, stem in file_names(list(classes)).items()}
    groups |= {f"{stem}.png": nearest[name] for name, stem in file_names(list(nearest)).items()}
    sheets = {}
    for name, rows in groups.items():
        shown = [
            (row.title, np.stack([_shrink(image, _SHEET_SIDE) for image in source.images(row.role, list(row.indices))]))
            for row in rows
            if row.indices
        ]
        if shown:
            scale = max(1, _SHEET_TILE // shown[0][1].shape[2])
            sheets[name] = encode_png(contact_sheet(shown, columns=8, scale=scale))
    return sheets


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
