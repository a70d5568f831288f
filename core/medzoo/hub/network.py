"""What goes wrong between here and the Hub, as errors that say how to mend it."""

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
"""Seconds; a server that asks to wait longer is told of at once."""
_ELSEWHERE = "try again later, or take it from a mirror: --from DIR, or MEDZOO_MIRROR"


def ask(what: str, request: Callable[[], T]) -> T:
    """What `request`, a question to the Hub about `what` that changes nothing, gives at the latest attempt.

    Raises: HubError.
    """
    # HTTPError is that of the HTTP library this version of huggingface_hub has
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    failures = 0
    while True:
        try:
            return request()
        except (HTTPError, OfflineModeIsEnabled) as error:
            pause = pause_after(error, failures)
            if pause is None:
                raise explain(error, what) from error
        failures += 1
        time.sleep(pause)


def pause_after(error: Exception, failures: int) -> float | None:
    """Seconds to wait before another attempt after so many that failed before this one, or None to give up."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status, asked = status_of(error), _retry_after(error)
    hopeless = isinstance(error, OfflineModeIsEnabled) or (status is not None and status not in _TRANSIENT)
    if hopeless or failures >= len(_PAUSES) or asked > _LONGEST_PAUSE:
        return None
    return max(_PAUSES[failures], asked)


def status_of(error: Exception) -> int | None:
    """The status of the answer that the Hub's client turned into `error`, or None if there was no answer."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def explain(error: Exception, what: str) -> HubError:
    """The error for what the Hub's client raised about `what`, such as "acme/model at v1", with its mend."""
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
        return HubError(f"cannot get {what}: HF_HUB_OFFLINE is set", "unset it, or name a mirror: MEDZOO_MIRROR")
    if not isinstance(error, HfHubHTTPError):
        reason = str(error).strip() or type(error).__name__
        return HubError(f"cannot get {what}: {reason}", "see to the network, proxy or HF_ENDPOINT, and run it again")
    if _is_refused_token(error):
        return HubError(
            f"cannot get {what}: the Hub refuses the token it was given",
            f"it may have expired: set HF_TOKEN to another of {constants.ENDPOINT}/settings/tokens, or unset it",
        )
    told: tuple[tuple[type[Exception], str, str], ...] = (
        (GatedRepoError, f"{what} is gated", f"accept its terms at {constants.ENDPOINT}, and set HF_TOKEN"),
        (RevisionNotFoundError, f"{what}: the repository has no such revision", "see its commits and tags on the Hub"),
        (RemoteEntryNotFoundError, f"{what}: the repository has no such file", "see its files on the Hub"),
        (
            RepositoryNotFoundError,
            f"the Hub shows no {what}",
            "check the name; if it is private, set HF_TOKEN or `hf auth login`",
        ),
    )
    for kind, message, hint in told:
        if isinstance(error, kind):
            return HubError(message, hint)
    return _refused(error.response.status_code, what)


def _retry_after(error: Exception) -> float:
    """Seconds the server asks to wait before another request, 0 where it does not say."""
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.strip().isdigit() else 0.0


def _is_refused_token(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return (
        response is not None
        and response.status_code == HTTPStatus.UNAUTHORIZED
        and "Authorization" in response.request.headers
    )


def _refused(status: int, what: str) -> HubError:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return HubError(f"the Hub forbids {what}", "set HF_TOKEN to a token that may do this, or `hf auth login`")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return HubError(f"cannot get {what}: the Hub has had too many requests", f"wait a while; {_ELSEWHERE}")
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    return HubError(f"cannot get {what}: the Hub answers {status} {phrase}".rstrip(), _ELSEWHERE)
