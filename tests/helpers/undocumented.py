"""What a page of the documentation leaves out of the code it describes. Each function returns what is missing."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterable, Mapping
from types import ModuleType
from typing import Any

from medzoo import config
from medzoo.errors import MedzooError


def missing_hooks(module: ModuleType, functions: Collection[str]) -> list[str]:
    """The hooks of `module` that have no docstring or are not among the site's `functions`."""
    hooks = [value for name, value in vars(module).items() if name.startswith("register_")]
    return [f.__name__ for f in hooks if not f.__doc__ or f"{module.__name__}.{f.__name__}" not in functions]


def missing_parameters(commands: Iterable[tuple[str, Any]], options: Collection[str]) -> list[str]:
    """The commands and the parameters of theirs without help, and the parameters that are not among the `options`.

    `options` are the site's, as "medzoo-data-split.--seed".
    """
    missing = []
    for path, command in commands:
        if not command.help:
            missing.append(path)
        program = f"medzoo-{path.replace(' ', '-')}"
        for parameter in command.params:
            names = parameter.opts + parameter.secondary_opts
            if parameter.param_type_name == "argument":
                names = [(parameter.metavar or parameter.human_readable_name).split()[0]]
            unknown = [name for name in names if f"{program}.{name}" not in options]
            if unknown or not parameter.help:
                missing.append(f"{path} {names[0]}")
    return missing


def missing_settings(schema: type[Any], page: str) -> list[str]:
    """The settings of a settings dataclass that say nothing of what they are, or are in no table of `page`."""
    rows = re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)
    return [key for key in config.keys(schema) if not _field(schema, key).metadata.get("help") or key not in rows]


def _field(schema: type[Any], key: str) -> dataclasses.Field[Any]:
    *groups, name = key.split(".")
    for group in groups:
        schema = typing.get_type_hints(schema)[group]
    return {field.name: field for field in dataclasses.fields(schema)}[name]


def missing_exit_codes(errors: Iterable[type[MedzooError]], page: str) -> list[str]:
    """The errors whose class is not in the table of `page` beside the code it exits with."""
    return [error.__name__ for error in errors if f"\n| {error.exit_code} | `{error.__name__}` |" not in page]


def family(error: type[MedzooError]) -> list[type[MedzooError]]:
    """`error` and all errors of medzoo's own that derive from it and are imported."""
    derived = [each for child in error.__subclasses__() for each in family(child)]
    return [each for each in (error, *derived) if each.__module__.startswith("medzoo")]


def told_in_tables(page: str) -> set[str]:
    """The names in backticks in the first column of a page's tables."""
    return {name for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)}


def missing_variables(sources: Mapping[str, str], page: str) -> list[str]:
    """The environment variables that `sources`, by name, read or name, and that are in no table of `page`."""
    pattern = r"\b(?:MEDZOO|HF|XDG)_[A-Z][A-Z_]*[A-Z]\b|(?<=environ\.get\(\")\w+|(?<=environ\[\")\w+"
    told = told_in_tables(page)
    used = {(name, source) for source, text in sources.items() for name in re.findall(pattern, text)}
    return sorted(f"{name} ({source})" for name, source in used if name not in told)
