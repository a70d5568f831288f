"""What a setting takes: told in words, and checked."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medzoo.errors import ConfigError

_KINDS: Mapping[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting as its dataclass declares it; `key` is dotted, `group` the dataclass that it is a field of."""

    key: str
    kind: Any
    field: dataclasses.Field[Any]
    group: type[Any]

    @property
    def help(self) -> str:
        """What it means; empty for one that `setting` did not make."""
        return str(self.field.metadata.get("help", ""))

    @property
    def min(self) -> float | None:
        """The smallest value it takes."""
        return self.field.metadata.get("min")

    @property
    def max(self) -> float | None:
        """The largest value it takes."""
        return self.field.metadata.get("max")

    @property
    def choices(self) -> Sequence[Any] | None:
        """The only values it takes."""
        return self.field.metadata.get("choices")

    @property
    def takes(self) -> str:
        """The values it takes, in words: "whole number, at least 1", "list: number, 0 to 1", "fp32, bf16"."""
        if self.choices is not None:
            return ", ".join(map(str, self.choices))
        many = typing.get_origin(self.kind) is tuple
        kind = typing.get_args(self.kind)[0] if many else self.kind
        word = ", ".join(filter(None, [_KINDS.get(kind, str(kind)), _span(self.min, self.max)]))
        return f"list: {word}" if many else word

    def checked(self, value: Any, *, origin: str) -> Any:
        """The value as settings hold it: a list as a tuple, a whole number as float where numbers are taken.

        Raises: ConfigError for one that it does not take; `origin` says where it came from.
        """
        key, low, high = self.key, self.min, self.max
        value = _coerced(key, value, self.kind, origin=origin)
        if self.choices is not None and value not in self.choices:
            raise ConfigError(f"{key} = {value!r} [from {origin}]", f"one of: {self.takes}")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{key} = {value!r} is not a finite number [from {origin}]")
            if (low is not None and number < low) or (high is not None and number > high):
                raise ConfigError(f"{key} = {value!r} is out of range [from {origin}]", f"allowed: {_span(low, high)}")
        return value


def _span(low: float | None, high: float | None) -> str:
    """The numbers from `low` to `high` in words; nothing where neither is given."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""


def _coerced(key: str, value: Any, kind: Any, *, origin: str) -> Any:
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(_coerced(key, entry, item, origin=origin) for entry in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    expected = "a list" if typing.get_origin(kind) is tuple else _KINDS.get(kind, str(kind))
    article = "a " if kind in (int, float) else ""
    raise ConfigError(f"{key} = {value!r} is not {article}{expected} [from {origin}]")
