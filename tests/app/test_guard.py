"""Which requests pass the guard: routes, hosts, tokens, sizes, and what events may hold."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from medzoo.app.guard import MAX_UPLOAD, UPLOAD, Guard

JOIN = "/gradio_api/queue/join"
LOCAL = {"host": "127.0.0.1:7860"}


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive() if scope["method"] == "POST" else {"body": b"page"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def ask(
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] = LOCAL,
    body: bytes = b"",
    token: str = "",
    query: str = "",
    chunks: int = 1,
) -> tuple[int, dict[str, str], bytes]:
    """Send a request to a guard before an echo; return the status, the headers, and the body of the answer."""
    sent: list[Any] = []
    size = max(1, -(-len(body) // chunks))
    parts = [body[start : start + size] for start in range(0, max(1, len(body)), size)]

    async def receive() -> Any:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    asyncio.run(Guard(_echo, port=7860, token=token)(scope, receive, send))
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/index-a1.js", "/static/img/logo.svg", "/theme.css", "/medzoo/report/a/b.html"]
)
def test_guard_served(path: str) -> None:
    status, headers, body = ask(path)
    assert (status, body) == (200, b"page")
    policy = headers["content-security-policy"]
    if path.startswith("/medzoo"):
        assert "allow-same-origin" not in policy
        assert "script-src 'sha256-" in policy
        assert not [
            word for word in ("'self'", "'unsafe-inline'") if word in policy.partition("script-src")[2].split(";")[0]
        ]
    else:
        assert "connect-src 'self'" in policy


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=.medzoo-app/lock",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/custom_component/a/client/component/x.js",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/deep_link",
        "/gradio_api/upload_progress",
        "/gradio_api/vibe-code",
        "/gradio_api/runs",
        "/monitoring",
        "/static/../../etc/passwd",
        "/assets/..",
        "/assets/a\\b",
        "/medzoo/report/../../etc/passwd",
        "/docs",
        "/openapi.json",
        "/login",
    ],
)
def test_guard_other_routes(path: str) -> None:
    assert ask(path)[0] == 404


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/run/x", "/gradio_api/vibe-edit", "/login", "/"])
def test_guard_other_posts(path: str) -> None:
    assert ask(path, method="POST")[0] == 404
    assert ask("/", method="PUT")[0] == 404


def test_guard_other_sites() -> None:
    assert ask("/", headers={"host": "attacker.example:7860"})[0] == 403
    assert ask("/", headers={})[0] == 403
    event = json.dumps({"data": []}).encode()
    for origin, status in (("http://127.0.0.1:7860", 200), ("http://evil.example", 403), ("null", 403)):
        headers = {**LOCAL, "origin": origin}
        assert ask(JOIN, method="POST", headers=headers, body=event)[0] == status


def test_guard_events_hold_plain_values() -> None:
    named = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for data, status in (
        ([1, "text", None, ["a"], True], 200),
        ([named], 400),
        ([["a", [named]]], 400),
        ([{"url": "http://example.org"}], 400),
        ("text", 400),
    ):
        event = json.dumps({"data": data, "fn_index": 0}).encode()
        found, _, body = ask(JOIN, method="POST", body=event, chunks=3)
        assert found == status, data
        assert status != 200 or body == event
    assert ask(JOIN, method="POST", body=b"no json")[0] == 400
    assert ask(JOIN, method="POST", body=b"[1]")[0] == 400


def test_guard_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(JOIN, method="POST", body=b" " * (1024**2 + 1), chunks=9)[0] == 413
    assert ask(UPLOAD, method="POST", body=b" " * (1024**2 + 1))[0] == 200
    monkeypatch.setattr("medzoo.app.guard.MAX_UPLOAD", 100)
    assert ask(UPLOAD, method="POST", body=b" " * 101, chunks=9)[0] == 413
    assert MAX_UPLOAD > 100


def test_guard_token() -> None:
    anywhere = {"host": "10.0.0.1:7860"}
    status, _, page = ask("/", headers=anywhere, token="secret")
    assert (status, b"medzoo app" in page) == (401, True)
    assert ask("/config", headers=anywhere, token="secret")[0] == 401
    assert ask(JOIN, method="POST", headers=anywhere, token="secret", body=b"{}")[0] == 401
    assert ask("/", headers=anywhere, token="secret", query="token=wrong")[0] == 401
    status, headers, _ = ask("/", headers=anywhere, token="secret", query="token=secret")
    assert (status, headers["location"]) == (303, "/")
    cookie, *facts = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax"} <= set(facts)
    assert ask("/config", headers={**anywhere, "cookie": f"other=1; {cookie}"}, token="secret")[0] == 200
    assert ask("/config", headers={**anywhere, "cookie": f"{cookie}x"}, token="secret")[0] == 401
    for given, status in ((b"token=secret", 303), (b"token=no", 401), (b"", 401)):
        assert ask("/medzoo/enter", method="POST", headers=anywhere, token="secret", body=given)[0] == status
    evil = {**anywhere, "origin": "http://evil.example"}
    assert ask("/medzoo/enter", method="POST", headers=evil, token="secret", body=b"token=secret")[0] == 403
