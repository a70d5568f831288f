"""Write a model's entry as TOML, and into a registry file in which every other byte is kept."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError
from medzoo.storage.files import write_atomic

_TABLE = re.compile(r"^\[\[[^\n]*\n", re.MULTILINE)


def entry_toml(values: Mapping[str, Any]) -> str:
    """Format an entry as a [[model]] table; empty values ("", false, None, []) are left out, `files` come last."""
    lines = [f"{key} = {to_toml(value)}" for key, value in values.items() if key != "files" and value]
    files = "".join(
        f'  {{ name = "{file["name"]}", sha256 = "{file["sha256"]}", bytes = {file["bytes"]} }},\n'
        for file in values["files"]
    )
    return "[[model]]\n" + "\n".join(lines) + f"\nfiles = [\n{files}]\n"


def update_registry(path: Path, values: Mapping[str, Any]) -> None:
    """Write this entry into the registry file at `path`, in place of the same version or else at the end.

    Raises:
        ConfigError: the file is not a registry, or its layout does not show where one entry ends.
        ResourceError: it cannot be written.
    """
    try:
        old = path.read_text("utf-8") if path.exists() else ""
        new = _replace(old, _key(values), entry_toml(values))
        before, after = _models(old), _models(new)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{path} is not a registry: {error}", "fix it, or give another --registry FILE") from None
    if after != {**before, **_models(entry_toml(values))}:
        raise ConfigError(f"cannot find where the entry of '{values['id']}' ends in {path}", "paste the printed entry")
    write_atomic(path, new.encode())


def to_toml(value: Any) -> str:
    """Format a bool, text, number or list of them as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are those of JSON
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return repr(value)


def _replace(text: str, key: tuple[str, int], entry: str) -> str:
    """Replace the model's table in `text`, or add it; comments and blank lines before the next table stay."""
    starts = [match.start() for match in _TABLE.finditer(text)]
    for start, end in itertools.pairwise([*starts, len(text)]):
        block = text[start:end]
        if key in _models(block):
            table = re.match(r"(?:(?!\n\s*(?:\n|#|$)).)*", block, re.DOTALL)
            assert table is not None  # it matches the empty string
            return text[:start] + entry.rstrip("\n") + block[table.end() :] + text[end:]
    return f"{text.rstrip()}\n\n{entry}".lstrip()


def _models(text: str) -> dict[tuple[str, int], Any]:
    return {_key(table): table for table in tomllib.loads(text).get("model", [])}


def _key(table: Mapping[str, Any]) -> tuple[str, int]:
    return table["id"], table.get("version") or 1
