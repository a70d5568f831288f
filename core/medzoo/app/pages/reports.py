"""The HTML reports of the runs in the served folder."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from medzoo.app.guard import REPORT
from medzoo.app.pages import part, show
from medzoo.app.paths import list_pages

if TYPE_CHECKING:
    from gradio.components import HTML

_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_BEGINNING = 8192


def page(root: Path) -> tuple[HTML, Callable[[], str]]:
    """Lay out the page; return the part that lists the reports, and what renders it."""
    return part(elem_id="reports-list"), partial(render, root)


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
