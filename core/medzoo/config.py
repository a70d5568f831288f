"""Typed settings: a dataclass's defaults, then a preset, a TOML file and overrides; each value remembers its origin."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import tomllib
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from medzoo.errors import ConfigError, PluginError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
Origin = TypeVar("Origin")

_TYPES: Mapping[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}

_DECLARED = ("help", "min", "above", "max", "choices")  # by `setting`, in a field's metadata

# The last part of a setting's former key, and what it may be called today: the first that the settings have.
# fmt: off
_RENAMED: Mapping[str, str] = {
    "accumulate": "gradient_accumulation_steps", "adversarial": "adversarial_weight",
    "adversarial_from": "discriminator_start_step", "adversary_rate": "discriminator_learning_rate",
    "adversary_widths": "discriminator_channels", "attention": "mid_block_add_attention",
    "balanced": "class_balanced", "best": "load_best_model_at_end", "blocks": "num_blocks depths",
    "checkpoint_every": "checkpointing_steps", "clip": "max_grad_norm", "collapse": "collapse_threshold",
    "decoder_layers": "decoder_layers_per_block", "dense": "hidden_dims", "edge": "edge_weight", "ema": "ema_decay",
    "embedding": "embedding_dim", "encoder_layers": "encoder_layers_per_block", "expansion": "mlp_ratio",
    "flip": "horizontal_flip", "grid": "pool_size", "groups": "norm_num_groups", "guidance": "guidance_scale",
    "head_width": "attention_head_dim", "heads": "num_attention_heads", "hidden": "hidden_dim",
    "jitter": "color_jitter", "kernel": "kernel_size", "key_variable": "api_key_env", "kl": "kl_weight",
    "kl_warmup": "kl_warmup_steps", "label_width": "label_embedding_dim", "latent": "latent_dim",
    "layers": "layers_per_block", "magnitude": "randaugment_magnitude", "mixup": "mixup_alpha",
    "neck": "bottleneck_channels", "operations": "randaugment_num_ops", "parallel": "max_concurrency",
    "patch": "patch_size", "patience": "early_stopping_patience max_retry_after", "perceptual": "perceptual_weight",
    "perceptual_weights": "perceptual_weights_file", "pixels": "normalization", "precision": "mixed_precision",
    "prediction": "prediction_type", "preview_every": "validation_epochs", "price": "price_per_request",
    "rate": "learning_rate", "restart_epochs": "lr_restart_epochs", "restart_factor": "lr_restart_mult",
    "retries": "max_retries", "sampler": "scheduler", "schedule": "lr_scheduler beta_schedule", "size": "input_size",
    "smoothing": "label_smoothing", "spacing": "timestep_spacing", "ssim": "ssim_weight",
    "step_epochs": "lr_step_epochs", "step_factor": "lr_gamma",
    "steps": "max_steps num_train_timesteps num_inference_steps", "token_hidden": "label_hidden_dim",
    "token_width": "cross_attention_dim", "tokens": "num_label_tokens", "variational": "vlb_weight",
    "warmup": "warmup_steps", "weighted": "class_weighted", "width": "base_channels hidden_dim embed_dim",
    "widths": "block_out_channels", "workers": "num_workers",
}
# fmt: on
_RENAMED_VALUES: Mapping[str, Mapping[Any, Any]] = {"image.crop": {"centre": "center"}}


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    above: float | None = None,
    max: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Declare a dataclass field with its help and the values it allows (`min` and `max` included, `above` not).

    >>> @dataclass(frozen=True, kw_only=True)
    ... class NetworkSettings:
    ...     dropout: float = setting(0.0, "dropout in residual blocks", min=0.0, max=1.0)
    """
    declared = {"help": help, "min": min, "above": above, "max": max, "choices": choices}
    return dataclasses.field(default=default, metadata=declared)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting as its dataclass `group` declares it.

    `key` is dotted; `help` is empty where `setting` did not declare it; values from `min`, or greater than `above`, to
    `max`, or `choices` alone, are allowed.
    """

    key: str
    kind: Any
    group: type[Any]
    help: str = ""
    min: float | None = None
    above: float | None = None
    max: float | None = None
    choices: Sequence[Any] | None = None

    @property
    def takes(self) -> str:
        """The values allowed, in words: "whole number, at least 1", "list: number, 0 to 1", "fp32, bf16"."""
        many = typing.get_origin(self.kind) is tuple
        if self.choices is not None:
            return ("list: " if many else "") + ", ".join(map(str, self.choices))
        kind = typing.get_args(self.kind)[0] if many else self.kind
        word = ", ".join(filter(None, [_TYPES.get(kind, str(kind)), self._range]))
        return f"list: {word}" if many else word

    @property
    def _range(self) -> str:
        """The numbers allowed, in words; empty where all are."""
        if self.above is not None:
            return f"above {self.above:g}" + (f", at most {self.max:g}" if self.max is not None else "")
        if self.min is not None and self.max is not None:
            return f"{self.min:g} to {self.max:g}"
        least = f"at least {self.min:g}" if self.min is not None else ""
        return least or (f"at most {self.max:g}" if self.max is not None else "")

    def validate(self, value: Any, *, origin: str) -> Any:
        """Return `value` as the settings hold it: a list as a tuple, a whole number as float where numbers are allowed.

        Raises:
            ConfigError: a value that is not allowed; `origin` says where it came from.
        """
        key, low, above, high = self.key, self.min, self.above, self.max
        value = _coerce(key, value, self.kind, origin=origin)
        if self.choices is not None:
            for entry in value if isinstance(value, tuple) else (value,):
                if entry not in self.choices:
                    raise ConfigError(
                        f"{key} = {entry!r} [from {origin}]", f"one of: {', '.join(map(str, self.choices))}"
                    )
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{key} = {value!r} is not a finite number [from {origin}]")
            too_low = (low is not None and number < low) or (above is not None and number <= above)
            if too_low or (high is not None and number > high):
                raise ConfigError(f"{key} = {value!r} is out of range [from {origin}]", f"allowed: {self._range}")
        return value


def _coerce(key: str, value: Any, kind: Any, *, origin: str) -> Any:
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(_coerce(key, entry, item, origin=origin) for entry in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    expected = "a list" if typing.get_origin(kind) is tuple else _TYPES.get(kind, str(kind))
    article = "a " if kind in (int, float) else ""
    raise ConfigError(f"{key} = {value!r} is not {article}{expected} [from {origin}]")


class ImageGroup(Protocol):
    """The group `image` of every model's settings, as `medzoo.toolkit.settings.ImageSettings` has it."""

    @property
    def size(self) -> int:
        """The side in pixels."""

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for color."""

    @property
    def crop(self) -> str:
        """The part of a file's image that is kept: "none" (all), "center", "dark-border" or "pad"."""


