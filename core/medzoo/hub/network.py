"""Requests to the Hub: repeated after a passing failure, and explained when they fail for good."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from medzoo.errors import HubError

T = TypeVar("T")

_TRANSIENT = frozenset({408, 416, 429, 500, 502, 503, 504})
_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each further attempt."""
_LONGEST_PAUSE = 60.0
"""Seconds; if the server asks to wait longer, that is an error at once."""
_PROGRESS = 1_000_000
"""Bytes; a connection that brings as many gives the request all its attempts again."""
_LATER = "try again later, or use a mirror: --from DIR, or MEDZOO_MIRROR"


def retry(what: str, request: Callable[[], T], *, position: Callable[[], int] = lambda: 0) -> T:
    """Return what `request` returns, after up to three more attempts if the network or the server fails.

    `what` names what is requested in errors. The attempts start over whenever another megabyte has
    arrived, by `position`.

    Raises: HubError.
    """
    # HTTPError is that of the HTTP library this version of huggingface_hub has.
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    failures, furthest = 0, position()
    while True:
        try:
            return request()
        except (HTTPError, OfflineModeIsEnabled) as error:
            if position() - furthest >= _PROGRESS:
                failures, furthest = 0, position()
            pause = _pause_after(error, failures)
            if pause is None:
                raise hub_error(error, what) from error
        failures += 1
        time.sleep(pause)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of the response behind `error`, or None if there was no response."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _pause_after(error: Exception, failures: int) -> float | None:
    """Return how many seconds to wait before another attempt after `failures` earlier ones, or None to give up."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = status_of(error)
    retry_after = error.response.headers.get("Retry-After", "").strip() if hasattr(error, "response") else ""
    asked = float(retry_after) if retry_after.isdigit() else 0.0
    hopeless = isinstance(error, OfflineModeIsEnabled) or (status is not None and status not in _TRANSIENT)
    if hopeless or failures >= len(_PAUSES) or asked > _LONGEST_PAUSE:
        return None
    return max(_PAUSES[failures], asked)


def hub_error(error: Exception, what: str) -> HubError:
    """Explain what huggingface_hub raised about `what`, such as "acme/model at v1", with a hint how to fix it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"cannot download {what}: HF_HUB_OFFLINE is set", "unset it, or set MEDZOO_MIRROR to a mirror")
    if not isinstance(error, HfHubHTTPError):
        reason = str(error).strip() or type(error).__name__
        return HubError(
            f"cannot download {what}: {reason}", "check the network, proxy and HF_ENDPOINT, and run the command again"
        )
    status = error.response.status_code
    if status == HTTPStatus.UNAUTHORIZED and "Authorization" in error.response.request.headers:
        return HubError(
            f"cannot download {what}: the Hub rejects the token",
            f"it may have expired: set HF_TOKEN to one from {constants.ENDPOINT}/settings/tokens, or unset it",
        )
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    known: tuple[tuple[type[Exception] | tuple[HTTPStatus, ...], str, str], ...] = (
        (GatedRepoError, f"{what} is gated", f"accept its terms at {constants.ENDPOINT}, and set HF_TOKEN"),
        (RevisionNotFoundError, f"{what}: the repository has no such revision", "see its commits and tags on the Hub"),
        (RemoteEntryNotFoundError, f"{what}: the repository has no such file", "see its files on the Hub"),
        (
            RepositoryNotFoundError,
            f"{what} is not on the Hub, or is private",
            "check the name; for a private repository set HF_TOKEN, or run `hf auth login`",
        ),
        (
            (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
            f"the Hub denies access to {what}",
            "set HF_TOKEN to a token with access, or run `hf auth login`",
        ),
        (
            (HTTPStatus.TOO_MANY_REQUESTS,),
            f"cannot download {what}: too many requests to the Hub",
            f"wait a while; {_LATER}",
        ),
    )
    for case, message, hint in known:
        if status in case if isinstance(case, tuple) else isinstance(error, case):
            return HubError(message, hint)
    return HubError(f"cannot download {what}: the Hub responds with {status} {phrase}".rstrip(), _LATER)
