"""Images made by a service: one request each, several at once, retried where that may help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import numpy as np

from medzoo.data.images import decode, encode_image, encode_png
from medzoo.data.pixels import prepare
from medzoo.errors import DataError, MedzooError, ResourceError
from medzoo.generation.plan import PlannedImage
from medzoo.generation.remote.consent import RequestPlan
from medzoo.generation.remote.ledger import Ledger
from medzoo.generation.writer import is_written
from medzoo.storage.files import temporary_beside, write_atomic
from medzoo.toolkit.remote import RequestError

# Failures in a row after which the run stops: the service is down, and each request may cost.
_MAX_FAILURES_IN_A_ROW = 8
_LONGEST_BACKOFF = 60.0


def sample_remote(plan: RequestPlan, *, done: Callable[[PlannedImage], None]) -> list[tuple[str, str]]:
    """Request the images of `plan`, call `done` for each that is on disk, and return those that failed with reasons.

    Stopped at any moment, every file is whole, and the next call requests what is missing.

    Raises:
        ResourceError: a cap is reached, many images fail in a row, or the disk cannot be written.
        MedzooError: as `RemoteGenerator.request` for what aborts the run.
    """
    failures: list[tuple[str, str]] = []
    row = 0
    pool = ThreadPoolExecutor(max_workers=plan.service.max_concurrency, thread_name_prefix="request")
    with Ledger(plan.folder) as ledger, pool:
        runner = _RequestRunner(plan, ledger)
        try:
            for image, future in _as_finished(runner, plan, pool):
                try:
                    future.result()
                except _Stopped:
                    continue  # another request's error stops the run, and is raised when that one finishes
                except RequestError as error:
                    failures.append((f"{image.file} (of {plan.sampler.source_name(image)})", error.message))
                    row += 1
                    if row == _MAX_FAILURES_IN_A_ROW:
                        raise ResourceError(
                            f"{row} images in a row could not be made by {plan.service.host}, the last one because: "
                            f"{error.message}",
                            "run the same command again when the service works; it requests the missing images only",
                        ) from None
                else:
                    row = 0
                    done(image)
        finally:
            runner.stop()  # retries give up; an answer under way is paid for, and is kept
    return failures


def _as_finished(
    runner: _RequestRunner, plan: RequestPlan, pool: ThreadPoolExecutor
) -> Iterator[tuple[PlannedImage, Future[None]]]:
    """Yield each image when its requests have ended, keeping as many under way as the service accepts."""
    under_way: dict[Future[None], PlannedImage] = {}

    for image in plan.images:
        if is_written(plan.folder / image.file):  # made by a process that had the ledger since the plan was made
            continue
        if len(under_way) == plan.service.max_concurrency:
            yield from _finished(under_way)
        under_way[pool.submit(runner.make, image, runner.source(image))] = image
    while under_way:
        yield from _finished(under_way)


def _finished(under_way: dict[Future[None], PlannedImage]) -> list[tuple[PlannedImage, Future[None]]]:
    ready, _ = wait(under_way, return_when=FIRST_COMPLETED)
    return [(under_way.pop(future), future) for future in ready]


class _Stopped(Exception):
    """Another request's error, or the user, ends the run: nothing more is requested."""


class _RequestRunner:
    """Reserve, send, retry and check one generator's requests, and write the images."""

    def __init__(self, plan: RequestPlan, ledger: Ledger) -> None:
        self._plan, self._ledger = plan, ledger
        self._stopping = threading.Event()
        self._not_before = 0.0
        # Reading an image file sets warning filters, which are one per process.
        self._reading = threading.Lock()
        self._jitter = random.Random()

    def stop(self) -> None:
        """Send no further request."""
        self._stopping.set()

    def source(self, image: PlannedImage) -> bytes:
        """Return what is sent for an image: a PNG of pixels alone."""
        with self._reading:
            pixels = self._plan.sampler.source_pixels(image)
        decoded = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        return encode_png(prepare(decoded, size=self._plan.service.image_size, channels=3, crop="none"))

    def make(self, image: PlannedImage, source: bytes) -> None:
        """Write the image, retrying requests. Raises: RequestError once no retry is left, and as `sample_remote`."""
        service = self._plan.service
        for attempt in range(service.max_retries + 1):
            try:
                self._request(image, source)
            except RequestError as error:
                if not error.retryable or attempt == service.max_retries:
                    times = f" ({attempt + 1} times)" if attempt else ""
                    raise RequestError(
                        f"{error.message}{times}", outcome=error.outcome, retryable=error.retryable
                    ) from None
                self._back_off(attempt, error)
            else:
                return

    def _request(self, image: PlannedImage, source: bytes) -> None:
        """Write the image by one request. Raises: as `make`."""
        self._wait_until_allowed()
        seed = self._plan.sampler.plan.seed_of(image)
        reservation = self._ledger.reserve(self._plan.name, image.file, seed, terms=self._plan.service)
        try:
            answer = self._plan.generator.request(
                source, image.label, seed=seed, idempotency_key=reservation.idempotency_key
            )
        except RequestError as error:
            self._ledger.settle(reservation, error.outcome)
            raise
        except MedzooError:
            self._ledger.settle(reservation, "refused")
            self.stop()
            raise
        try:
            pixels = self._read(image, answer)
        except RequestError as error:
            self._ledger.settle(reservation, error.outcome)
            raise
        # Settled after writing: if a crash comes between, the request keeps its key and may not be charged again.
        path = self._plan.folder / image.file
        write_atomic(path, encode_image(path, pixels, self._plan.sampler.mark(image)))
        self._ledger.settle(reservation, "done")

    def _read(self, image: PlannedImage, answer: bytes) -> np.ndarray:
        """Decode an answer to uint8 (C, H, W). Raises: RequestError for an unusable image."""
        with temporary_beside(self._plan.folder / image.file) as temporary, self._reading:
            temporary.write_bytes(answer)
            try:
                pixels = decode(temporary)
            except DataError as error:
                reason = error.message.replace(str(temporary), "the answer")
                raise RequestError(reason, outcome="failed", retryable=True) from None
        height, width = pixels.shape[:2]
        side = self._plan.service.image_size
        if min(height, width) * 2 < side:
            raise RequestError(
                f"the response has {width}x{height} pixels instead of {side}x{side}", outcome="failed", retryable=True
            )
        if pixels.std() < 1.0:
            raise RequestError("the response is an image of a single color", outcome="failed", retryable=True)
        spec = self._plan.generator.image
        return prepare(pixels, size=spec.size, channels=spec.channels, crop="center")

    def _back_off(self, attempt: int, error: RequestError) -> None:
        """Wait before the next try. Raises: ResourceError if the service asks for more time than `max_retry_after`."""
        service = self._plan.service
        backoff = min(_LONGEST_BACKOFF, service.backoff * 2**attempt) * self._jitter.uniform(0.5, 1.0)
        if error.retry_after > service.max_retry_after:
            raise ResourceError(
                f"{service.host} asks to wait {error.retry_after:.0f} seconds, more than requests.max_retry_after = "
                f"{service.max_retry_after:g}: {error.message}",
                "run the same command again then; it requests the missing images only",
            )
        if error.retry_after:
            # The limit is on the account and not on the thread, so all threads wait.
            self._not_before = max(self._not_before, time.monotonic() + error.retry_after + backoff)
        elif self._stopping.wait(backoff):
            raise _Stopped

    def _wait_until_allowed(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            if self._stopping.wait(left):
                raise _Stopped
        if self._stopping.is_set():
            raise _Stopped
