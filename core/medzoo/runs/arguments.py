"""Check the types of arguments that programs give; an error names the wrong one."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from medzoo.errors import ConfigError


def whole_number(name: str, given: object) -> int:
    """Return the argument `name` as a Python int; those of numpy and torch are accepted. Raises: ConfigError."""
    if isinstance(given, SupportsIndex) and not isinstance(given, bool):
        with contextlib.suppress(TypeError):  # of an array of several numbers, or of one with a fraction
            return operator.index(given)
    raise invalid_argument(name, given, "a whole number")


def names(name: str, given: object, hint: str = "") -> tuple[str, ...]:
    """Return the argument `name`, a sequence of strings but not a string. Raises: ConfigError."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise invalid_argument(name, given, "a list of names", hint)
    return tuple(given)


def class_names(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the argument `classes`, None where it is left out. Raises: as `names`."""
    return None if given is None else names("classes", given)


def require(kinds: Any, wanted: str, hint: str = "", **given: object) -> None:
    """Check that all arguments `given` are instances of `kinds`. Raises: ConfigError for the first that is not."""
    for name, value in given.items():
        if not isinstance(value, kinds):
            raise invalid_argument(name, value, wanted, hint)


def invalid_argument(name: str, given: object, wanted: str, hint: str = "") -> ConfigError:
    """Return the error for an argument of the wrong type."""
    return ConfigError(f"{name}={given!r} is not {wanted}", hint)
