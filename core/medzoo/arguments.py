"""Whether arguments that programs give are of the types they are asked for: an error names the one that is not."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from medzoo.errors import ConfigError


def whole_number(name: str, given: object) -> int:
    """The argument `name` as Python's int; numpy's and torch's are taken too. Raises: ConfigError for what is none."""
    if isinstance(given, SupportsIndex) and not isinstance(given, bool):
        with contextlib.suppress(TypeError):  # of an array of several numbers, or of one with a fraction
            return operator.index(given)
    raise refused(name, given, "a whole number")


def names(name: str, given: object, hint: str = "") -> tuple[str, ...]:
    """The argument `name`. Raises: ConfigError for what is no sequence of texts, or a text, which is one of letters."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise refused(name, given, "a list of names", hint)
    return tuple(given)


def require(kinds: Any, wanted: str, hint: str = "", **given: object) -> None:
    """Nothing. Raises: ConfigError for the first of the arguments `given` that is of none of the `kinds`."""
    for name, value in given.items():
        if not isinstance(value, kinds):
            raise refused(name, value, wanted, hint)


def refused(name: str, given: object, wanted: str, hint: str = "") -> ConfigError:
    """The error that says so."""
    return ConfigError(f"{name}={given!r} is not {wanted}", hint)
