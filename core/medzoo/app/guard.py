"""What stands before the pages: which requests pass, who may send them, and what a browser may load for them.

Gradio has many routes, for files, proxies, sharing and editing. Only those that the pages use are let through, and no
route of Gradio's reads or writes a file that a request names.
"""

from __future__ import annotations

import hmac
import html
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from medzoo.report.page import SCRIPTS, page_script
from medzoo.storage.files import parse_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

UPLOAD, REPORT, ENTER = "/medzoo/upload", "/medzoo/report/", "/medzoo/enter"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD = 64 * 1024**2
"""Bytes of an uploaded image."""

_MAX_EVENT = 1024**2
_TOKEN_PARAMETER = "token"
_GET = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    r"|/assets/[\w.-]+(/[\w.-]+)*|/static/[\w.-]+(/[\w.-]+)*|/svelte/[\w.-]+(/[\w.-]+)*"
    r"|/gradio_api/(info|startup-events|queue/data|app_id|heartbeat/\w+)/?|/gradio_api/theme\.css"
    rf"|{REPORT}.+"
)
_POST = re.compile(rf"/gradio_api/queue/join|/gradio_api/cancel|/gradio_api/reset|{UPLOAD}|{ENTER}")
# A browser that follows this asks no other host for anything, whatever a page or a library in it says.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'; frame-ancestors 'none'"
)


def report_policy() -> str:
    """Return the policy for reports, whoever wrote them: only medzoo's own scripts run, and in no origin.

    Scripts of galleries and reading studies are known by their digests. Without "allow-same-origin", such a page cannot
    read the workbench's, and its requests state an origin that is not the workbench's.
    """
    scripts = " ".join(f"'sha256-{page_script(name)[1]}'" for name in SCRIPTS)
    return (
        "sandbox allow-scripts allow-forms allow-modals allow-downloads allow-popups allow-popups-to-escape-sandbox; "
        f"default-src 'none'; script-src {scripts}; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    )


def _headers(policy: str) -> Headers:
    return (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),  # under "no-referrer", a form is sent without the origin of its page
        (b"cross-origin-resource-policy", b"same-origin"),
    )


_PAGE_HEADERS, _REPORT_HEADERS = _headers(_POLICY), _headers(report_policy())


class Guard:
    """An ASGI application that passes permitted requests on to `app`.

    With a `token`, requests need it: in the address once ("/?token=..."), then in a cookie, which `port` names. Without
    one, the server is bound to this machine alone, and a request must be addressed to it by one of `LOOPBACK`: a page
    of another site cannot reach it by a name of its own.
    """

    def __init__(self, app: Application, *, port: int, token: str = "") -> None:
        self.app = app
        self.token = token
        self.cookie = f"medzoo-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here uses a WebSocket
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        if problem := self._foreign(headers, method):
            await _answer(send, HTTPStatus.FORBIDDEN, problem)
        elif self.token and path == ENTER and method == "POST":
            await self._enter(receive, send)
        elif self.token and not self._is_known(headers):
            await self._ask(scope, send)
        elif not _is_served(path, method):
            await _answer(send, HTTPStatus.NOT_FOUND, "There is nothing here.")
        elif method == "POST":
            await self._post(scope, receive, _with_headers(send), path)
        else:
            own = _REPORT_HEADERS if path.startswith(REPORT) else _PAGE_HEADERS
            await self.app(scope, receive, _with_headers(send, own))

    def _foreign(self, headers: Mapping[str, str], method: str) -> str:
        """Return why a request is not one of these pages'; "" if it is."""
        host = headers.get("host", "")
        if not self.token and (_host_name(host) not in LOOPBACK):
            return "Open the address that medzoo printed."
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != host:
            return "This request comes from a page of another site."
        return ""

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie:
                return self._is_token(value)
        return False

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    async def _ask(self, scope: Scope, send: Send) -> None:
        """Take the token from the address, or ask for it."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = query.get(_TOKEN_PARAMETER, [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and self._is_token(given):
            await self._let_in(send)
            return
        page = _form("This token is not the right one." if given else "")
        await _answer(send, HTTPStatus.UNAUTHORIZED, page, kind="text/html")

    async def _enter(self, receive: Receive, send: Send) -> None:
        body = await _read(receive, _MAX_EVENT)
        given = parse_qs((body or b"").decode("latin-1")).get(_TOKEN_PARAMETER, [""])[0].strip()
        if self._is_token(given):
            await self._let_in(send)
        else:
            page = _form("This token is not the right one.")
            await _answer(send, HTTPStatus.UNAUTHORIZED, page, kind="text/html")

    async def _let_in(self, send: Send) -> None:
        # Not Strict: a report is of no origin, and its links to other reports would not carry the cookie.
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        await _answer(send, HTTPStatus.SEE_OTHER, "", headers={"location": "/", "set-cookie": cookie})

    async def _post(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Read the body as far as it may be long, check that of an event, and pass both on."""
        limit = MAX_UPLOAD if path == UPLOAD else _MAX_EVENT
        body = await _read(receive, limit)
        if body is None:
            text = f"This is more than {limit // 1024**2} MiB."
            await _answer(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
            return
        if path.endswith("/join") and not _is_plain_event(body):
            await _answer(send, HTTPStatus.BAD_REQUEST, "An event holds plain values only.")
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


def _is_served(path: str, method: str) -> bool:
    if "\0" in path or "\\" in path or ".." in path.split("/"):
        return False
    known = _GET if method in ("GET", "HEAD") else _POST if method == "POST" else None
    return known is not None and known.fullmatch(path) is not None


def _is_plain_event(body: bytes) -> bool:
    """Return whether an event of Gradio's carries no object: one may name a file, or an address to load it from."""
    try:
        event = parse_json(body)
    except ValueError:
        return False
    if not isinstance(event, dict) or not isinstance(event.get("data", []), list):
        return False
    return all(_is_plain(value) for value in event.get("data") or [])


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request, None if it is longer than `limit` bytes."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send, headers: Headers = _PAGE_HEADERS) -> Send:
    """Return `send` that adds the policy to a response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return sending


async def _answer(
    send: Send, status: HTTPStatus, text: str, *, kind: str = "text/plain", headers: Mapping[str, str] | None = None
) -> None:
    body = text.encode()
    own = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((key.encode(), value.encode()) for key, value in (headers or {}).items()),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": [*own, *_PAGE_HEADERS]})
    await send({"type": "http.response.body", "body": body})


def _form(problem: str) -> str:
    """Return the page that asks for the token."""
    told = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>medzoo: token</title><style>body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 30rem; margin: 12vh auto;
padding: 0 16px }} input, button {{ font: inherit; padding: 7px 10px; width: 100%; box-sizing: border-box;
margin: 4px 0 12px }}</style></head><body><h1>medzoo</h1>{told}<form method="post" action="{ENTER}">
<label for="token">Token, which <code>medzoo app</code> printed when it started</label>
<input id="token" name="{_TOKEN_PARAMETER}" type="password" required autocomplete="off" autofocus>
<button>Enter</button></form></body></html>"""