@dataclass(frozen=True, kw_only=True)
class Resolved(Generic[T]):
    """A settings object and, for each dotted key, where its value came from ("default", "preset tiny", "--set")."""

    value: T
    origins: Mapping[str, str]

    @property
    def image(self) -> ImageGroup:
        """The settings of a model's images. Raises: PluginError if the settings have no such group."""
        image: ImageGroup | None = getattr(self.value, "image", None)
        lacking = [name for name in ("size", "channels", "crop") if not hasattr(image, name)]
        if image is None or lacking:
            raise PluginError(
                f"{type(self.value).__name__} has no setting image.{lacking[0]}",
                "give it the field `image: ImageSettings = ImageSettings()` of medzoo.toolkit.settings",
            )
        return image

    def with_defaults(self, values: Mapping[str, Any], *, origin: str) -> Resolved[T]:
        """Return the settings with those of `values`, by key, that nothing but the default sets; others are ignored.

        >>> config.with_defaults({"image.channels": 3}, origin="the training images")
        """
        taken = {key: value for key, value in values.items() if self.origins.get(key) == "default"}
        origins = {**self.origins, **dict.fromkeys(taken, origin)}
        return Resolved(value=_replace(self.value, taken, prefix=""), origins=origins)

    def flat(self) -> dict[str, Any]:
        """Return every dotted key with its value."""
        return flatten(self.value)

    def plain(self) -> dict[str, Any]:
        """Return every dotted key with its value for JSON, lists of values as lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.flat().items()}


def resolve(
    schema: type[T],
    *,
    presets: Traversable,
    preset: str = "default",
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    ignored: Collection[str] = (),
) -> Resolved[T]:
    """Resolve settings of type `schema`: its defaults, then the preset, then `file` (TOML), then `overrides` by key.

    Keys that are `ignored` in `file` and `overrides` are the caller's own.

    Raises:
        ConfigError: an unknown preset or key (with the nearest spelling), a wrong type, a value out of range.
        PluginError: a preset that cannot be read, or that sets what `schema` does not allow.

    >>> resolve(spec.config, presets=spec.presets, preset="tiny", overrides={"training.epochs": 3})
    """
    layers = [(f"preset {preset}", read_preset(presets, preset))]
    try:
        _check(schema, *merge(layers))
    except ConfigError as error:
        raise PluginError(f"{_file_of(presets, preset)}: {error.message}", error.hint) from error
    if file is not None:
        layers.append((str(file), read_toml(file)))
    layers.append(("--set", dict(overrides or {})))
    layers = [(origin, {key: layer[key] for key in layer if key not in ignored}) for origin, layer in layers]
    for origin, layer in layers:
        _check_known(schema, layer, origins=dict.fromkeys(layer, origin))
    values, origins = merge(layers)
    value = build(schema, values, origins=origins)
    return Resolved(value=value, origins=dict.fromkeys(keys(schema), "default") | origins)


def merge(layers: Iterable[tuple[Origin, Mapping[str, Any]]]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Merge layers, each an origin and the keys it sets, later ones over earlier ones.

    Return the values, and for each key where its value came from.

    >>> merge([("default", {"seed": 0, "steps": 20}), ("--set", {"seed": 3})])
    ({'seed': 3, 'steps': 20}, {'seed': '--set', 'steps': 'default'})
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin, layer in layers:
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    return values, origins


def preset_names(presets: Traversable) -> list[str]:
    """Return the names of a plugin's presets. Raises: PluginError if `presets` is not a readable folder."""
    if not isinstance(presets, Traversable):
        raise PluginError(
            f"presets must be a folder, got {presets!r}", 'give one, as in presets=files(__name__) / "presets"'
        )
    try:
        return sorted(entry.name.removesuffix(".toml") for entry in presets.iterdir() if entry.name.endswith(".toml"))
    except OSError as error:
        raise PluginError(
            f"cannot read the folder of presets {presets}: {error.strerror}",
            "the spec's `presets` names a folder with tiny.toml and default.toml, which the distribution must contain",
        ) from error


