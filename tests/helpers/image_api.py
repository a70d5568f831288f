"""An images API on 127.0.0.1 that can be told to fail, and that remembers what it was asked."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image, ImageOps


@dataclass(frozen=True)
class Asked:
    """One request as it came: `nth` counts those with its Idempotency-Key, `number` all, both from 1."""

    number: int
    nth: int
    path: str
    key: str
    headers: Message
    fields: Mapping[str, str]
    filename: str
    image: bytes
    at: float


@dataclass(frozen=True)
class Reply:
    """What to answer: after `delay` seconds; `cut` breaks the connection in the middle of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


def variation(asked: Asked) -> bytes:
    """The image sent, inverted, as PNG."""
    with Image.open(io.BytesIO(asked.image)) as image:
        return png(ImageOps.invert(image.convert("RGB")))


def png(image: Image.Image) -> bytes:
    """A PNG's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def with_image(data: bytes) -> Reply:
    """The answer that carries these bytes as its image."""
    return Reply(body=json.dumps({"data": [{"b64_json": base64.b64encode(data).decode()}]}).encode())


def refusal(status: int, message: str = "no", code: str = "", **headers: str) -> Reply:
    """An error in OpenAI's shape; `Retry_After` in `headers` is the header Retry-After."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class ImageApi:
    """The server's state: `asked` in order, and `answer`, which makes the reply to each; None is a variation."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self.host = f"127.0.0.1:{port}"
        self.asked: list[Asked] = []
        self.fetched: list[Mapping[str, str]] = []
        self.answer: Callable[[Asked], Reply | None] = lambda asked: None
        self.lock = threading.Lock()

    def counts(self) -> dict[str, int]:
        """How many requests came with each Idempotency-Key."""
        keys = [asked.key for asked in self.asked]
        return {key: keys.count(key) for key in keys}

    def remember(self, handler: BaseHTTPRequestHandler) -> Asked:
        """The request that `handler` reads, added to `asked`."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        image = parts.pop("image")
        key = handler.headers["Idempotency-Key"]
        with self.lock:
            asked = Asked(
                number=len(self.asked) + 1,
                nth=1 + sum(earlier.key == key for earlier in self.asked),
                path=handler.path,
                key=key,
                headers=handler.headers,
                fields={name: part.get_payload(decode=True).decode() for name, part in parts.items()},
                filename=image.get_filename(),
                image=image.get_payload(decode=True),
                at=time.monotonic(),
            )
            self.asked.append(asked)
        return asked


@contextmanager
def serve() -> Iterator[ImageApi]:
    """An API on a free port, until the end of the context."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.api = ImageApi(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.api  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """POST asks for an image, GET fetches one by its URL."""

    def do_POST(self) -> None:
        """Answer as the API was told to."""
        api: ImageApi = self.server.api  # type: ignore[attr-defined]
        asked = api.remember(self)
        reply = api.answer(asked) or with_image(variation(asked))
        time.sleep(reply.delay)
        self._send(reply, "application/json")

    def do_GET(self) -> None:
        """An image, whatever the path."""
        api: ImageApi = self.server.api  # type: ignore[attr-defined]
        api.fetched.append(dict(self.headers))
        self._send(Reply(body=png(Image.radial_gradient("L"))), "image/png")

    def _send(self, reply: Reply, kind: str) -> None:
        try:
            self.send_response(reply.status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            if reply.cut:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client was killed, or has lost its patience
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
