"""Synthetic images among real ones: known by a table, by their file names, or by marks inside the files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medzoo.data.marks import KEYWORD, read_marks
from medzoo.data.metadata import read_metadata
from medzoo.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from medzoo.data.dataset import Dataset

PREFIX = "synthetic-"
"""How the names begin of the files that medzoo writes synthetic images to."""


def synthetic_by_name(path: Path, names: Iterable[str]) -> frozenset[str]:
    """Return the names of synthetic images, by medzoo's metadata.csv at or beside `path`, or by the names.

    The table decides on files it lists. Raises: DataError if medzoo's metadata.csv cannot be read.
    """
    rows = read_metadata(path)
    return frozenset(
        name
        for name in names
        if (rows[name]["origin"].casefold() == "synthetic" if name in rows else is_synthetic_name(name))
    )


def is_synthetic_name(name: str) -> bool:
    """Return whether a file is called as medzoo calls synthetic images: synthetic-GEN-000000.png."""
    return PurePosixPath(name).name.startswith(PREFIX)


def has_synthetic_mark(image: Image) -> bool:
    """Return whether an opened image's header says that it is synthetic, or that medzoo made it of a real one."""
    found = read_marks(image)
    return found.synthetic or KEYWORD in found.marks


def check_no_synthetic(data: Dataset, *, use: str, hint: str) -> None:
    """Raise DataError if `data` has synthetic images; `use` says why not, as in "which cannot test a model"."""
    if found := data.synthetic:
        many = f"{len(found)} synthetic images" if len(found) > 1 else "a synthetic image"
        raise DataError(f"{data.path} holds {many}, such as {min(found)}, {use}", hint)