def read_preset(presets: Traversable, name: str) -> dict[str, Any]:
    """Return the dotted keys a preset sets. Raises: UnknownName; PluginError for a file that is not TOML."""
    try:
        return _flatten_mapping(tomllib.loads(_preset_text(presets, name)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PluginError(f"{_file_of(presets, name)} is not TOML: {error}") from error


def preset_about(presets: Traversable, name: str) -> str:
    """Return the comment at the head of a preset's file, on one line. Raises: as `read_preset`."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), _preset_text(presets, name).splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment)


def settings_of(schema: type[Any]) -> tuple[Setting, ...]:
    """Return every setting of a dataclass and of those nested in it, in the order of their fields.

    Raises:
        PluginError: `schema` is not a dataclass; a setting without a default, or of an unknown type.
    """
    if not (isinstance(schema, type) and dataclasses.is_dataclass(schema)):
        raise PluginError(f"settings must be a dataclass, got {schema!r}")
    return _all_leaves(schema)


def _leaves(schema: type[Any], prefix: str) -> Iterator[Setting]:
    try:
        hints = _type_hints(schema)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
    except NameError as error:
        raise PluginError(
            f"a type in {schema.__qualname__} is unknown: {error}", "import it at run time too"
        ) from error
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PluginError(
                f"the setting {prefix}{field.name} of {schema.__qualname__} has no default",
                "declare it with medzoo.config.setting, a group by its class: image: ImageSettings = ImageSettings()",
            )
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _leaves(kind, f"{prefix}{field.name}.")
        else:
            declared = {name: field.metadata[name] for name in _DECLARED if name in field.metadata}
            yield Setting(key=prefix + field.name, kind=kind, group=schema, **declared)


@functools.cache  # experiments look at the settings of a classifier a dozen times for each cell
def _all_leaves(schema: Any) -> tuple[Setting, ...]:
    return tuple(_leaves(schema, ""))


_type_hints = functools.cache(typing.get_type_hints)  # a millisecond each, asked for at every look at settings


def keys(schema: type[Any]) -> list[str]:
    """Return every dotted key of a settings dataclass."""
    return [each.key for each in settings_of(schema)]


def undescribed(schema: type[Any]) -> list[str]:
    """Return the dotted keys of settings without help: those that `setting` did not declare."""
    return [each.key for each in settings_of(schema) if not each.help]


def flatten(value: Any) -> dict[str, Any]:
    """Return every dotted key of a settings object with its value."""
    return {key: functools.reduce(getattr, key.split("."), value) for key in keys(type(value))}


def as_lists(values: dict[str, Any], keys: Iterable[str]) -> None:
    """Make lists of the values at `keys`, where there are any: of a text its parts by commas, of others one alone."""
    for key in keys:
        if key in values and not isinstance(values[key], list | tuple):
            values[key] = values[key].split(",") if isinstance(values[key], str) else [values[key]]


def shown(value: Any) -> str:
    """Format a setting's value as `--set` takes it: TOML, or a bare word."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def build(schema: type[T], values: Mapping[str, Any], *, origins: Mapping[str, str] | None = None) -> T:
    """Build a settings object from dotted keys; keys left out keep their defaults.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range.
    """
    checked = _check(schema, values, origins or {})
    return typing.cast("T", _replace(schema(), checked, prefix=""))


def _replace(default: Any, values: Mapping[str, Any], *, prefix: str) -> Any:
    changes = {}
    for field in dataclasses.fields(default):
        key, value = prefix + field.name, getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replace(value, values, prefix=f"{key}.")
        elif key in values:
            changes[field.name] = values[key]
    return dataclasses.replace(default, **changes)


def _check(schema: type[Any], values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """Return the values as settings hold them, by dotted key. Raises: as `build`."""
    _check_known(schema, values, origins=origins)
    return {
        each.key: each.validate(values[each.key], origin=origins.get(each.key, "config"))
        for each in settings_of(schema)
        if each.key in values
    }


def _check_known(schema: type[Any], values: Mapping[str, Any], *, origins: Mapping[str, str]) -> None:
    known = keys(schema)
    for key in values:
        if key not in known:
            origin = f"[from {origins.get(key, 'config')}]"
            if new := renamed(key, known):
                raise ConfigError(f"{key} was renamed to {new} {origin}")
            raise UnknownName("setting", key, known, hint=origin)


def renamed(key: str, known: Iterable[str]) -> str | None:
    """Return today's name, one of the `known` keys, of a setting that had another name before; None if it had none."""
    group, dot, old = key.rpartition(".")
    candidates = {f"{group}{dot}{new}" for new in _RENAMED.get(old, "").split()}
    return None if key in (known := list(known)) else next((each for each in known if each in candidates), None)


def rename_saved(schema: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys of a saved model under today's names, with today's words for their values."""
    known = keys(schema)
    found = {renamed(key, known) or key: value for key, value in values.items()}
    for key, words in _RENAMED_VALUES.items():
        if key in found:
            found[key] = words.get(found[key], found[key])
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Return the dotted keys a user's file sets. Raises: ConfigError if it cannot be read as TOML."""
    try:
        return _flatten_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _preset_text(presets: Traversable, name: str) -> str:
    """Return the text of a preset's file. Raises: UnknownName; PluginError if it cannot be read."""
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
