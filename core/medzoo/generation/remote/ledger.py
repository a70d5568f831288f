"""The ledger of a run's requests: each is on disk before it is sent, so caps hold through threads, retries, crashes."""

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
from medzoo.storage.files import disk_errors, parse_json
from medzoo.toolkit.remote import RequestOutcome, Service

# Hidden from readers of image folders.
LEDGER = ".medzoo-requests.jsonl"
LOCK = ".medzoo-requests.lock"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How many requests a generator has sent, and how many of them may have been charged."""

    sent: int = 0
    charged: int = 0

    def cost(self, price: float) -> Decimal:
        """Return the highest possible cost, at `price` each."""
        return self.charged * Decimal(str(price))


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Permission to send one request. Its key repeats that of an earlier request only if its answer was lost."""

    number: int
    idempotency_key: str


class _LedgerState:
    """The sum of a ledger's lines."""

    def __init__(self) -> None:
        self.job = ""
        self.sent = 0
        self.usage: dict[str, Usage] = {}
        self.answered: dict[str, int] = {}
        self._open: dict[int, tuple[str, str]] = {}

    def take(self, line: dict[str, Any]) -> None:
        """Add one line. Raises: KeyError, ValueError, TypeError for an invalid line."""
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
        before = self.usage.get(generator, Usage())
        self.usage[generator] = Usage(sent=before.sent + sent, charged=before.charged + charged)


def read_usage(folder: Path, generator: str) -> Usage:
    """Read what `generator` has requested for `folder` so far. Raises: DataError on a damaged ledger."""
    state, _ = _read(folder / LEDGER)
    return state.usage.get(generator, Usage())


class Ledger:
    """The ledger of the run in `folder`, as a context manager that one process at a time can enter.

    A request is a line when it is reserved and another when it is settled, both on disk before the call returns. A
    request that a crash left unsettled counts as charged.

    Raises:
        ResourceError: another process holds the ledger, or the disk cannot be written.
        DataError: the ledger is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        self._alone = FileLock(folder / LOCK)
        self._thread = threading.Lock()
        self._state = _LedgerState()
        self._file = -1

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            try:
                self._alone.acquire(timeout=0)
            except Timeout:
                raise ResourceError(
                    f"another process is requesting the images of {self._path.parent}",
                    "wait for it or stop it; for more requests at once, --set requests.max_concurrency=N",
                ) from None
            try:
                self._state, size = _read(self._path)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                os.ftruncate(self._file, size)  # a line that a crash cut short reserved nothing
                if not self._state.job:
                    self._append({"job": secrets.token_hex(16)})
            except BaseException:
                self._alone.release()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._thread:  # a request still under way can no longer settle: it stays open
            os.close(self._file)
            self._file = -1
        self._alone.release()

    def reserve(self, generator: str, file: str, seed: int, *, terms: Service) -> Reservation:
        """Reserve one more request, for the image `file`; it counts from this call on.

        Raises:
            ResourceError: it would exceed `terms.max_requests` or `terms.max_cost`.
        """
        with self._thread:
            usage = self._state.usage.get(generator, Usage())
            if terms.max_requests and usage.sent >= terms.max_requests:
                raise _reached(f"requests.max_requests = {terms.max_requests}", usage, terms)
            next_cost = Usage(charged=usage.charged + 1).cost(terms.price_per_request)
            if terms.max_cost and next_cost > Decimal(str(terms.max_cost)):
                raise _reached(f"requests.max_cost = {terms.max_cost:g}", usage, terms)
            number = self._state.sent + 1
            round_ = self._state.answered.get(file, 0)
            self._append({"sent": number, "generator": generator, "file": file, "seed": seed})
        text = f"{self._state.job}/{file}/{seed}/{round_}"
        return Reservation(number=number, idempotency_key=hashlib.sha256(text.encode()).hexdigest()[:32])

    def settle(self, reservation: Reservation, outcome: RequestOutcome | Literal["done"]) -> None:
        """Record the outcome of a request."""
        with self._thread:
            self._append({"settled": reservation.number, "outcome": outcome})

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
        self._state.take(line)


def _read(path: Path) -> tuple[_LedgerState, int]:
    """Return the state of the ledger at `path`, and its size in bytes up to the end of its last whole line."""
    state = _LedgerState()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return state, 0
    whole = data[: data.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            state.take(parse_json(line))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged, so what was requested and paid is unknown", "choose another --out"
        ) from error
    return state, len(whole)


def _reached(cap: str, usage: Usage, terms: Service) -> ResourceError:
    cost = usage.cost(terms.price_per_request)
    return ResourceError(
        f"{cap} is reached: {usage.sent} requests were sent, for at most {cost:f} {terms.currency}",
        "raise it and run the same command again: it resumes with the missing images",
    )
