"""Pieces of Markdown that several pages are put together from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    """`text` such that Markdown shows it as it is; what stands between backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]$])", r"\\\1", part) for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown cells; bars in them are escaped."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {line} |" for line in lines)])


def toctree(names: Iterable[str], *, hidden: bool = True) -> str:
    """A tree of pages, shown in the sidebar, and on the page itself unless `hidden`."""
    options = ":hidden:\n" if hidden else ""
    return "```{toctree}\n" + options + "\n" + "\n".join(names) + "\n```"


def page(*blocks: str) -> str:
    """Blocks with a blank line between them."""
    return "\n\n".join(block for block in blocks if block) + "\n"
