"""The protocol of a provider: one image in, one variation out."""

from __future__ import annotations

from typing import Protocol

from medzoo.toolkit.remote import Service


class Provider(Protocol):
    """Varies images, on this machine or through an API."""

    @property
    def service(self) -> Service | None:
        """Return the API; None on this machine."""

    def connect(self) -> None:
        """Prepare for requests; send nothing. Raises: ConfigError for what is missing."""

    def vary(self, image: bytes, prompt: str, *, seed: int, idempotency_key: str) -> bytes:
        """Return the bytes of an image file, a variation of `image`, an RGB PNG.

        `seed` is used if the provider takes one; `idempotency_key` is the same when a request is repeated whose
        response was lost. Raises: as `RemoteGenerator.request`.
        """
