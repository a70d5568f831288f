"""Strict settings: dataclass defaults, then a preset, then a file, then `--set`; every value remembers its origin."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medzoo.config_values import Setting
from medzoo.errors import ConfigError, PluginError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
Origin = TypeVar("Origin")


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A dataclass field with its meaning and the values it takes (`min` and `max` are included)."""
    return dataclasses.field(default=default, metadata={"help": help, "min": min, "max": max, "choices": choices})


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
        PluginError: as `preset_names` and `read_preset`; a preset that sets what `schema` does not take.
    """
    layers = [(f"preset {preset}", read_preset(presets, preset))]
    try:
        _check(schema, layers[0][1], origins=dict.fromkeys(layers[0][1], layers[0][0]))
    except ConfigError as error:
        raise PluginError(f"{_file_of(presets, preset)}: {error.message}", error.hint) from error
    if file is not None:
        layers.append((str(file), read_toml(file)))
    layers.append(("--set", parse_overrides(overrides)))
    for origin, layer in layers:
        _check_known(schema, layer, origins=dict.fromkeys(layer, origin))
    values, changed = merge(layers)
    origins = {**dict.fromkeys(keys(schema), "default"), **changed}
    return Resolved(value=build(schema, values, origins=origins), origins=origins)


def merge(layers: Iterable[tuple[Origin, Mapping[str, Any]]]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Merge layers, each an origin and the keys it sets; the last that sets a key decides.

    Returns the values, and for each key where its value came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    return values, origins


def preset_names(presets: Traversable) -> list[str]:
    """The presets a plugin ships, by name. Raises: PluginError if their folder is none or cannot be read."""
    if not isinstance(presets, Traversable):
        raise PluginError(f"presets are a folder, {presets!r} is none", 'as in presets=files(__name__) / "presets"')
    try:
        return sorted(entry.name.removesuffix(".toml") for entry in presets.iterdir() if entry.name.endswith(".toml"))
    except OSError as error:
        raise PluginError(
            f"cannot read the folder of presets {presets}: {error.strerror}",
            "the spec's `presets` names a folder with tiny.toml and default.toml, which the distribution must contain",
        ) from error


def read_preset(presets: Traversable, name: str) -> dict[str, Any]:
    """The dotted keys a preset sets. Raises: UnknownName; PluginError for a file that cannot be read as TOML."""
    try:
        return _flatten_mapping(tomllib.loads(_preset_text(presets, name)))
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"{_file_of(presets, name)} is not TOML: {error}") from error


def preset_about(presets: Traversable, name: str) -> str:
    """The comment that a preset's file begins with, on one line. Raises: as `read_preset`."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), _preset_text(presets, name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment)


def settings_of(schema: type[Any]) -> tuple[Setting, ...]:
    """Every setting of a settings dataclass and of those nested in it, in the order of their fields.

    Raises: PluginError for what is no dataclass, a setting without a default, or one of an unknown type.
    """
    if not (isinstance(schema, type) and dataclasses.is_dataclass(schema)):
        raise PluginError(f"settings are a dataclass, {schema!r} is none")
    return tuple(_leaves(schema, ""))


def _leaves(schema: type[Any], prefix: str) -> Iterator[Setting]:
    hints = _hints(schema)
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PluginError(
                f"the setting {prefix}{field.name} of {schema.__qualname__} has no default",
                "make it with medzoo.config.setting, a group by its class: image: ImageSettings = ImageSettings()",
            )
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _leaves(kind, f"{prefix}{field.name}.")
        else:
            yield Setting(key=prefix + field.name, kind=kind, field=field, group=schema)


def _hints(schema: type[Any]) -> Mapping[str, Any]:
    """The types of a dataclass's fields; kept, for it takes a millisecond and each look at settings asks for them."""
    try:
        return _known_hints(schema)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
    except NameError as error:
        raise PluginError(
            f"a type in {schema.__qualname__} is unknown: {error}", "import it at run time too"
        ) from error


_known_hints = functools.cache(typing.get_type_hints)


def keys(schema: type[Any]) -> list[str]:
    """Every dotted key of a settings dataclass."""
    return [each.key for each in settings_of(schema)]


def undescribed(schema: type[Any]) -> list[str]:
    """The dotted keys of settings that were not made by `setting`, so that nobody is told what they mean."""
    return [each.key for each in settings_of(schema) if not each.help]


def flatten(value: Any) -> dict[str, Any]:
    """Every dotted key of a settings object with its value."""
    flat: dict[str, Any] = {}
    for key in keys(type(value)):
        node = value
        for part in key.split("."):
            node = getattr(node, part)
        flat[key] = node
    return flat


def shown(value: Any) -> str:
    """A setting's value as `--set` takes it: TOML, or a bare word."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def build(schema: type[T], values: Mapping[str, Any], *, origins: Mapping[str, str] | None = None) -> T:
    """A settings object from dotted keys; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range.
    """
    return typing.cast("T", _construct(schema, _check(schema, values, origins=origins or {}), prefix=""))


def _construct(schema: type[Any], values: Mapping[str, Any], *, prefix: str) -> Any:
    hints = _hints(schema)
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


def _check(schema: type[Any], values: Mapping[str, Any], *, origins: Mapping[str, str]) -> dict[str, Any]:
    """The values as settings hold them, by dotted key. Raises: as `build`."""
    _check_known(schema, values, origins=origins)
    return {
        each.key: each.checked(values[each.key], origin=origins.get(each.key, "config"))
        for each in settings_of(schema)
        if each.key in values
    }


def _check_known(schema: type[Any], values: Mapping[str, Any], *, origins: Mapping[str, str]) -> None:
    known = keys(schema)
    for key in values:
        if key not in known:
            raise UnknownName("setting", key, known, hint=f"[from {origins.get(key, 'config')}]")


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


def read_toml(path: Path) -> dict[str, Any]:
    """The dotted keys a user's file sets. Raises: ConfigError if it cannot be read as TOML."""
    try:
        return _flatten_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _preset_text(presets: Traversable, name: str) -> str:
    """What a preset's file holds. Raises: UnknownName; PluginError if it cannot be read as text."""
    known = preset_names(presets)
    if name not in known:
        raise UnknownName("preset", name, known)
    try:
        return _file_of(presets, name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"cannot read the preset {_file_of(presets, name)}: {error}") from error


def _file_of(presets: Traversable, preset: str) -> Traversable:
    return presets.joinpath(f"{preset}.toml")


def _flatten_mapping(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten_mapping(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
