"""What verbs print: results to stdout, what medzoo logs to stderr."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, TextIO

import typer

from medzoo.errors import escape_control

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class StderrHandler(logging.Handler):
    """Print log records to stderr, one line each, warnings and errors named as such.

    The hint of an error, `record.hint`, and the traceback of an exception follow on lines of their own. Any of them may
    hold names and texts of others, so their control characters are escaped.

    `sys.stderr` is looked up at each record: rich replaces it while it shows a bar, and prints above that.
    """

    PREFIXES: ClassVar = {logging.WARNING: "warning: ", logging.ERROR: "error: "}

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of `record`."""
        if sys.stderr is not None:  # as in a program without a console
            lines = [self.PREFIXES.get(record.levelno, "") + record.getMessage()]
            if hint := getattr(record, "hint", ""):
                lines.append(f"  {hint}")
            if record.exc_info:
                lines += logging.Formatter().formatException(record.exc_info).splitlines()
            print(*map(escape_control, lines), sep="\n", file=sys.stderr, flush=True)  # noqa: T201 - messages go here


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Print what medzoo logs, from INFO on, to stderr inside the context, and nowhere else."""
    logger, handler = logging.getLogger("medzoo"), StderrHandler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def print_text(*lines: str) -> None:
    """Print each of the lines to stdout, with its control characters escaped."""
    print(*map(escape_control, lines), sep="\n")  # noqa: T201 - this is where results are printed


def print_json(values: Any) -> None:
    """Print `values` to stdout as JSON, in ASCII where stdout cannot take everything."""
    everything = sys.stdout is not None and (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    text = json.dumps(values, indent=2, ensure_ascii=not everything, default=str)
    # JSON escapes the control characters of ASCII; of others, "\\x9b" is not JSON, and "\\u009b" is.
    print_text(*(line if line.isascii() else _escape_json(line) for line in text.split("\n")))


def _escape_json(line: str) -> str:
    return "".join(letter if escape_control(letter) == letter else json.dumps(letter).strip('"') for letter in line)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    file: TextIO | None = None,
) -> None:
    """Print a table to `file` (stdout), at full width where that is not a terminal; columns in `right` hold numbers."""
    cells = [tuple(escape_control(str(cell)) for cell in row) for row in rows]
    stream = file or sys.stdout
    if stream is not None and stream.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        Console(file=stream).print(table)
        return
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    for row in (tuple(columns), *cells):
        spaces = [" " * (width - _width(cell)) for width, cell in zip(widths, row, strict=True)]
        padded = (
            space + cell if column in right else cell + space
            for column, cell, space in zip(columns, row, spaces, strict=True)
        )
        print("  ".join(padded).rstrip(), file=stream)


def _width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def megabytes(size: int) -> str:
    """Return `size` bytes in MB, with one decimal."""
    return f"{size / 1e6:.1f}"


def count(number: int) -> str:
    """Return a number of parameters in short: 850, 12.3k, 3.1M."""
    if number >= 1_000_000:
        return f"{number / 1e6:.1f}M"
    return f"{number / 1e3:.1f}k" if number >= 1_000 else str(number)
