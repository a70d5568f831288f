"""The HTML reports of the runs in the served folder."""

from __future__ import annotations

import html
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from medzoo.app.guard import REPORT
from medzoo.app.pages import QUIET, part, show
from medzoo.app.paths import list_pages

if TYPE_CHECKING:
    from gradio import Blocks

_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_BEGINNING = 8192


def page(root: Path, blocks: Blocks) -> None:
    """Lay out the page."""
    import gradio as gr

    again = gr.Button("List reports anew", size="sm", elem_id="list-reports")
    shown = part(elem_id="reports-list")
    blocks.load(lambda: render(root), None, shown, **QUIET)
    again.click(lambda: render(root), None, shown, **QUIET)


def render(root: Path) -> str:
    """Return links to the reports, the newest first."""
    rows = []
    for name in list_pages(root):
        path = root / name
        try:
            with path.open("rb") as file:
                start = file.read(_BEGINNING).decode("utf-8", errors="replace")
            changed = datetime.fromtimestamp(path.stat().st_mtime)
        except OSError:  # removed since it was listed
            continue
        title = _TITLE.search(start)
        rows.append(
            {
                "title": html.unescape(title[1]).strip() if title else name,
                "name": name,
                "address": REPORT + quote(name, errors="surrogateescape"),
                "changed": f"{changed:%Y-%m-%d %H:%M}",
            }
        )
    return show("app_reports.html.j2", rows=rows)
