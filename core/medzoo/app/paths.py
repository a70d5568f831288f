"""Confine what a request names to the folder that the workbench serves."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medzoo.data.spellings import part_of
from medzoo.errors import ConfigError, DataError
from medzoo.storage.files import make_folder

STATE = ".medzoo-app"
"""The folder of the workbench's own files in its root; hidden, so that readers of image folders skip it."""

_DEPTH, _MOST = 4, 500
_LONGEST, _LONGEST_NAME = 2000, 255  # letters of a path, bytes of a name: no disk takes longer ones
_OUTSIDE = "give a path inside the folder that `medzoo app --root` names"
_DRIVE = re.compile(r"[A-Za-z]:")


def open_root(root: Path) -> Path:
    """Return the folder to serve, resolved, with its folder for own files. Raises: DataError, ResourceError."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", "name one with --root")
    found = root.resolve()
    if (found / STATE).is_symlink():
        raise DataError(f"{found / STATE} is a link", "remove it: the workbench keeps its own files there")
    make_folder(found / STATE)
    return found


def inside(root: Path, text: str) -> Path:
    """Return the path that `text` names in `root`, all links followed. It need not exist.

    Raises: ConfigError for an absolute path, one that goes up, or one that a link leads out of `root`.
    """
    parts = text.split("/")
    too_long = len(text) > _LONGEST or any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts)
    if (
        not text
        or too_long
        or "\0" in text
        or "\\" in text
        or text.startswith(("/", "~"))
        or _DRIVE.match(text)
        or ".." in parts
    ):
        raise ConfigError(f"'{text}' is not a path inside the served folder", _OUTSIDE)
    try:
        found = (root / text).resolve()
    except (OSError, RuntimeError, ValueError):  # as of links in a circle, or of names that no disk takes
        raise ConfigError(f"'{text}' is not a path inside the served folder", _OUTSIDE) from None
    if not found.is_relative_to(root):
        raise ConfigError(f"'{text}' leads out of the served folder", _OUTSIDE)
    return found


def open_data(root: Path, text: str) -> Path:
    """Return the path of a folder of images, or of an npz, that may be read whole.

    A CSV is refused, because it may name any file. Raises: ConfigError, as `inside`; DataError for a path that is not
    there, or that holds a link which leads out of `root`.
    """
    path = inside(root, text)
    if not path.exists():
        raise DataError(f"{text} does not exist", "choose a folder of images")
    if not path.is_dir():
        if path.suffix.lower() != ".npz":
            raise DataError(f"{text} is neither a folder nor an npz", "the workbench reads class folders and npz files")
        return path
    # The parts beside a folder called train are read with it.
    whole = path.parent if part_of(path.name) == "train" else path
    if not whole.is_relative_to(root):
        raise DataError(
            f"the folders beside {path.name} are read with it, and are not served", f"serve its parent: {whole}"
        )
    check_links(root, whole)
    return path


def new_folder_path(root: Path, text: str) -> Path:
    """Return the path of a folder to write, below `root` and not among the workbench's own files.

    Raises: ConfigError, as `inside`; DataError for `root` itself, or a folder with a link which leads out of `root`.
    """
    path = inside(root, text)
    if path == root or path.is_relative_to(root / STATE):
        raise ConfigError(f"'{text}' cannot be written to", "name a new folder")
    if path.is_dir():
        check_links(root, path)
    return path


def check_links(root: Path, folder: Path) -> None:
    """Raise DataError if a link in `folder` leads out of `root`: verbs follow links."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise DataError(
                    f"{path.relative_to(root).as_posix()} is a link that leads out of the served folder",
                    "copy what it leads to, or serve a folder that holds both",
                )


def as_argument(root: Path, path: Path) -> str:
    """Return a path in `root` as an argument of a command that runs there, and that takes it for no option."""
    text = path.relative_to(root).as_posix()
    return f"./{text}" if text.startswith("-") else text


def list_folders(root: Path) -> list[str]:
    """Return folders below `root` by relative path, up to four levels deep and 500 of them, without hidden ones."""
    return [path.relative_to(root).as_posix() for path in walk(root) if path != root]


def list_pages(root: Path) -> list[str]:
    """Return the HTML files below `root` by relative path, as deep as `list_folders`, newest first.

    Of a gallery, its first page alone, which leads to the others.
    """
    found = [
        path
        for folder in walk(root)
        if not (folder.name == "models" and (folder.parent / "gallery.json").is_file())
        for path in _entries(folder)
        if path.suffix == ".html" and not path.name.startswith(".") and not path.is_symlink() and path.is_file()
    ]
    found.sort(key=lambda path: (-path.stat().st_mtime, path.as_posix()))
    return [path.relative_to(root).as_posix() for path in found[:_MOST]]


def walk(root: Path) -> list[Path]:
    """Return `root` and folders below it, four levels deep, without hidden ones and links: 500 at most."""
    level, found = [root], [root]
    for _ in range(_DEPTH):
        level = [
            path
            for folder in level
            for path in _entries(folder)
            if not path.name.startswith(".") and not path.is_symlink() and path.is_dir()
        ]
        found += level
        if len(found) > _MOST:
            break
    return found[:_MOST]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
