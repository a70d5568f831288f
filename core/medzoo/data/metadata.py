"""Tables of images as spreadsheets save them, and medzoo's metadata.csv, which says which images are synthetic."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import DataError

METADATA = "metadata.csv"
FIELDS = ("file_name", "label", "origin", "generator", "weights_sha256", "seed", "source_image", "strength", "sha256")
LABELS = "labels"
"""The column of labels in place of "label" where images have several, joined by '|'."""
LINE = " line"
"""The key of a row's line number; no column has this name, for names are stripped."""

_DELIMITERS = {",": "", ";": "separated by semicolons", "\t": "separated by tabs"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV: its columns as spelled, and each row's values by column, with the row's line number under `LINE`.

    `notes` say how it differs from a CSV of commas in UTF-8.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a CSV with a header, all names and values stripped; empty rows are skipped.

    Values are separated by commas, semicolons or tabs, whichever splits the header into most columns. The encoding is
    UTF-8, UTF-16, or what else Windows writes in western Europe (cp1252).

    Raises:
        DataError: the file cannot be read, has another encoding, or a row has more or fewer values than the header.
    """
    try:
        text, notes = _decode(path.read_bytes())
        # Excel's own first line: which delimiter the others have.
        stated = re.match(r'"?sep=(.)"?\n', text)
        text = "\n" + text[stated.end() :] if stated else text
        header = next((line for line in text.split("\n") if line.strip()), "")
        delimiter = stated.group(1) if stated else max(_DELIMITERS, key=lambda sign: _columns_by(sign, header))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the file and its permissions") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}", "save it as CSV in UTF-8") from error
    lines = [(number, values) for number, values in lines if any(values)]
    columns = tuple(lines[0][1]) if lines else ()
    rows = []
    for number, values in lines[1:]:
        # Spreadsheets end lines with as many delimiters as the widest line they ever had.
        own = values[: len(columns)] if not any(values[len(columns) :]) else values
        if len(own) != len(columns):
            raise DataError(f"{path} line {number} has more or fewer values than the first line", "fix the line")
        rows.append({**dict(zip(columns, own, strict=True)), LINE: str(number)})
    if dialect := _DELIMITERS.get(delimiter, f"separated by '{delimiter}'"):
        notes = [dialect, *notes]
    return Table(columns=columns, rows=tuple(rows), notes=tuple(notes))


def _decode(data: bytes) -> tuple[str, list[str]]:
    """Return a table's text with line ends as "\\n", and what is said of its encoding. Raises: UnicodeDecodeError."""
    notes: list[str] = []
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text, notes = data.decode("utf-16"), ["in UTF-16"]
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            try:
                text, notes = data.decode("cp1252"), ["read as Windows-1252, for it is not UTF-8"]
            except UnicodeDecodeError:
                raise error from None
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), notes


def _columns_by(delimiter: str, header: str) -> int:
    return len(next(csv.reader([header], delimiter=delimiter), []))


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of medzoo's metadata.csv by file name, relative to the table's folder; {} if there is none.

    `path` is a folder, a table, or another table beside metadata.csv. A metadata.csv without the columns file_name and
    origin is someone else's. Columns are in lower case.

    Raises: DataError, as `read_table`.
    """
    tables = [path / METADATA] if path.is_dir() else [path, path.parent / METADATA]
    for table in tables if path.is_dir() or path.suffix.lower() == ".csv" else ():
        if table.is_file() and _is_ours(table):
            rows = [{column.lower(): value for column, value in row.items()} for row in read_table(table).rows]
            return {row["file_name"]: row for row in rows if "file_name" in row and "origin" in row}
    return {}


def is_multi_label(folder: Path) -> bool:
    """Return whether a folder has medzoo's metadata.csv of images with several labels. Raises: DataError."""
    table = folder / METADATA
    return table.is_file() and _is_ours(table) and LABELS in read_table(table).columns


def _is_ours(table: Path) -> bool:
    """Check the header, so that another program's table may have any encoding and any rows."""
    try:
        with table.open("rb") as file:
            # The second line is the header after Excel's "sep=;". UTF-16 has a zero beside each ASCII letter.
            header = (file.readline() + file.readline()).replace(b"\0", b"").lower()
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}", "check the file and its permissions") from error
    return b"file_name" in header and b"origin" in header
