"""Strict settings: dataclass defaults, then a preset, then a file, then `--set`; every value remembers its origin."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medzoo.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

T = TypeVar("T")

_KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def setting(
    default: Any,
    about: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A dataclass field with its meaning and the values it takes (`low` and `high` are included)."""
    return dataclasses.field(default=default, metadata={"about": about, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Resolved(Generic[T]):
    """A settings object and, for each dotted key, where its value came from ("default", "preset tiny", "--set")."""

    value: T
    origins: Mapping[str, str]

    def flat(self) -> dict[str, Any]:
        """Every dotted key with its value."""
        return flatten(self.value)


def resolve(
    schema: type[T],
    *,
    presets: Traversable,
    preset: str = "default",
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Resolved[T]:
    """Settings of type `schema` from its defaults, then the preset, then `file` (TOML), then `key=value` overrides.

    Raises:
        ConfigError: an unknown preset or key (nearest spelling offered), a wrong type, a value out of range.
    """
    layers = [(f"preset {preset}", read_preset(presets, preset))]
    if file is not None:
        layers.append((str(file), _read_toml(file)))
    layers.append(("--set", parse_overrides(overrides)))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(keys(schema), "default")
    for origin, layer in layers:
        _check_known(schema, layer, origins=dict.fromkeys(layer, origin))
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    return Resolved(value=build(schema, values, origins=origins), origins=origins)


def preset_names(presets: Traversable) -> list[str]:
    """The presets a plugin ships, by name."""
    return sorted(entry.name.removesuffix(".toml") for entry in presets.iterdir() if entry.name.endswith(".toml"))


def read_preset(presets: Traversable, name: str) -> dict[str, Any]:
    """The dotted keys a preset sets."""
    known = preset_names(presets)
    if name not in known:
        raise UnknownName("preset", name, known)
    return _flatten_mapping(tomllib.loads(presets.joinpath(f"{name}.toml").read_text(encoding="utf-8")))


def keys(schema: type[Any]) -> list[str]:
    """Every dotted key of a settings dataclass."""
    return [key for key, _, _ in _leaves(schema)]


def undescribed(schema: type[Any]) -> list[str]:
    """The dotted keys of settings that were not made by `setting`, so that nobody is told what they mean."""
    return [key for key, _, field in _leaves(schema) if not field.metadata.get("about")]


def flatten(value: Any) -> dict[str, Any]:
    """Every dotted key of a settings object with its value."""
    flat: dict[str, Any] = {}
    for key, _, _ in _leaves(type(value)):
        node = value
        for part in key.split("."):
            node = getattr(node, part)
        flat[key] = node
    return flat


def build(schema: type[T], values: Mapping[str, Any], *, origins: Mapping[str, str] | None = None) -> T:
    """A settings object from dotted keys; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range.
    """
    _check_known(schema, values, origins=origins or {})
    checked = {
        key: _checked(key, values[key], kind, field, origin=(origins or {}).get(key, "config"))
        for key, kind, field in _leaves(schema)
        if key in values
    }
    return typing.cast("T", _construct(schema, checked, prefix=""))


def _construct(schema: type[Any], values: Mapping[str, Any], *, prefix: str) -> Any:
    hints = typing.get_type_hints(schema)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(schema):
        key = prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            default = getattr(schema(), field.name)
            nested = {k: v for k, v in values.items() if k.startswith(key + ".")}
            inherited = {f"{key}.{k}": v for k, v in flatten(default).items()}
            given[field.name] = _construct(type(default), inherited | nested, prefix=key + ".")
        elif key in values:
            given[field.name] = values[key]
    return schema(**given)


def _leaves(schema: type[Any], prefix: str = "") -> list[tuple[str, Any, dataclasses.Field[Any]]]:
    hints = typing.get_type_hints(schema)
    found: list[tuple[str, Any, dataclasses.Field[Any]]] = []
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found += _leaves(kind, f"{prefix}{field.name}.")
        else:
            found.append((prefix + field.name, kind, field))
    return found


def _check_known(schema: type[Any], values: Mapping[str, Any], *, origins: Mapping[str, str]) -> None:
    known = keys(schema)
    for key in values:
        if key not in known:
            raise UnknownName("setting", key, known, hint=f"[from {origins.get(key, 'config')}]")


def _checked(key: str, value: Any, kind: Any, field: dataclasses.Field[Any], *, origin: str) -> Any:
    value = _coerced(key, value, kind, origin=origin)
    rules = field.metadata
    choices = rules.get("choices")
    if choices is not None and value not in choices:
        raise ConfigError(f"{key} = {value!r} [from {origin}]", f"one of: {', '.join(map(str, choices))}")
    low, high = rules.get("low"), rules.get("high")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{key} = {value!r} is not a finite number [from {origin}]")
        if (low is not None and number < low) or (high is not None and number > high):
            span = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
            raise ConfigError(f"{key} = {value!r} is out of range [from {origin}]", f"allowed: {span}")
    return value


def _coerced(key: str, value: Any, kind: Any, *, origin: str) -> Any:
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(_coerced(key, entry, item, origin=origin) for entry in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    expected = "a list" if typing.get_origin(kind) is tuple else _KINDS.get(kind, str(kind))
    raise ConfigError(f"{key} = {value!r} is not {expected} [from {origin}]")


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted keys and values of `key=value` texts; values are TOML, and a bare word is a string."""
    values: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set cannot take '{override}'", "write --set key=value, as in --set image.size=64")
        values[key.strip()] = _parse_value(text.strip())
    return values


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string: quoting it for the shell and for TOML would be one quote too many


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return _flatten_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _flatten_mapping(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten_mapping(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
