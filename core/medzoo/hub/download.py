"""Files streamed over HTTP: hashed on their way, resumed where they broke off, never half under their name.

huggingface_hub's own downloads compare sizes only, keep nothing of what broke off early, and take an old snapshot for
a Hub that fails; so they are not used. Its session is: proxies, HF_HUB_OFFLINE and time-outs mean what they mean there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from medzoo.errors import IntegrityError, ResourceError
from medzoo.hub.network import explain, pause_after, status_of
from medzoo.storage.files import disk_errors, make_folder
from medzoo.storage.paths import cache_root

if TYPE_CHECKING:
    from hashlib import _Hash

logger = logging.getLogger(__name__)


Progress = Callable[[str, int, int], None]
"""Told a file's name, how many of its bytes are there and how many it has; from several threads."""

_CHUNK = 1 << 20
_WORTH_TELLING = 1_000_000
_WORTH_COUNTING = 1_000_000
"""Bytes; a connection that brought as many has the file begun well enough for every further attempt again."""
_AT_ONCE = 4
_PATIENCE = 30.0
_SLOWEST = 1024.0
"""Bytes a second, over `_PATIENCE` seconds; a slower connection counts as broken."""
_KINDS = {"sha256": "sha256", "git": "git's hash"}
_TAKE_AGAIN = "run the same command again; if it persists, tell whoever published it"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file by its name, size and hash: `kind` is "sha256", or "git" for the SHA-1 git gives a blob."""

    name: str
    bytes: int
    digest: str
    kind: str = "sha256"

    def new_hash(self) -> _Hash:
        """What the file's bytes go into, to give `digest`."""
        if self.kind == "sha256":
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one, by size and hash."""
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        digest = self.new_hash()
        _feed(digest, path)
        return digest.hexdigest() == self.digest


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a file is: its address, the headers that go with a request, and how errors call it."""

    url: str
    headers: Mapping[str, str]
    what: str


class Stopped(Exception):
    """A download given up because another one failed, or the user wants no more."""


class _Broken(Exception):
    """A connection that ended early or is as good as dead."""


