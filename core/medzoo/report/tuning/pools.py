"""The pools in a tuning's report: a few images of each class, those that vary real images below their sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.data.images import decode, encode_png, spread
from medzoo.data.metadata import read_metadata
from medzoo.data.pixels import prepare
from medzoo.errors import MedzooError
from medzoo.report.evaluation.images import thumbnail_side
from medzoo.report.page import PageImage, png_image
from medzoo.runs.record import read_run
from medzoo.tuning.results import POOLS, PoolInfo, TuningResult

_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class ClassSamples:
    """A few images of a class; `sources` are the real images they vary, or empty."""

    label: str
    images: tuple[PageImage, ...]
    sources: tuple[PageImage, ...]


@dataclass(frozen=True, kw_only=True)
class PoolSamples:
    """A pool and a few of its images, by class; none where they are no longer there."""

    info: PoolInfo
    classes: tuple[ClassSamples, ...]


def pool_images(result: TuningResult) -> list[PoolSamples]:
    """Read a few images of each pool, evenly over each class."""
    tables = {pool.name: _rows(result.folder / POOLS / pool.name) for pool in result.pools}
    total = sum(2 * _SHOWN for rows in tables.values() for _ in {row["label"] for row in rows})
    return [
        PoolSamples(info=pool, classes=tuple(_classes(result, pool, tables[pool.name], total))) for pool in result.pools
    ]


def _rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a pool's metadata.csv; none where the pool is no longer there."""
    try:
        rows = read_metadata(folder)
    except MedzooError:
        return []
    return [row for row in rows.values() if {"label", "source_image"} <= row.keys()]


def _classes(result: TuningResult, pool: PoolInfo, rows: Sequence[Mapping[str, str]], total: int) -> list[ClassSamples]:
    folder, data = result.folder / POOLS / pool.name, Path(str(result.provenance.get("data", {}).get("path", "")))
    crop, found = _crop(folder), []
    for label in dict.fromkeys(row["label"] for row in rows):
        own = [row for row in rows if row["label"] == label]
        chosen = [own[place] for place in spread(len(own), _SHOWN)]
        made = [_thumbnail(folder / row["file_name"], f"synthetic, {label}", total, crop="none") for row in chosen]
        real = [_thumbnail(path, f"source, {label}", total, crop=crop) for path in _sources(data, chosen)]
        # A source that is missing would stand above the wrong image.
        whole = len(real) == len(made) and all(real)
        images = tuple(image for image in made if image is not None)
        if images:
            sources = tuple(image for image in real if image is not None) if whole else ()
            found.append(ClassSamples(label=label, images=images, sources=sources))
    return found


def _sources(data: Path, rows: Sequence[Mapping[str, str]]) -> list[Path]:
    """Return the files of the real images that these vary; [] where they vary none, or one is no longer there."""
    names = [row["source_image"] for row in rows]
    for folder in (data, data / "train"):
        if all(name and (folder / name).is_file() for name in names):
            return [folder / name for name in names]
    return []


def _crop(folder: Path) -> str:
    """Return how the pool's generator crops real images."""
    try:
        settings: Mapping[str, Any] = (read_run(folder) or {}).get("config", {})
    except MedzooError:
        return "none"
    return next((str(value) for key, value in settings.items() if key.endswith(".image.crop")), "none")


def _thumbnail(path: Path, alt: str, total: int, *, crop: str) -> PageImage | None:
    """Embed an image; None if it cannot be read."""
    try:
        pixels = decode(path)
        channels = 1 if pixels.ndim == 2 else 3
        side = thumbnail_side(total, size=128, channels=channels)
        square = prepare(pixels, size=min(side, max(pixels.shape[:2])), channels=channels, crop=crop)
    except MedzooError:
        return None
    return png_image(encode_png(square), alt=f"{alt}: {path.name}", width=side)
