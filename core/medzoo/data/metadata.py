"""Tables of images as spreadsheets save them, and medzoo's metadata.csv, which says which images are synthetic."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from medzoo.errors import DataError

METADATA = "metadata.csv"
FIELDS = ("file_name", "label", "origin", "generator", "weights_sha256", "seed", "source_image", "sha256")


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV with a header: return its columns in lower case, and each row's values by column, all stripped.

    Values are separated by commas, semicolons or tabs, whichever the header has most of. The encoding is UTF-8, or what
    a byte-order mark says. Each row has its line number under "line"; empty rows are skipped.

    Raises:
        DataError: the file cannot be read, has another encoding, or a row has more or fewer values than the header.
    """
    try:
        data = path.read_bytes()
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
        header = next((line for line in text.splitlines() if line.strip()), "")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader if any(values)]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the file and its permissions") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}", "save it as CSV in UTF-8") from error
    columns = [name.lower() for name in lines[0][1]] if lines else []
    rows = []
    for line, values in lines[1:]:
        if not any(values):
            continue
        if len(values) != len(columns):
            raise DataError(f"{path} line {line} has more or fewer values than the first line", "fix the line")
        rows.append({**dict(zip(columns, values, strict=True)), "line": str(line)})
    return columns, rows


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of medzoo's metadata.csv by file name, relative to the table's folder; {} if there is none.

    `path` is a folder, a table, or another table beside metadata.csv. A metadata.csv without the columns file_name and
    origin is someone else's.

    Raises: DataError, as `read_table`.
    """
    tables = [path / METADATA] if path.is_dir() else [path, path.parent / METADATA]
    for table in tables if path.is_dir() or path.suffix.lower() == ".csv" else ():
        if table.is_file() and _is_ours(table):
            return {row["file_name"]: row for row in read_table(table)[1]}
    return {}


def _is_ours(table: Path) -> bool:
    """Check the header, so that another program's table may have any encoding and any rows."""
    try:
        with table.open("rb") as file:
            header = file.readline().replace(b"\0", b"").lower()  # UTF-16 has a zero beside each ASCII letter
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}", "check the file and its permissions") from error
    return b"file_name" in header and b"origin" in header
