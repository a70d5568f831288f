"""Requests to the Hub: repeated after a passing failure, and explained when they fail for good."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from medzoo.errors import HubError

T = TypeVar("T")

_TRANSIENT = frozenset({408, 416, 429, 500, 502, 503, 504})
_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each further attempt."""
_LONGEST_PAUSE = 60.0
"""Seconds; if the server asks to wait longer, that is an error at once."""
_PROGRESS = 1_000_000
"""Bytes; a connection that brings as many gives the request all its attempts again."""
TIME_LIMITS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_PROXIES = ("all_proxy", "https_proxy", "http_proxy")
_LATER = "try again later, or use a mirror: --from DIR, or MEDZOO_MIRROR"


def check_network_settings() -> None:
    """Check the settings that requests to the Hub depend on: time limits, proxies, certificates and the token.

    Raises: HubError that names the first one that cannot be used. It contains no password and no token.
    """
    check_time_limits()
    from huggingface_hub import constants, get_session, get_token

    try:
        get_session()
    # ImportError for SOCKS, ValueError for an unknown scheme, OSError for certificates; and httpx's own InvalidURL.
    except (ImportError, ValueError, OSError, _http().InvalidURL) as error:
        raise _settings_error(error) from None
    try:
        token = get_token() or ""
    except (ValueError, OSError) as error:
        raise HubError(f"cannot read the token in {constants.HF_TOKEN_PATH}: {error}", "run `hf auth login`") from None
    if token and not re.fullmatch(r"[!-~]+", token):
        where = "HF_TOKEN" if os.environ.get("HF_TOKEN") else constants.HF_TOKEN_PATH
        raise HubError(
            f"the token in {where} contains spaces, control or non-ASCII characters",
            f"copy it again from {constants.ENDPOINT}/settings/tokens",
        )


def check_time_limits() -> None:
    """Check the time limits of requests, which huggingface_hub reads when it is imported. Raises: HubError."""
    for name in TIME_LIMITS:
        if (value := os.environ.get(name)) and not re.fullmatch(r"\s*\d+\s*", value):
            raise HubError(f"{name}={value} is not a whole number of seconds", "set it to one, as in 30, or unset it")


def _http() -> Any:
    """Return the HTTP library that this version of huggingface_hub has."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return sys.modules[HTTPError.__module__.partition(".")[0]]


def _settings_error(error: Exception) -> HubError:
    """Name the setting for which no HTTP client can be made."""
    if isinstance(error, OSError):
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "")
        given = f"{name}={os.environ[name]}" if name else "the certificates of this machine"
        reason = error.strerror or str(error)
        return HubError(
            f"{given} cannot be used: {reason}",
            f"set {name or 'SSL_CERT_FILE'} to a file of certificates in PEM format",
        )
    for name, value in _proxies().items():
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            scheme, place = parts.scheme, f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":")
        except ValueError:  # a port that is not a number, or brackets that do not match
            return HubError(f"{name} is not the address of a proxy", "write it as in http://HOST:PORT, or unset it")
        if scheme in ("socks5", "socks5h") and isinstance(error, ImportError):
            return HubError(f"{name}={place}: SOCKS proxies need the package socksio", "pip install socksio")
        if scheme not in ("http", "https", "socks5", "socks5h"):
            written = (
                f"write socks5://{place.partition('://')[2]}"
                if scheme.startswith("socks")
                else "write http://HOST:PORT"
            )
            return HubError(
                f"{name}={place}: proxies of the kind '{scheme}' are not supported", f"{written}, or unset it"
            )
    return HubError(
        f"no connection can be made: {str(error).splitlines()[0]}", "check the proxy in ALL_PROXY or HTTPS_PROXY"
    )


def _proxies() -> Mapping[str, str]:
    names = [name for proxy in _PROXIES for name in (proxy, proxy.upper())]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def unexpected_response(what: str, reason: str) -> HubError:
    """Explain that what came back for `what` is not an answer of the Hub."""
    return HubError(
        f"unexpected response for {what}: {reason}",
        "it may be a login page of this network, or a wrong HF_ENDPOINT; open the Hub in a browser, and try again",
    )


def retry(what: str, request: Callable[[], T], *, position: Callable[[], int] = lambda: 0) -> T:
    """Return what `request` returns, after up to three more attempts if the network or the server fails.

    `what` names what is requested in errors. The attempts start over whenever another megabyte has
    arrived, by `position`.

    Raises: HubError.
    """
    check_network_settings()
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
        except (UnicodeEncodeError, _http().InvalidURL) as error:
            raise HubError(
                f"cannot request {what}: {error}", "check HF_ENDPOINT, and other settings that begin with HF_"
            ) from None
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
    asked = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
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
        hint = "check the network, proxy and HF_ENDPOINT, and run the command again"
        if "CERTIFICATE_VERIFY_FAILED" in reason:  # REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are not read
            hint = "set SSL_CERT_FILE to a PEM file with the certificates of this network, such as those of its proxy"
        return HubError(f"cannot download {what}: {reason}", hint)
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
