"""How verbs speak: results to stdout, notices to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TextIO

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def notice(text: str) -> None:
    """Nothing; `text` goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is where notices are printed


def print_text(text: str) -> None:
    """Nothing; `text` goes to stdout."""
    print(text)  # noqa: T201 - this is where results are printed


def print_json(values: Any) -> None:
    """Nothing; `values` go to stdout as JSON, in ASCII where stdout cannot take everything."""
    everything = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    print_text(json.dumps(values, indent=2, ensure_ascii=not everything, default=str))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    file: TextIO | None = None,
) -> None:
    """Nothing; a table goes to `file` (stdout), at full width where that is no terminal; `right` has number columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(file=file or sys.stdout)
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def megabytes(size: int) -> str:
    """`size` bytes in MB, one decimal."""
    return f"{size / 1e6:.1f}"


def count(number: int) -> str:
    """A number of parameters as people say it: 850, 12.3k, 3.1M."""
    if number >= 1_000_000:
        return f"{number / 1e6:.1f}M"
    return f"{number / 1e3:.1f}k" if number >= 1_000 else str(number)
