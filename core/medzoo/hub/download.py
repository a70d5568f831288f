"""Download a file: resumed where it stopped, checked by its hash, and only then under its final name.

`huggingface_hub.hf_hub_download` discards the part that arrived whenever it is interrupted and checks sizes only, so
files of the Hub are downloaded as those of any other address are. The session is that of huggingface_hub, so proxies,
HF_HUB_OFFLINE and timeouts mean what they mean there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from medzoo.errors import IntegrityError, ResourceError
from medzoo.hub.entries import FileEntry
from medzoo.hub.network import check_network_settings, retry, status_of
from medzoo.runs.progress import Progress, no_progress
from medzoo.storage.files import disk_errors, make_folder
from medzoo.storage.paths import cache_root

logger = logging.getLogger(__name__)

_LARGE = 1_000_000
_HINT = "run the same command again; if the error persists, report it to the publisher"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a file is: its address, the headers of a request for it, and its name in errors."""

    url: str
    headers: Mapping[str, str]
    name: str


def hub_location(repo: str, commit: str, name: str) -> Location:
    """Locate a file of a repository on the Hub; the request carries the user's token. Raises: HubError."""
    check_network_settings()
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented there

    return Location(
        url=hf_hub_url(repo, name, revision=commit),
        headers=build_hf_headers(library_name="medzoo"),
        name=f"{name} of {repo} at {commit[:12]}",
    )


def download(location: Location, file: FileEntry, target: Path, *, progress: Progress | None = None) -> None:
    """Download `file` to `target`; what arrives before an interruption stays beside it, hidden, to be resumed.

    `progress` is called with the bytes that are there, those of the file, and its name; without it, the beginning of a
    large download is logged.

    Raises: HubError; IntegrityError if its size or hash is not the expected one; ResourceError.
    """
    if progress is None and file.bytes >= _LARGE:
        logger.info("downloading %s (%.1f MB)", location.name, file.bytes / 1e6)
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.{file.digest[:12]}.part")
    try:
        with disk_errors(target):
            if part.is_symlink():
                part.unlink()
            missing = file.bytes - (part.stat().st_size if part.exists() else 0)
            if missing > (free := shutil.disk_usage(target.parent).free):
                message = f"{location.name} needs {missing / 1e6:.1f} MB, the disk has {free / 1e6:.1f} MB"
                raise ResourceError(message, "free some space, or set MEDZOO_CACHE to a folder of another disk")
            retry(
                location.name,
                lambda: _attempt(location, file, part, progress or no_progress),
                position=lambda: part.stat().st_size if part.exists() else 0,
            )
            part.replace(target)
    except (IntegrityError, ResourceError):
        part.unlink(missing_ok=True)
        raise


def _attempt(location: Location, file: FileEntry, part: Path, progress: Progress) -> None:
    """Complete `part`, which an earlier attempt may have begun, and check it. Raises: also errors of HTTP."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    have = part.stat().st_size if part.exists() else 0
    if have > file.bytes:
        have = 0
    digest = file.hash(part) if have else file.new_hash()
    progress(have, file.bytes, location.name)
    if have < file.bytes:
        headers = {**location.headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", location.url, headers=headers, timeout=timeout) as response:
            try:
                hf_raise_for_status(response)
            except HTTPError as error:
                # The file on the server is shorter than the part: begin again, to report its size.
                if status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part.unlink(missing_ok=True)
                raise
            if have and response.status_code != HTTPStatus.PARTIAL_CONTENT:  # the server ignores ranges
                digest, have = file.new_hash(), 0
            length = response.headers.get("Content-Length", "")
            if (
                length.isascii()
                and length.isdigit()
                and response.headers.get("Content-Encoding", "identity") == "identity"
            ):
                _check_size(location, file, have + int(length))
            with part.open("ab" if have else "wb") as writer:
                for chunk in response.iter_bytes():
                    have += len(chunk)
                    if have > file.bytes:
                        _check_size(location, file, have)
                    digest.update(chunk)
                    writer.write(chunk)
                    progress(have, file.bytes, location.name)
                writer.flush()
                os.fsync(writer.fileno())
        if have < file.bytes:
            raise HTTPError("the connection ended early")
    if digest.hexdigest() != file.digest:
        kind = "git's hash" if file.git_sha1 else "sha256"
        raise IntegrityError(
            f"{location.name} is corrupt: its {kind} is {digest.hexdigest()}, expected {file.digest}", _HINT
        )


def _check_size(location: Location, file: FileEntry, size: int) -> None:
    if size != file.bytes:
        raise IntegrityError(f"{location.name} has {size} bytes, expected {file.bytes}", _HINT)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes that lock `folder` waiting. Raises: ResourceError."""
    from filelock import FileLock, Timeout

    locks = make_folder(cache_root() / "locks")
    lock = FileLock(locks / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.lock")
    with disk_errors(folder):
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            logger.info("waiting for another process that writes to %s", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def mark_used(folder: Path) -> None:
    """Set the date of a folder in the cache to now, so that `medzoo cache` shows when it was last used."""
    with suppress(OSError):  # the cache may be read-only
        os.utime(folder)
