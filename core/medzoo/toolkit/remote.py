"""Generators that use an external image API. Import `Service`, `RequestError` and `RemoteGenerator` from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from medzoo.errors import ConfigError, MedzooError
from medzoo.protocols import Generator


@dataclass(frozen=True, kw_only=True)
class Service:
    """An external image API and its terms.

    One request sends one real image, a PNG of `image_size` x `image_size` pixels in RGB without metadata, to
    `host`, along with what `also_sent` describes. At most `max_concurrency` requests are open at once. A failed one is
    retried up to `max_retries` times, after `backoff` seconds, doubled each time, or after the service's Retry-After,
    up to `max_retry_after` seconds. `price_per_request` is in `currency`. `max_requests` and `max_cost` hold for all
    requests of a job together; 0 is no limit. Users set these terms as the generator's settings `requests.max_retries`
    and so on.
    """

    host: str
    encrypted: bool
    also_sent: str
    image_size: int
    max_concurrency: int
    max_retries: int
    backoff: float
    max_retry_after: float
    price_per_request: float
    currency: str
    max_requests: int
    max_cost: float

    def __post_init__(self) -> None:
        if self.max_cost and not self.price_per_request:
            raise ConfigError(
                "requests.max_cost needs the price of a request",
                "set it, as in --set requests.price_per_request=0.04",
            )


RequestOutcome = Literal["refused", "failed", "lost"]


class RequestError(MedzooError):
    """A request that gave no image.

    `outcome` is "refused" if the service declined the request, which costs nothing; "failed" if it answered with an
    error of its own or without an image; "lost" if no complete answer came. The last two may have been charged.
    `retryable`: the same request may succeed later, after `retry_after` seconds if the service names them.
    """

    exit_code = 6

    def __init__(self, message: str, *, outcome: RequestOutcome, retryable: bool, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.retryable = retryable
        self.retry_after = retry_after


@runtime_checkable
class RemoteGenerator(Generator, Protocol):
    """A generator that varies real images and can have an external service make them.

    medzoo then calls `request` in place of `sample`. It asks the user before anything is uploaded, prepares what is
    sent, decodes what comes back, and counts, repeats and caps the requests; the generator sends one at a time.
    """

    @property
    def service(self) -> Service | None:
        """Return the service, or None if `sample` generates the images on this machine."""

    def connect(self) -> None:
        """Prepare for requests; send nothing. Raises: ConfigError, as for a missing API key."""

    def request(self, image: bytes, label: str, *, seed: int, idempotency_key: str) -> bytes:
        """Send one request and return the bytes of an image file, the service's variation of `image` (PNG).

        Several threads call this at once. `idempotency_key` tells the service that a request repeats one whose answer
        was lost. No error may contain a secret.

        Raises:
            RequestError: this request gave no image.
            MedzooError: no request can give one, so the job should abort (a wrong key, an empty account).
        """
