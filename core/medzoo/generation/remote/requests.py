"""Pictures that a service makes: a request for each, several at once, repeated where that may help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from medzoo.data.images import decode, encode_png, prepare
from medzoo.errors import DataError, MedzooError, ResourceError
from medzoo.generation.job import Job
from medzoo.generation.plan import Picture
from medzoo.generation.remote.consent import Quote
from medzoo.generation.remote.ledger import Ledger
from medzoo.generation.writer import is_there
from medzoo.storage.files import temporary_beside, write_atomic
from medzoo.toolkit.remote import RequestError

# Pictures in a row that cannot be had before the job stops: the service is down, and each request may cost.
_HOPELESS = 8
_LONGEST_BACKOFF = 60.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A picture that could not be had: its file, the real image it varies, and why."""

    file: str
    source: str
    reason: str


def refuse_failures(failures: Sequence[Failure], *, of: int) -> None:
    """Nothing, if there are none. Raises: ResourceError that names them, by what went wrong."""
    files: dict[str, list[str]] = {}
    for failure in failures:
        files.setdefault(failure.reason, []).append(f"{failure.file} (of {failure.source})")
    if files:
        told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in files.items())
        raise ResourceError(
            f"{len(failures)} of {of} images could not be had: {told}",
            "the others are there; run the same command again to ask for the missing ones only",
        )


def draw_remote(job: Job, quote: Quote, *, done: Callable[[Picture], None]) -> list[Failure]:
    """The pictures of a quote that could not be had; all others are on disk, and `done` was told of each.

    Stopped at any moment, what is there is whole, and what is missing is asked for by the next call.
    Raises:
        ResourceError: a cap is reached, many pictures fail in a row, or the disk cannot be written.
        MedzooError: as `RemoteGenerator.request` for what stops the job.
    """
    failures: list[Failure] = []
    row = 0
    pool = ThreadPoolExecutor(max_workers=quote.service.parallel, thread_name_prefix="request")
    with Ledger(job.folder) as ledger, pool:
        asker = _Asker(job, quote, ledger)
        try:
            for picture, future in _as_finished(asker, quote, pool):
                try:
                    future.result()
                except _Stopped:
                    continue  # the error that stops the job is another request's, which is still to finish here
                except RequestError as error:
                    failures.append(asker.failure(picture, error))
                    row += 1
                    if row == _HOPELESS:
                        raise _hopeless(quote, row, error) from None
                else:
                    row = 0
                    done(picture)
        finally:
            asker.stop()  # who waits to try again gives up; an answer on its way is paid for, and is kept
    return failures


def _as_finished(asker: _Asker, quote: Quote, pool: ThreadPoolExecutor) -> Iterator[tuple[Picture, Future[None]]]:
    """Each picture once its requests have ended, well or not; as many are under way as the service takes."""
    under_way: dict[Future[None], Picture] = {}
    for picture in quote.pictures:
        if asker.is_made(picture):  # by a process that had the ledger since the quote was made
            continue
        if len(under_way) == quote.service.parallel:
            yield from _finished(under_way)
        under_way[pool.submit(asker.make, picture, asker.source(picture))] = picture
    while under_way:
        yield from _finished(under_way)


def _finished(under_way: dict[Future[None], Picture]) -> list[tuple[Picture, Future[None]]]:
    ready, _ = wait(under_way, return_when=FIRST_COMPLETED)
    return [(under_way.pop(future), future) for future in ready]


def _hopeless(quote: Quote, row: int, last: RequestError) -> ResourceError:
    return ResourceError(
        f"{row} images in a row could not be had from {quote.service.host}, the last for this: {last.message}",
        "run the same command again when it is well; it asks for the missing images only",
    )


class _Stopped(Exception):
    """Another request's error, or the user, ends the job: nothing more is asked for."""


