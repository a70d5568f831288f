"""A Hub on 127.0.0.1 for the real huggingface_hub client, that can fail in every way networks and servers fail.

It speaks what a push and a pull need, without xet: set HF_HUB_DISABLE_XET=1. Large files are answered as the Hub does
it, by a redirect to another origin (a second port), which must never see a token.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from helpers import hub_routes
from helpers.hub_routes import Answer, error_headers
from helpers.hub_store import Refusal, Store

_CHUNK = 1 << 16


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with requests whose "METHOD /path" `pattern` finds, `times` times after the first `after`.

    `status` answers with that status and `headers` instead. `body` changes the bytes sent, and so their number;
    `cut` closes the connection after that many bytes of them, `pause` sleeps that long before each `chunk` bytes.
    """

    pattern: str
    times: int = 1
    after: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[bytes], bytes] | None = None
    cut: int | None = None
    pause: float = 0.0
    chunk: int = _CHUNK
    lost: bool = False
    """The request is carried out, and the connection closed before any answer."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that was answered; `headers` have lower-case names."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    origin: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class HubServer:
    """A running server: `store` is its state, `requests` its log, `url` goes into HF_ENDPOINT."""

    def __init__(self) -> None:
        self.store = Store()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._servers = [_Server(self, origin) for origin in ("hub", "cdn")]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        """The server, until the block ends."""
        threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server, thread in zip(self._servers, threads, strict=True):
                server.shutdown()
                server.server_close()
                thread.join()

    def fail(self, pattern: str, **what: Any) -> Fault:
        """A new fault, as `Fault` describes it; it comes before those that are there already."""
        fault = Fault(pattern=pattern, **what)
        with self.lock:
            self.faults.insert(0, fault)
        return fault

    def asked(self, pattern: str = "") -> list[str]:
        """The "METHOD /path" of each request so far that `pattern` finds."""
        return [str(request) for request in self.requests if re.search(pattern, str(request))]

    def next_fault(self, request: str) -> Fault | None:
        """The fault this request meets, counted as used."""
        with self.lock:
            for fault in self.faults:
                if not re.search(fault.pattern, request):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


def flip(at: int) -> Callable[[bytes], bytes]:
    """A change of the byte at `at`, for `Fault.body`."""
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, origin: str) -> None:
        self.hub = hub
        self.origin = origin
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one_request(self) -> None:
        """Read one request, answer it, log it."""
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline:
                self.close_connection = True
            elif self.parse_request():
                self._serve()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing: `HubServer.requests` is the log."""

    def _serve(self) -> None:
        hub, parts = self.server.hub, urlsplit(self.path)
        path = unquote(parts.path)
        body = self._read_body()
        fault = hub.next_fault(f"{self.command} {path}")
        if fault is not None and fault.status:
            answer = Answer(status=fault.status, headers={**error_headers(f"fault {fault.status}"), **fault.headers})
        else:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                with hub.lock:
                    answer = hub_routes.answer(
                        hub, self.server.origin, self.command, parts.path, parts.query, body, token
                    )
            except Refusal as refusal:
                content = json.dumps({"error": refusal.message}).encode()
                headers = error_headers(refusal.message, refusal.code)
                answer = Answer(status=refusal.status, body=content, headers=headers)
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(
            Request(
                method=self.command,
                path=path,
                query=parts.query,
                headers=headers,
                status=answer.status,
                origin=self.server.origin,
            )
        )
        self._send(answer, fault)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        if fault is not None and fault.lost:
            self._reset()
            return
        status, headers, body = answer.status, dict(answer.headers), answer.body
        if fault is not None and fault.body is not None:
            body = fault.body(body)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and status == 200 and "Accept-Ranges" in headers:
            first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}" if first <= last else f"bytes */{len(body)}"
            status = 206 if first <= last else 416
            body = body[first : last + 1] if first <= last else b""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, fault)

    def _send_body(self, body: bytes, fault: Fault | None) -> None:
        fault = fault or Fault(pattern="")
        end = len(body) if fault.cut is None else min(fault.cut, len(body))
        for start in range(0, end, fault.chunk):
            time.sleep(fault.pause)
            self.wfile.write(body[start : min(start + fault.chunk, end)])
        if fault.cut is not None:
            time.sleep(0.05)  # else the reset may overtake the bytes before it
            self._reset()

    def _reset(self) -> None:
        """Close the connection at once, so that the other side sees a reset and no orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.flush()
        self.connection.close()
        self.close_connection = True
