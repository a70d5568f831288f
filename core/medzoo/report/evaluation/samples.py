"""Images of the sets as reports show them: tiles small enough for one file, and sheets beside it."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medzoo.data.images import contact_sheet, encode_png, prepare
from medzoo.evaluation.results import FAKE, REAL, TRAIN, Evaluation
from medzoo.protocols import Pair
from medzoo.report.page import Picture, png_picture

BUDGET = 3_000_000
"""Bytes that all tiles of a page may take together, about; a third more once they are text."""
PAIRS = 8
"""How many nearest pairs of a metric are shown."""

_SMALLEST, _LARGEST, _SHEET_SIDE, _SHEET_TILE = 32, 160, 256, 96


class Pictures(Protocol):
    """The images of the sets that were compared, by role ("real", "synthetic", "train") and index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, those that only one set has among them."""

    def images(self, role: str, indices: Sequence[int]) -> np.ndarray:
        """The images at `indices`, as compared: uint8 (n, C, H, W)."""

    def indices(self, role: str, label: str | None, count: int) -> Sequence[int]:
        """At most `count` images evenly spread over those of class `label`, or of any; none where there are none."""

    def name(self, role: str, index: int) -> str:
        """The image's file name."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Images of a set to be shown: `indices` of those of `role`, under `title`."""

    role: str
    title: str
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ClassSamples:
    """Images of one class, real beside synthetic."""

    label: str
    rows: tuple[Chosen, Chosen]


@dataclass(frozen=True, kw_only=True)
class NearestPairs:
    """The synthetic images that a metric finds closest to training images, beside those."""

    name: str
    pairs: tuple[Pair, ...]
    rows: tuple[Chosen, Chosen]


def class_samples(pictures: Pictures) -> list[ClassSamples]:
    """A few images of each class, as many real as synthetic ones where both sets have them."""
    count = 8 if len(pictures.classes) <= 6 else 4

    def choose(role: str, label: str) -> Chosen:
        return Chosen(role=role, title=role, indices=tuple(pictures.indices(role, label, count)))

    return [ClassSamples(label=label, rows=(choose(REAL, label), choose(FAKE, label))) for label in pictures.classes]


def nearest_pairs(evaluation: Evaluation) -> list[NearestPairs]:
    """The closest pairs of each metric that has any."""
    found = []
    for row in evaluation.results:
        if row.score and (pairs := row.score.pairs[:PAIRS]):
            fakes = Chosen(role=FAKE, title="synthetic", indices=tuple(pair.fake for pair in pairs))
            trains = Chosen(role=TRAIN, title="nearest training image", indices=tuple(pair.train for pair in pairs))
            found.append(NearestPairs(name=row.name, pairs=pairs, rows=(fakes, trains)))
    return found


def tile_side(shown: Sequence[ClassSamples | NearestPairs], *, size: int, channels: int) -> int:
    """The side in pixels at which all images shown, `size` square, stay within the page's budget."""
    count = sum(len(row.indices) for group in shown for row in group.rows)
    # A byte a value: a PNG hardly makes noise smaller.
    fitting = math.isqrt(BUDGET // (max(1, count) * channels))
    return min(size, _LARGEST, max(_SMALLEST, fitting))


def tiles(pictures: Pictures, chosen: Chosen, side: int) -> list[Picture]:
    """The chosen images as pictures `side` pixels square, each described by its set and file name."""
    if not chosen.indices:
        return []
    shown = []
    for index, pixels in zip(chosen.indices, pictures.images(chosen.role, list(chosen.indices)), strict=True):
        alt = f"{chosen.title}: {pictures.name(chosen.role, index)}"
        shown.append(png_picture(encode_png(_shrunk(pixels, side)), alt=alt, width=side))
    return shown


def sheet(pictures: Pictures, rows: Sequence[Chosen]) -> bytes:
    """A PNG's bytes: the images of each row side by side, at no more than 256 pixels a side."""
    found = [
        (row.title, np.stack([_shrunk(pixels, _SHEET_SIDE) for pixels in pictures.images(row.role, list(row.indices))]))
        for row in rows
        if row.indices
    ]
    scale = max(1, _SHEET_TILE // found[0][1].shape[2])
    return encode_png(contact_sheet(found, columns=8, scale=scale))


def sheets(pictures: Pictures, classes: Sequence[ClassSamples], nearest: Sequence[NearestPairs]) -> dict[str, bytes]:
    """By file name, a sheet a class that has images, and one a metric that found pairs."""
    stems = file_names([group.label for group in classes])
    groups: dict[str, ClassSamples | NearestPairs] = {
        f"samples-{stems[group.label]}.png": group for group in classes if any(row.indices for row in group.rows)
    }
    names = file_names([group.name for group in nearest])
    groups |= {f"{names[group.name]}.png": group for group in nearest}
    return {name: sheet(pictures, group.rows) for name, group in groups.items()}


def file_names(names: Sequence[str]) -> Mapping[str, str]:
    """A file name, without its ending, for each name: readable, safe on any system, and no two alike."""
    given: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        stem = unique = re.sub(r"[^A-Za-z0-9@_.]+", "-", ascii_).strip("-.")[:60] or "unnamed"
        number = 2
        while unique.lower() in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique.lower())
        given[name] = unique
    return given


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 (C, H, W) no larger than `side`, by the one resize that all images go through."""
    channels, height, width = pixels.shape
    if max(height, width) <= side:
        return pixels
    decoded = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return prepare(decoded, size=side, channels=channels, crop="none")