class _Asker:
    """One generator's requests: granted, sent, repeated, looked at, and the picture written."""

    def __init__(self, job: Job, quote: Quote, ledger: Ledger) -> None:
        self._job, self._quote, self._ledger = job, quote, ledger
        self._stopping = threading.Event()
        self._not_before = 0.0
        # Reading an image file sets warning filters, which are one per process.
        self._reading = threading.Lock()
        self._jitter = random.Random()

    def stop(self) -> None:
        """Nothing; no further request is sent."""
        self._stopping.set()

    def failure(self, picture: Picture, error: RequestError) -> Failure:
        """What is told of a picture that could not be had."""
        real, source = self._job.real, self._job.studio.source(picture)
        assert real is not None
        assert source is not None
        return Failure(file=picture.file, source=real.names[source], reason=error.message)

    def is_made(self, picture: Picture) -> bool:
        """Whether the picture is on disk."""
        return is_there(self._job.folder / picture.file)

    def source(self, picture: Picture) -> bytes:
        """What is sent for a picture: pixels alone, as a PNG."""
        with self._reading:
            pixels = self._job.studio.source_pixels(picture)
        return encode_png(prepare(_decoded(pixels), size=self._quote.service.side, channels=3, crop="none"))

    def make(self, picture: Picture, source: bytes) -> None:
        """Nothing; the picture is on disk. Raises: RequestError once no retry is left, and as `draw_remote`."""
        service = self._quote.service
        for attempt in range(service.retries + 1):
            try:
                self._ask(picture, source)
            except RequestError as error:
                if not error.again or attempt == service.retries:
                    times = f" ({attempt + 1} times)" if attempt else ""
                    raise RequestError(f"{error.message}{times}", outcome=error.outcome, again=error.again) from None
                self._back_off(attempt, error)
            else:
                return

    def _ask(self, picture: Picture, source: bytes) -> None:
        """Nothing; the picture is on disk, by one request. Raises: as `make`."""
        self._wait_for_leave()
        seed = self._job.plan.seed_of(picture)
        ticket = self._ledger.grant(self._quote.name, picture.file, seed, terms=self._quote.service)
        try:
            answer = self._quote.generator.request(
                source, picture.label, seed=seed, idempotency_key=ticket.idempotency_key
            )
        except RequestError as error:
            self._ledger.settle(ticket, error.outcome)
            raise
        except MedzooError:
            self._ledger.settle(ticket, "refused")
            self.stop()
            raise
        try:
            pixels = self._read(picture, answer)
        except RequestError as error:
            self._ledger.settle(ticket, error.outcome)
            raise
        # Settled only when it is safe: after a crash in between, the request keeps its key and may come free.
        write_atomic(self._job.folder / picture.file, encode_png(pixels))
        self._ledger.settle(ticket, "done")

    def _read(self, picture: Picture, answer: bytes) -> np.ndarray:
        """The pixels of an answer, uint8 (C, H, W). Raises: RequestError for what is no picture."""
        with temporary_beside(self._job.folder / picture.file) as temporary, self._reading:
            temporary.write_bytes(answer)
            try:
                pixels = decode(temporary)
            except DataError as error:
                reason = error.message.replace(str(temporary), "the answer")
                raise RequestError(reason, outcome="failed", again=True) from None
        height, width = pixels.shape[:2]
        side = self._quote.service.side
        if min(height, width) * 2 < side:
            raise RequestError(
                f"the answer has {width}x{height} pixels, not the {side}x{side} asked for", outcome="failed", again=True
            )
        if pixels.std() < 1.0:
            raise RequestError("the answer is an image of one colour", outcome="failed", again=True)
        image = self._quote.generator.image
        return prepare(pixels, size=image.size, channels=image.channels, crop="center")

    def _back_off(self, attempt: int, error: RequestError) -> None:
        """Nothing; the time has come to try again. Raises: ResourceError if the service asks for more than patience."""
        service = self._quote.service
        backoff = min(_LONGEST_BACKOFF, service.backoff * 2**attempt) * self._jitter.uniform(0.5, 1.0)
        if error.wait > service.patience:
            raise ResourceError(
                f"{service.host} asks to wait {error.wait:.0f} seconds, more than requests.max_retry_after = "
                f"{service.patience:g}: {error.message}",
                "run the same command again then; it asks for the missing images only",
            )
        if error.wait:
            # The limit is on the account and not on the thread, so that all of them wait.
            self._not_before = max(self._not_before, time.monotonic() + error.wait + backoff)
        elif self._stopping.wait(backoff):
            raise _Stopped

    def _wait_for_leave(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            if self._stopping.wait(left):
                raise _Stopped
        if self._stopping.is_set():
            raise _Stopped


def _decoded(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3), as from a file, of uint8 (C, H, W)."""
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
