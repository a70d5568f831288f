"""Where a model's bytes come from: the cache, the cards that came with medzoo, or a mirror folder; the hash decides."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import ConfigError, HubError, IntegrityError, MedzooError
from medzoo.files import disk_errors, sha256_file, temporary_beside
from medzoo.places import bundled_root, cache_root
from medzoo.registry import FileRow, Row

_CHUNK = 1 << 20
_ELSEWHERE = "take a sound copy: medzoo pull ID --from DIR, or install medzoo again"


@dataclass(frozen=True, kw_only=True)
class _Source:
    name: str
    folder: Path


def model_folder(row: Row) -> Path:
    """Where the cache keeps the model; other bytes under the same id get another folder."""
    facts = "\n".join([row.revision, *sorted(f"{file.name} {file.sha256}" for file in row.files)])
    return cache_root() / "models" / row.id / hashlib.sha256(facts.encode()).hexdigest()[:12]


def locate(row: Row) -> tuple[str, Path | None]:
    """Where the model is ("cached", "bundled", "mirror" or "missing") and that folder, by names and sizes alone."""
    for source in (_Source(name="cached", folder=model_folder(row)), *_sources(row, None)):
        if _holds(source.folder, row):
            return source.name, source.folder
    return "missing", None


def fetch_model(row: Row, *, source: str | None = None, notice: Callable[[str], None] | None = None) -> Path:
    """A folder in the cache that holds every file of the model, each checked against its hash.

    `source` is "bundled" or a mirror folder, in place of the ordinary order. `notice` is told what had to be mended
    (by default, so is stderr).

    Raises: IntegrityError for bytes that are not the model's, HubError if no source has them, ResourceError.
    """
    folder = model_folder(row)
    sources = _sources(row, source)
    for file in row.files:
        target = folder / file.name
        damaged = False
        if target.is_file():
            if target.stat().st_size == file.bytes and sha256_file(target) == file.sha256:
                continue
            damaged = True
            (notice or _to_stderr)(f"{target} is damaged; taking it again")
        try:
            _fetch(row, file, target, sources, notice or _to_stderr)
        except MedzooError:
            if damaged:
                with disk_errors(target):
                    target.unlink(missing_ok=True)
            raise
    return folder


def verify_folder(folder: Path, row: Row) -> None:
    """Nothing. Raises: HubError for a file that is missing, IntegrityError for one that is not the model's."""
    for file in row.files:
        path = folder / file.name
        if not path.is_file():
            raise HubError(f"{path} is missing", f"medzoo pull {row.id}")
        _compare(file, path, sha256_file(path), path.stat().st_size)


def _sources(row: Row, source: str | None) -> list[_Source]:
    """Where to look, in order."""
    bundled = _Source(name="bundled", folder=bundled_root() / "cards" / row.id)
    if source == "bundled":
        return [bundled]
    if source is not None:
        if not Path(source).is_dir():
            raise ConfigError(f"'{source}' is neither 'bundled' nor a folder", "a mirror holds <model id>/<file>")
        return [_Source(name="mirror", folder=Path(source) / row.id)]
    mirror = os.environ.get("MEDZOO_MIRROR")
    return [bundled, *([_Source(name="mirror", folder=Path(mirror).expanduser() / row.id)] if mirror else [])]


def _holds(folder: Path, row: Row) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in row.files)
    except OSError:
        return False


def _fetch(row: Row, file: FileRow, target: Path, sources: list[_Source], notice: Callable[[str], None]) -> None:
    """Nothing; the first source that has the file gives it. A source with wrong bytes yields to the next one."""
    wrong: list[IntegrityError] = []
    for source in sources:
        if not (source.folder / file.name).is_file():
            continue
        try:
            _copy(file, source.folder / file.name, target)
        except IntegrityError as error:
            wrong.append(error)
        else:
            for earlier in wrong:
                notice(f"{earlier.message}; took it from {source.folder}")
            return
    if wrong:
        raise wrong[0]
    looked = ", ".join(str(source.folder) for source in sources)
    raise HubError(
        f"no source has {file.name} of '{row.id}' (looked in {looked})",
        f"give a folder that holds {row.id}/{file.name}: medzoo pull {row.id} --from DIR, or MEDZOO_MIRROR",
    )


def _copy(file: FileRow, origin: Path, target: Path) -> None:
    """Nothing; `target` holds the file, hashed on its way. Raises: IntegrityError, HubError, ResourceError."""
    try:
        reader = origin.open("rb")
    except OSError as error:
        raise HubError(f"cannot read {origin}: {error.strerror}") from None
    digest = hashlib.sha256()
    size = 0
    with reader, temporary_beside(target) as temporary:
        with temporary.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                size += writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        _compare(file, origin, digest.hexdigest(), size)
        temporary.replace(target)


def _compare(file: FileRow, path: Path, sha256: str, size: int) -> None:
    """Nothing. Raises: IntegrityError that says what was expected and what is there."""
    if size != file.bytes:
        raise IntegrityError(f"{path} holds {size} bytes, the registry names {file.bytes}", _ELSEWHERE)
    if sha256 != file.sha256:
        raise IntegrityError(
            f"{path} is not what the registry names: sha256 {sha256}, expected {file.sha256}", _ELSEWHERE
        )


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - a notice, where no caller takes it


__all__ = ["bundled_root", "cache_root", "fetch_model", "locate", "model_folder", "verify_folder"]
