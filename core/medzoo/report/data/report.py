"""Write what `medzoo data check` found as a page, with a few images of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medzoo._version import __version__
from medzoo.data.checks import DataReport, image_names
from medzoo.data.dataset import Dataset
from medzoo.data.images import encode_png, spread
from medzoo.data.marks import Mark
from medzoo.data.pixels import prepare
from medzoo.report.page import PageImage, png_image, render
from medzoo.storage.files import check_outside, make_folder, write_atomic

REPORT = "report.html"

_SIDE = 96
_SHOWN, _SHOWN_OF_MANY, _MANY = 8, 3, 24
_GROUPS, _NAMES = 50, 20
_BESIDE = 4  # images of a duplicate group


@dataclass(frozen=True, kw_only=True)
class ClassImages:
    """A few images of one class in one part, of `count` in all."""

    name: str
    part: str
    count: int
    images: tuple[PageImage, ...]


def write_data_report(report: DataReport, dataset: Dataset, out: Path) -> Path:
    """Write report.html into the folder `out` and return its path; an earlier one is replaced.

    Raises: DataError if `out` lies within the data, where it would be found as a file of the set; ResourceError.
    """
    check_outside(out, dataset.path)
    make_folder(out)
    page = render(
        "data.html.j2",
        {
            "report": report,
            "summary": report.summary,
            "classes": _class_images(dataset.parts()),
            "groups": _groups(report.groups[:_GROUPS], dataset.parts()),
            "limit": _NAMES,
            "version": __version__,
        },
    )
    write_atomic(out / REPORT, page)
    return out / REPORT


def _class_images(parts: Mapping[str, Dataset]) -> list[ClassImages]:
    """Pick images of each class and part, evenly over those that there are."""
    rows = [(name, part) for name in next(iter(parts.values())).classes for part in parts]
    shown = _SHOWN if len(rows) <= _MANY else _SHOWN_OF_MANY
    found = []
    for name, part in rows:
        data = parts[part]
        own = np.flatnonzero(data.hot()[:, data.classes.index(name)])
        chosen = [int(own[place]) for place in spread(len(own), shown)]
        images = tuple(thumbnail(data.pixels(index), alt=f"{name}: {data.names[index]}") for index in chosen)
        found.append(ClassImages(name=name, part=part, count=len(own), images=images))
    return found


def _groups(
    groups: Sequence[Sequence[str]], parts: Mapping[str, Dataset]
) -> list[tuple[Sequence[str], list[PageImage]]]:
    """Return each duplicate group with its first images, to look at side by side."""
    places = [(part, index) for part in parts.values() for index in range(len(part))]
    where = dict(zip(image_names(parts), places, strict=True))
    found = []
    for group in groups:
        shown = [(name, *where[name]) for name in group[:_BESIDE]]
        found.append((group, [thumbnail(part.pixels(index), alt=name) for name, part, index in shown]))
    return found


def thumbnail(pixels: np.ndarray, *, alt: str, mark: Mark | None = None) -> PageImage:
    """Return an image as `Dataset.pixels` gives it, scaled alike onto a square, with the mark of a synthetic one."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    small = prepare(square, size=min(_SIDE, side), channels=1 if pixels.ndim == 2 else 3, crop="none")
    return png_image(encode_png(small, mark), alt=alt, width=_SIDE)