def hub_origin(repo: str, revision: str, name: str) -> Origin:
    """A file of a Hub repository; its request carries the user's token."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented there

    url = hf_hub_url(repo, name, revision=revision)
    headers = build_hf_headers(library_name="medzoo")
    return Origin(url=url, headers=headers, what=f"{name} of {repo} at {revision[:12]}")


def url_origin(url: str) -> Origin:
    """A file anywhere else; its request carries no token."""
    return Origin(url=url, headers={}, what=url)


def download(origin: Origin, wanted: Wanted, target: Path, *, stop: threading.Event, progress: Progress) -> None:
    """Nothing; `target` holds the file. What arrived before a break stays beside it, hidden, for the next attempt.

    Raises: HubError, IntegrityError for other bytes than those wanted, ResourceError, Stopped.
    """
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.{wanted.digest[:12]}.part")
    try:
        with disk_errors(target):
            _Transfer(origin=origin, wanted=wanted, part=part, stop=stop, progress=progress).run()
            part.replace(target)
    except (IntegrityError, ResourceError):
        part.unlink(missing_ok=True)
        raise


def in_parallel(jobs: Iterable[Callable[[threading.Event], None]]) -> None:
    """Nothing; all jobs are done. When one fails, the event each was given is set, and its error is raised."""
    from concurrent.futures import ThreadPoolExecutor

    stop = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = [pool.submit(_stop_all_on_failure, job, stop) for job in jobs]
        try:
            errors = [error for future in futures if (error := future.exception()) is not None]
        except BaseException:  # Ctrl-C lands here, while the threads go on
            stop.set()
            raise
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Nothing; inside it, no other process that asks for `folder` runs. Raises: ResourceError."""
    from filelock import FileLock, Timeout

    locks = make_folder(cache_root() / "locks")
    lock = FileLock(locks / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.lock")
    with disk_errors(folder):
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            logger.info(f"waiting for another process that fills {folder}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def announcing() -> Progress:
    """A progress that only tells of files that take a while, once each, when they begin."""
    told: set[str] = set()

    def tell(name: str, done: int, total: int) -> None:
        if name not in told and done < total and total >= _WORTH_TELLING:
            told.add(name)
            logger.info(f"downloading {name} ({total / 1e6:.1f} MB)")

    return tell


def mark_used(folder: Path) -> None:
    """Nothing; the folder's date is now: `medzoo cache` tells when it was last used."""
    with suppress(OSError):  # a cache that others own may be read-only, and is as good
        os.utime(folder)


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """One file on its way into `part`."""

    origin: Origin
    wanted: Wanted
    part: Path
    stop: threading.Event
    progress: Progress

    def run(self) -> None:
        """Nothing; `part` holds the file. Raises: as `download`."""
        # HTTPError is that of the HTTP library this version of huggingface_hub has
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

        failures = furthest = 0
        while True:
            try:
                return self._attempt()
            except (HTTPError, OfflineModeIsEnabled, _Broken) as error:
                if (
                    status_of(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
                ):  # the server's file is shorter: see what it says of the whole
                    self.part.unlink(missing_ok=True)
                have = self._size()
                if have - furthest >= _WORTH_COUNTING:
                    failures, furthest = 0, have
                pause = pause_after(error, failures)
                if pause is None:
                    raise explain(error, self.origin.what) from error
                failures += 1
            if self.stop.wait(pause):
                raise Stopped

    def _attempt(self) -> None:
        """Nothing; `part`, begun by an earlier attempt or not, is whole and has the hash. Raises: also the client's."""
        digest, have = self.wanted.new_hash(), 0
        if 0 < self._size() <= self.wanted.bytes:
            have = _feed(digest, self.part)
        self.progress(self.wanted.name, have, self.wanted.bytes)
        if have < self.wanted.bytes:
            digest = self._stream(digest, have)
        if digest.hexdigest() != self.wanted.digest:
            found = f"{_KINDS[self.wanted.kind]} {digest.hexdigest()}, expected {self.wanted.digest}"
            raise IntegrityError(f"{self.origin.what} is not what was expected: {found}", _TAKE_AGAIN)

    def _stream(self, digest: _Hash, have: int) -> _Hash:
        """The hash of the whole file, whose bytes after the first `have` have been added to `part`."""
        from huggingface_hub import constants, get_session, hf_raise_for_status

        headers = {**self.origin.headers, "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", self.origin.url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if have and response.status_code != HTTPStatus.PARTIAL_CONTENT:  # it knows no ranges: this is the whole
                digest, have = self.wanted.new_hash(), 0
            self._check_announced(response.headers, have)
            with self.part.open("ab" if have else "wb") as writer:
                for chunk in _brisk(response.iter_bytes()):
                    if self.stop.is_set():
                        raise Stopped
                    have += len(chunk)
                    if have > self.wanted.bytes:
                        raise self._wrong_size(have)
                    digest.update(chunk)
                    writer.write(chunk)
                    self.progress(self.wanted.name, have, self.wanted.bytes)
                writer.flush()
                os.fsync(writer.fileno())
        if have < self.wanted.bytes:
            raise _Broken("the connection ended early")
        return digest

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _check_announced(self, headers: Mapping[str, str], have: int) -> None:
        """Nothing. Raises: IntegrityError if the answer will be of another size than the file."""
        length = headers.get("Content-Length", "")
        plain = headers.get("Content-Encoding", "identity") == "identity"
        if plain and length and have + int(length) != self.wanted.bytes:
            raise self._wrong_size(have + int(length))

    def _wrong_size(self, size: int) -> IntegrityError:
        return IntegrityError(f"{self.origin.what} has {size} bytes, expected {self.wanted.bytes}", _TAKE_AGAIN)


def _feed(digest: _Hash, path: Path) -> int:
    """How many bytes of the file at `path` went into `digest`: all."""
    size = 0
    with path.open("rb") as reader:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size


def _brisk(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks. Raises: _Broken when they come too slowly to wait for."""
    since, arrived = time.monotonic(), 0
    for chunk in chunks:
        arrived += len(chunk)
        elapsed = time.monotonic() - since
        if elapsed > _PATIENCE:
            if arrived < _SLOWEST * elapsed:
                raise _Broken(f"only {arrived / elapsed:.0f} bytes a second arrive")
            since, arrived = time.monotonic(), 0
        yield chunk


def _stop_all_on_failure(job: Callable[[threading.Event], None], stop: threading.Event) -> None:
    done = False
    try:
        if stop.is_set():
            raise Stopped
        job(stop)
        done = True
    finally:
        if not done:
            stop.set()
