"""Write a mirror: models and assets as plain files, for machines without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import DataError
from medzoo.hub.download import folder_lock
from medzoo.hub.entries import Entry
from medzoo.hub.sources import copy_checked, fetch_model, is_intact, mirror_folder
from medzoo.runs.progress import Progress
from medzoo.storage.files import disk_errors, make_folder, mark_in_use, remove_partial_files, temporary_name


@dataclass(frozen=True, kw_only=True)
class MirroredEntry:
    """What a mirror holds; `copied` says whether it had to be written."""

    entry: Entry
    folder: Path
    copied: bool


def write_mirror(
    entries: Iterable[Entry], mirror: Path, *, progress: Progress | None = None
) -> Iterator[MirroredEntry]:
    """Write each entry's files to `mirror`, checked, and yield it; what is there and intact is left alone.

    An entry's folder appears as a whole or not at all. `progress` is called as downloads proceed.

    Raises: as `fetch_model`; DataError for an entry's folder that holds other files too.
    """
    for entry in entries:
        folder = mirror_folder(mirror, entry)
        copied = not is_intact(folder, entry)
        if copied:
            cached = fetch_model(entry, progress=progress)
            with folder_lock(folder.absolute()):
                _write(entry, cached, folder)
        yield MirroredEntry(entry=entry, folder=folder, copied=copied)


def _write(entry: Entry, cached: Path, folder: Path) -> None:
    if folder.exists():
        foreign = {path.name for path in folder.iterdir()} - {file.name for file in entry.files}
        if foreign:
            raise DataError(f"{folder} holds other files too: {', '.join(sorted(foreign))}", "move them away")
    part = temporary_name(folder)
    remove_partial_files(folder.parent, of=folder)
    with disk_errors(folder):
        try:
            with mark_in_use(make_folder(part), folder=True):
                for file in entry.files:
                    copy_checked(file, cached / file.name, part / file.name)
            if folder.exists():
                shutil.rmtree(folder)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
