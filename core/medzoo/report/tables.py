"""Tables as CSV and records as JSON, written the same way in all reports."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medzoo.storage.files import plain

Record = Mapping[str, Any]
"""A row of a table: values by column."""


def to_csv(rows: Iterable[Record | Sequence[Any]], columns: Sequence[str]) -> bytes:
    """Write rows as CSV; a value that is None or not given leaves its field empty, NaN is written as "nan"."""
    import pandas as pd

    cells = [[row.get(column) for column in columns] if isinstance(row, Mapping) else row for row in rows]
    written = [["nan" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in cells]
    # As objects, integers beside a missing value stay integers.
    table = pd.DataFrame(written, columns=list(columns), dtype=object)
    text: str = table.to_csv(index=False, lineterminator="\n")
    # File names may hold bytes that are not UTF-8.
    return text.encode("utf-8", "replace")


def to_json(value: Any) -> bytes:
    """Write a value as JSON, dataclasses by their fields; a number that is not finite is null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")
