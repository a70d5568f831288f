"""`medzoo app`: a workbench in the browser."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.output import print_text

logger = logging.getLogger(__name__)


def app(
    *,
    root: Annotated[Path, typer.Option(help="Folder to serve; nothing outside it is read or written.")] = Path(),
    host: Annotated[str, typer.Option(help="Address to bind; any but this machine's own asks for a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to bind; 0 for any that is free.")] = 7860,
) -> None:
    """Look, draw, check and augment in the browser."""
    from medzoo.app.server import serve

    def show(address: str) -> None:
        if "?token=" in address:
            logger.warning(
                "whoever has this address sees all images of the folder; it is not encrypted: use a tunnel or a proxy"
            )
        logger.info("open this address in a browser; Ctrl-C ends the server, and a running job goes on")
        print_text(address)
        sys.stdout.flush()  # a program that started this waits for the address

    serve(root, host=host, port=port, on_ready=show)
