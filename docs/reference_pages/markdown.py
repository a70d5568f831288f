"""Build blocks of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    """Escape `text` for Markdown; code between backticks is kept."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]$])", r"\\\1", part) for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown cells; vertical bars in cells are escaped."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {line} |" for line in lines)])


def toctree(names: Iterable[str], *, hidden: bool = True) -> str:
    """Return a table of contents, shown in the sidebar, and also on the page unless `hidden`."""
    options = ":hidden:\n" if hidden else ""
    return "```{toctree}\n" + options + "\n" + "\n".join(names) + "\n```"


def page(*blocks: str) -> str:
    """Join blocks with blank lines, leaving out empty ones."""
    return "\n\n".join(block for block in blocks if block) + "\n"
