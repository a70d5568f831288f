"""A directory mirror: models and assets as plain files, for machines without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import DataError
from medzoo.hub.download import Progress, folder_lock
from medzoo.hub.registry import AssetEntry, ModelEntry
from medzoo.hub.sources import copy_checked, fetch_model, is_sound, mirror_folder
from medzoo.storage.files import disk_errors


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """What a mirror holds; `copied` says whether it had to be written."""

    entry: ModelEntry | AssetEntry
    folder: Path
    copied: bool


def write_mirror(
    entries: Iterable[ModelEntry | AssetEntry],
    mirror: Path,
    *,
    watch: Callable[[str], Progress] | None = None,
) -> Iterator[Mirrored]:
    """Each entry once `mirror` holds all its files, checked; what is there and sound is left alone.

    A entry's folder appears whole or not at all. `watch` gives the progress of a entry's downloads.

    Raises: as `fetch_model`; DataError for a folder of a entry that holds other files too.
    """
    for entry in entries:
        folder = mirror_folder(mirror, entry)
        copied = False
        if not is_sound(folder, entry):
            cached = fetch_model(entry, progress=watch(entry.id) if watch else None)
            with folder_lock(folder.absolute()):
                _write(entry, cached, folder)
            copied = True
        yield Mirrored(entry=entry, folder=folder, copied=copied)


def _write(entry: ModelEntry | AssetEntry, cached: Path, folder: Path) -> None:
    """Nothing; `folder` is written anew with the files of the entry."""
    if folder.exists():
        foreign = {entry.name for entry in folder.iterdir()} - {file.name for file in entry.files}
        if foreign:
            raise DataError(f"{folder} holds other files too: {', '.join(sorted(foreign))}", "move them away")
    part = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}.part")
    with disk_errors(folder):
        try:
            for file in entry.files:
                copy_checked(file, cached / file.name, part / file.name)
            if folder.exists():
                shutil.rmtree(folder)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
