"""What a provider is: one picture in, one variation out."""

from __future__ import annotations

from typing import Protocol

from medzoo.toolkit.remote import Service


class Provider(Protocol):
    """Varies pictures, here or elsewhere."""

    @property
    def service(self) -> Service | None:
        """Whom it asks; None if it works on this machine."""

    def connect(self) -> None:
        """Be ready; nothing is sent. Raises: ConfigError for what is missing."""

    def vary(self, picture: bytes, prompt: str, *, seed: int, idempotency_key: str) -> bytes:
        """An image file's bytes: a variation of `picture`, an RGB PNG.

        `seed` decides it where the provider takes one; `idempotency_key` is the same when a request is repeated whose
        answer was lost. Raises: as `RemoteGenerator.request`.
        """
