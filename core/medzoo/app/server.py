"""Serve the workbench: bind the address, guard every request, and answer those that are not Gradio's."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medzoo.app.draws import save_upload
from medzoo.app.guard import LOOPBACK, REPORT, UPLOAD, Guard
from medzoo.app.jobs import HAS_LOCKS, Jobs
from medzoo.app.paths import STATE, inside, open_root
from medzoo.errors import ConfigError, MedzooError, ResourceError
from medzoo.storage.files import make_folder

logger = logging.getLogger(__name__)

_BIND = {
    errno.EADDRINUSE: ("the port is in use", "choose another --port, or 0 for any that is free"),
    errno.EACCES: ("permission is denied", "choose a --port above 1023"),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "choose another --host"),
}


def serve(root: Path, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve the folder `root` on an address until interrupted; `on_ready` is called with the address to open.

    Raises: ConfigError on Windows, or if Gradio is not installed; DataError for a `root` that is no folder;
    ResourceError for an address that cannot be bound.
    """
    if not HAS_LOCKS:  # nor sessions of processes
        raise ConfigError("medzoo app does not run on Windows, whose file locks its jobs cannot use", "run it in WSL")
    if find_spec("gradio") is None:
        raise ConfigError("medzoo app needs Gradio, which is not installed", "pip install 'medzoo[app]'")
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port} is not a port", "choose 1 to 65535, or 0 for any that is free")
    folder = open_root(root)
    listener = _bind(host, port)
    logger.info("starting, which takes some seconds")
    try:
        port = listener.getsockname()[1]
        token = "" if _is_loopback(listener) else secrets.token_urlsafe(24)
        application = make_application(folder, port=port, token=token)
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{port}/"
        on_ready(f"{address}?token={token}" if token else address)
        import uvicorn

        # Streams of events last as long as a page is open, and would keep the server from ending.
        config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1, ws="none")
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def make_application(root: Path, *, port: int, token: str = "") -> Guard:
    """Return the ASGI application that serves `root`, which `open_root` has returned."""
    _configure_gradio(root)
    import gradio
    from fastapi import FastAPI
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Route

    from medzoo.app.pages import build, stylesheet, theme

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def upload(request: Request) -> Response:
        body = await request.body()
        try:
            return PlainTextResponse(await run_in_threadpool(save_upload, root, body))
        except MedzooError as error:
            return PlainTextResponse(str(error), status_code=400)

    async def report(request: Request) -> Response:
        try:
            found = inside(root, request.path_params["path"])
        except MedzooError:
            found = root
        if found.suffix != ".html" or not found.is_file():
            return PlainTextResponse("There is no such report.", status_code=404)
        return FileResponse(found, media_type="text/html")

    outer.router.routes += [
        Route(UPLOAD, upload, methods=["POST"]),
        Route(f"{REPORT}{{path:path}}", report, methods=["GET"]),
    ]
    served: Any = gradio.mount_gradio_app(
        outer,
        build(root, Jobs(root)),
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        head=stylesheet(),
    )
    return Guard(served, port=port, token=token)


def _configure_gradio(root: Path) -> None:
    """Keep Gradio from asking other hosts, and from writing outside `root`; it reads these when it is imported."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=str(make_folder(root / STATE / "gradio")),
    )


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises: ResourceError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ResourceError(f"cannot serve on {host}: {_reason(error)}", "choose another --host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason, hint = _BIND.get(error.errno or 0, (_reason(error), "choose another --host or --port"))
        raise ResourceError(f"cannot serve on {host}, port {port}: {reason}", hint) from None
    return listener


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def _is_loopback(listener: socket.socket) -> bool:
    return listener.getsockname()[0] in LOOPBACK
