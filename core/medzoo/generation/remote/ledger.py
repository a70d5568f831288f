"""The requests of a job, on disk before each is sent, so that its caps hold through threads, retries and crashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import threading
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from filelock import FileLock, Timeout

from medzoo.errors import DataError, ResourceError
from medzoo.storage.files import disk_errors
from medzoo.toolkit.remote import RequestOutcome, Service

# Hidden, so that no reader of image folders looks at them.
LEDGER = ".medzoo-requests.jsonl"
LOCK = ".medzoo-requests.lock"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a generator's requests come to: how many were sent, and how many of them may have been charged."""

    sent: int = 0
    charged: int = 0

    def cost(self, price: float) -> Decimal:
        """The most they can have cost, at `price` each."""
        return self.charged * Decimal(str(price))


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """The leave to send one request. The key is an earlier request's only if the answer to that one was lost."""

    number: int
    idempotency_key: str


class _Book:
    """What the lines of a ledger add up to."""

    def __init__(self) -> None:
        self.job = ""
        self.sent = 0
        self.tallies: dict[str, Tally] = {}
        self.answered: dict[str, int] = {}
        self._open: dict[int, tuple[str, str]] = {}

    def take(self, line: dict[str, Any]) -> None:
        """Add one line. Raises: KeyError, ValueError, TypeError for one that no ledger writes."""
        if "sent" in line:
            self.sent = int(line["sent"])
            generator, file = str(line["generator"]), str(line["file"])
            self._open[self.sent] = (generator, file)
            self._add(generator, sent=1, charged=1)
        elif "settled" in line:
            generator, file = self._open.pop(int(line["settled"]))
            if line["outcome"] == "refused":
                self._add(generator, sent=0, charged=-1)
            if line["outcome"] != "lost":
                self.answered[file] = self.answered.get(file, 0) + 1
        else:
            self.job = str(line["job"])

    def _add(self, generator: str, *, sent: int, charged: int) -> None:
        before = self.tallies.get(generator, Tally())
        self.tallies[generator] = Tally(sent=before.sent + sent, charged=before.charged + charged)


def read_tally(folder: Path, generator: str) -> Tally:
    """What `generator` has asked for in the job of `folder` up to now. Raises: DataError on a damaged ledger."""
    book, _ = _read(folder / LEDGER)
    return book.tallies.get(generator, Tally())


class Ledger:
    """The ledger of the job in `folder`, as a context; one process at a time has it.

    Each request is a line when it is granted and another when it is settled, both on disk before the call returns. A
    request that a crash left unsettled was perhaps charged, and counts as if it was.
    Raises: ResourceError if another process has it, or on a disk that cannot be written; DataError if it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        self._alone = FileLock(folder / LOCK)
        self._thread = threading.Lock()
        self._book = _Book()
        self._file = -1

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            try:
                self._alone.acquire(timeout=0)
            except Timeout:
                raise ResourceError(
                    f"another process is asking for the images of {self._path.parent}",
                    "wait for it, or stop it; more requests at once are --set requests.max_concurrency=N",
                ) from None
            try:
                self._book, size = _read(self._path)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                os.ftruncate(self._file, size)  # a line that a crash cut short granted nothing yet
                if not self._book.job:
                    self._append({"job": secrets.token_hex(16)})
            except BaseException:
                self._alone.release()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._thread:  # a request that the job no longer waits for may still want to settle: it stays open
            os.close(self._file)
            self._file = -1
        self._alone.release()

    def grant(self, generator: str, file: str, seed: int, *, terms: Service) -> Ticket:
        """Leave to send one more request, for the picture `file`; it counts from now on.

        Raises:
            ResourceError: it would pass `terms.max_requests` or `terms.max_cost`.
        """
        with self._thread:
            tally = self._book.tallies.get(generator, Tally())
            if terms.max_requests and tally.sent >= terms.max_requests:
                raise _reached(f"requests.max_requests = {terms.max_requests}", tally, terms)
            next_cost = Tally(charged=tally.charged + 1).cost(terms.price)
            if terms.max_cost and next_cost > Decimal(str(terms.max_cost)):
                raise _reached(f"requests.max_cost = {terms.max_cost:g}", tally, terms)
            number = self._book.sent + 1
            round_ = self._book.answered.get(file, 0)
            self._append({"sent": number, "generator": generator, "file": file, "seed": seed})
        text = f"{self._book.job}/{file}/{seed}/{round_}"
        return Ticket(number=number, idempotency_key=hashlib.sha256(text.encode()).hexdigest()[:32])

    def settle(self, ticket: Ticket, outcome: RequestOutcome | Literal["done"]) -> None:
        """Nothing; what came of a request is written down."""
        with self._thread:
            self._append({"settled": ticket.number, "outcome": outcome})

    def tally(self, generator: str) -> Tally:
        """What `generator` has asked for in this job up to now."""
        with self._thread:
            return self._book.tallies.get(generator, Tally())

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        with disk_errors(self._path):
            try:
                if os.write(self._file, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise
        self._book.take(line)


def _read(path: Path) -> tuple[_Book, int]:
    """What the ledger says, and its size in bytes up to the end of its last whole line."""
    book = _Book()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return book, 0
    whole = data[: data.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            book.take(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged, so what was asked for and paid cannot be known", "choose another --out"
        ) from error
    return book, len(whole)


def _reached(cap: str, tally: Tally, terms: Service) -> ResourceError:
    return ResourceError(
        f"{cap} is reached: {tally.sent} requests were sent, for at most {tally.cost(terms.price):f} {terms.currency}",
        "raise it and run the same command again: it goes on with the images that are missing",
    )
