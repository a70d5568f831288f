"""What a filling job writes beside its pictures: the plan it belongs to, metadata.csv, the contact sheet."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.images import contact_sheet, prepare, write_image
from medzoo.generation.plan import Picture
from medzoo.generation.sampler import Studio
from medzoo.storage.files import temporary_beside

METADATA = "metadata.csv"
FIELDS = ("file_name", "label", "origin", "generator", "weights_sha256", "seed", "source_image", "sha256")
COLUMNS = 8
_SHEET_SIDE = 96


def listing_digest(data: Dataset) -> str:
    """The SHA-256 of the images' names and labels in order: what file names of originals and sources hang on."""
    lines = (f"{name}\t{data.classes[label]}" for name, label in zip(data.names, data.labels.tolist(), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_metadata(folder: Path, studio: Studio, originals: Sequence[str]) -> Path:
    """The path of metadata.csv, one row a file: originals first, then synthetic pictures in the plan's order.

    Raises: ResourceError.
    """
    path = folder / METADATA
    with temporary_beside(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            for row in _rows(studio, originals):
                digest = hashlib.sha256((folder / row[0]).read_bytes()).hexdigest()
                writer.writerow((*row, digest))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path


def _rows(studio: Studio, originals: Sequence[str]) -> Iterator[tuple[str, ...]]:
    real, plan = studio.real, studio.plan
    for index, name in enumerate(originals):
        assert real is not None  # originals are its files
        yield name, real.classes[int(real.labels[index])], "real", "", "", "", real.names[index]
    for picture in plan.pictures():
        weights = studio.models[picture.generator].weights_sha256 or ""
        source = studio.source(picture)
        source_name = real.names[source] if real is not None and source is not None else ""
        seed = str(plan.seed_of(picture))
        yield picture.file, picture.label, "synthetic", picture.generator_name, weights, seed, source_name


def sheet_beside(folder: Path) -> Path:
    """Where a folder's contact sheet goes: not into it, where Hugging Face's reader asks metadata of every image."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.parent / f"{named.name}.contact-sheet.png"


def write_sheet(
    path: Path, studio: Studio, labels: Sequence[str], *, look: Callable[[Picture], np.ndarray], tiles: int = COLUMNS
) -> bool:
    """Whether there was anything to show: for each label a row of real and one of synthetic images, at most `tiles`.

    `look` gives a picture's pixels as decoded. Raises: ResourceError.
    """
    size = max(model.image.size for model in studio.models)
    channels = max(model.image.channels for model in studio.models)
    crop = studio.models[0].crop
    rows: list[tuple[str, np.ndarray]] = []
    for label in labels:
        made = [look(picture) for picture in studio.plan.spread(label, tiles)]
        found = (("real", _real_pixels(studio.real, label), crop), ("synthetic", made, "none"))
        for origin, pixels, how in found:
            if pixels:
                squares = [prepare(image, size=size, channels=channels, crop=how) for image in pixels]
                rows.append((f"{label}\n{origin}", np.stack(squares)))
    if rows:
        write_image(path, contact_sheet(rows, columns=COLUMNS, scale=max(1, _SHEET_SIDE // size)))
    return bool(rows)


def _real_pixels(real: Dataset | None, label: str) -> list[np.ndarray]:
    """A few images of a class as stored, evenly over the data."""
    if real is None or label not in real.classes:
        return []
    own = np.flatnonzero(real.labels == real.classes.index(label))
    places = {int(place) for place in np.linspace(0, len(own) - 1, min(COLUMNS, len(own)))}
    return [real.pixels(int(own[place])) for place in sorted(places)]
