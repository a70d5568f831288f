"""The images of a gallery: those of a card's sheet one by one, those sampled anew, and those of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medzoo.data.images import decode, encode_png
from medzoo.data.marks import TRAINED, Mark
from medzoo.data.pixels import SHEET_GAP
from medzoo.hub.entries import WEIGHTS, ModelEntry
from medzoo.report.page import PageImage, png_image

if TYPE_CHECKING:
    from medzoo.generation.mixture import Source
    from medzoo.runs.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images that a model made, by class; or the whole sheet where it cannot be taken apart."""

    by_class: Mapping[str, Sequence[PageImage]] = field(default_factory=dict)
    sheet: PageImage | None = None
    caption: str = ""

    @property
    def first(self) -> list[PageImage]:
        """One image of each class."""
        return [images[0] for images in self.by_class.values() if images]


def card_samples(path: Path, entry: ModelEntry) -> Samples:
    """Return the images of a card's samples.png. Raises: DataError if it cannot be read."""
    pixels = decode(path)
    caption = "The samples of the model's card."
    tiles = _tiles(pixels, rows=len(entry.classes), size=entry.size)
    if tiles is None:
        alt = f"Synthetic images by {entry.name}, one row per class: {', '.join(entry.classes)}"
        image = np.atleast_3d(pixels).transpose(2, 0, 1)
        png = encode_png(np.ascontiguousarray(image), _mark(entry, ""))
        return Samples(sheet=png_image(png, alt=alt, width=pixels.shape[1]), caption=caption)
    shown = {label: _pictures(own, entry, label) for label, own in zip(entry.classes, tiles, strict=True)}
    return Samples(by_class=shown, caption=caption)


def _pictures(tiles: Sequence[np.ndarray], entry: ModelEntry, label: str) -> list[PageImage]:
    return [
        png_image(
            encode_png(_as_gray(tile), _mark(entry, label)),
            alt=f"Synthetic {label}, {number} of {len(tiles)}, by {entry.name}",
            width=entry.size,
        )
        for number, tile in enumerate(tiles, 1)
    ]


def _mark(entry: ModelEntry, label: str) -> Mark:
    weights = next(file.sha256 for file in entry.files if file.name == WEIGHTS)
    return Mark(source_type=TRAINED, generator=entry.name, weights_sha256=weights, label=label)


def _as_gray(tile: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 3) as (1, H, W) if its channels are equal, else as (3, H, W)."""
    channels = tile.transpose(2, 0, 1)
    return np.ascontiguousarray(channels[:1] if (channels == channels[:1]).all() else channels)


def _tiles(sheet: np.ndarray, *, rows: int, size: int) -> list[list[np.ndarray]] | None:
    """Take a sheet that `contact_sheet` drew apart: for each row its images, uint8 (size, size, 3).

    None if it is not such a sheet: then the gaps are not all of one color, or the images no whole multiple of `size`.
    """
    if sheet.ndim != 3 or rows < 1 or (sheet.shape[0] - SHEET_GAP) % rows:
        return None
    height, width = sheet.shape[:2]
    pitch = (height - SHEET_GAP) // rows
    side = pitch - SHEET_GAP
    if side < size or side % size:
        return None
    ground, scale = sheet[0, -1], side // size
    tops = [SHEET_GAP + row * pitch for row in range(rows)]
    columns: list[list[np.ndarray]] = []
    left = width - SHEET_GAP - side
    while left >= SHEET_GAP:
        # Text stands at the left of the images, mostly ground.
        own = [sheet[top : top + side, left : left + side] for top in tops]
        if all((tile == ground).all(axis=2).mean() > 0.5 for tile in own):
            break
        gaps = [sheet[:, left - SHEET_GAP : left], *(sheet[top - SHEET_GAP : top, left : left + side] for top in tops)]
        small = [tile[::scale, ::scale] for tile in own]
        if not all((gap == ground).all() for gap in gaps) or not all(
            np.array_equal(few.repeat(scale, axis=0).repeat(scale, axis=1), tile)
            for few, tile in zip(small, own, strict=True)
        ):
            return None
        columns.insert(0, small)
        left -= pitch
    return [[column[row] for column in columns] for row in range(rows)] if columns else None


def drawn_samples(entry: ModelEntry, source: Source, *, count: int, seed: int, progress: Progress) -> Samples:
    """Sample `count` images of each class. Raises: as `generation.sample.prepare`, and of sampling."""
    from medzoo.generation.sample import prepare

    # With a grid, the job needs no folder; neither is written here.
    job = prepare(entry.name, source, count=count, grid=Path("grid.png"), seed=seed)
    pixels = job.sampler.sample_all(progress=progress)
    shown: dict[str, list[PageImage]] = {label: [] for label in job.labels}
    for image, own in zip(job.plan.images(), pixels, strict=True):
        number = len(shown[image.label]) + 1
        alt = f"Synthetic {image.label}, {number} of {count}, by {entry.name}"
        png = encode_png(own, job.sampler.mark(image))
        shown[image.label].append(png_image(png, alt=alt, width=entry.size))
    steps = f"{count} of each class, sampled with seed {seed}, not selected."
    return Samples(by_class=shown, caption=steps)
