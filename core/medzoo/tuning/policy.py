"""A policy: which synthetic images to add to data of one kind and how to use them, as policy.toml holds it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo.config import setting
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError, MedzooError
from medzoo.experiment.config import DUPLICATE, LEVERS, Arm, UseSettings, parse_arms
from medzoo.storage.files import plain

logger = logging.getLogger(__name__)

FORMAT = 1

_FREE = ("generator.settings", "tuned")  # groups with keys of any name
_BARE = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
_TUNE_AGAIN = "tune again: medzoo tune --data DIR --classifier NAME --out DIR"

_HEAD = """\
# A policy of medzoo: how to use synthetic images with data of one kind, or not to.
#
#   medzoo augment --policy policy.toml --data DIR --out DIR          add the images
#   medzoo classify train NAME --policy policy.toml --data DIR ...    train on them as the policy says
#   medzoo experiment run --policy policy.toml --data DIR --out DIR   measure what they bring

"""
_COMMENTS = {
    "augment": "false: do not add images; the rest says which ones came closest",
    "generator": "the generator as --gen takes it, and what it was when the policy was tuned",
    "generator.settings": "its settings that are not the defaults, as --set takes them",
    "data": "the images that the policy is for",
    "use": "how many images, which ones, and how a classifier uses them",
    "tuned": "how the policy was found",
}


@dataclass(frozen=True, kw_only=True)
class _GeneratorPart:
    name: str = setting("", "generator as --gen takes it, such as ddpm-var-busi@0.3")
    plugin: str = setting("", "plugin of the generator")
    plugin_version: str = setting("", "version of that plugin")
    weights_sha256: str = setting("", "sha256 of the weights; empty without weights")


@dataclass(frozen=True, kw_only=True)
class _DataPart:
    classes: tuple[str, ...] = setting((), "names of the classes")
    channels: int = setting(1, "1 for grayscale, 3 for color", choices=(1, 3))
    bits: int = setting(8, "bits a channel", min=1, max=16)


def _as_in_experiments(name: str) -> Any:
    """Declare a setting as `UseSettings` has it, with one value instead of a list of them."""
    declared = next(each for each in fields(UseSettings) if each.name == name)
    default = declared.default[0] if isinstance(declared.default, tuple) else declared.default
    return field(default=default, metadata=declared.metadata)


@dataclass(frozen=True, kw_only=True)
class _UsePart:
    target_share: float = setting(
        1.0, "images of each class, as a share of those of the largest class", above=0.0, max=100.0
    )
    select: str = _as_in_experiments("select")
    pool: float = _as_in_experiments("pool")
    extractor: str = _as_in_experiments("extractor")
    loss_weight: float = _as_in_experiments("loss_weight")
    batch_share: float = _as_in_experiments("batch_share")
    replace: float = _as_in_experiments("replace")
    stage: str = _as_in_experiments("stage")
    classes: str = _as_in_experiments("classes")
    weighted: bool = _as_in_experiments("weighted")


@dataclass(frozen=True, kw_only=True)
class _PolicyFile:
    """The tables and keys of policy.toml, but for those of `_FREE`."""

    format: int = setting(FORMAT, "version of the format")
    augment: bool = setting(True, "whether to add images")
    verdict: str = setting("", "what the held-out images said, in one sentence")
    generator: _GeneratorPart = _GeneratorPart()
    data: _DataPart = _DataPart()
    use: _UsePart = _UsePart()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which synthetic images to add to data of one kind, and how a classifier uses them; or not to add any.

    `generator` is text as `--gen` takes it, "" for none, and `settings` are its sampling settings that are not the
    defaults, by dotted key. `weights_sha256`, `plugin` and `plugin_version` say what it was. `classes`, `channels` and
    `bits` (a channel) are those of the data. `target_share` is the number of images of each class as a share of the
    largest class, so that the policy scales to more data of the same kind. `select` is "none", or criteria joined by
    "+" by which images are selected from a pool `pool` times as large by features of `extractor`. `loss_weight`,
    `batch_share`, `replace`, `stage` and `weighted` are the levers of `experiment.config.UseSettings`, and `fill` is
    the one called `classes` there ("minority" or "all").

    `augment` is False where adding images did not help: the rest then says what came closest. `verdict` is a sentence.
    `tuned` holds facts about the search: texts, numbers and lists of them by name. It never holds fingerprints of
    images.

    Raises:
        ConfigError, UnknownName: levers that an arm of an experiment cannot have.
    """

    augment: bool
    generator: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    plugin: str = ""
    plugin_version: str = ""
    classes: tuple[str, ...] = ()
    channels: int = 1
    bits: int = 8
    target_share: float = 1.0
    select: str = "none"
    pool: float = 2.0
    extractor: str = "efficientnet-lite0"
    loss_weight: float = 1.0
    batch_share: float = 0.0
    replace: float = 0.0
    stage: str = "together"
    fill: str = "minority"
    weighted: bool = False
    verdict: str = ""
    tuned: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.augment and not self.generator:
            raise ConfigError("augment = true, but generator.name is empty", "name the generator that makes the images")
        if self.augment and not self.classes:
            raise ConfigError("augment = true, but data.classes is empty", "name the classes of the images it is for")
        self.to_arm({"": 1})

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria by which images are selected; none where they are used as drawn."""
        return () if self.select == "none" else tuple(self.select.split("+"))

    @property
    def levers(self) -> dict[str, float | str]:
        """The levers that are pulled, by their names in an experiment."""
        return self.to_arm({"": 1}).levers

    def target(self, counts: Mapping[str, int]) -> int:
        """Return the number of images each class should have, given the number of real images of each."""
        return max(1, round(self.target_share * max(counts.values(), default=0)))

    def arm(self, counts: Mapping[str, int]) -> dict[str, Any]:
        """Return the policy as the table of an arm of an experiment on training images of these counts."""
        own = {name: getattr(self, "fill" if name == "classes" else name) for name in LEVERS}
        pulled = {name: value for name, value in own.items() if value != getattr(Arm, name)}
        return {"images": self.generator or DUPLICATE, "target": self.target(counts), **pulled}

    def to_arm(self, counts: Mapping[str, int]) -> Arm:
        """Return the arm of `arm`'s table. Raises: ConfigError, UnknownName for levers that an arm cannot have."""
        (arm,) = parse_arms([json.dumps(self.arm(counts))], targets=(1,), controls=False)
        return arm

    def experiment_settings(self) -> dict[str, Any]:
        """Return the settings of an experiment that go with `arm`, by dotted key."""
        chosen = {"use.pool": self.pool, "use.extractor": self.extractor} if self.select != "none" else {}
        return chosen | {f"generator.{self.generator}.{key}": value for key, value in self.settings.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}

    def check_data(self, data: Dataset) -> None:
        """Raise DataError for data of other classes, channels or bits than the policy was tuned with."""
        facts = data_facts(data)
        if data.multi_label:
            raise DataError(
                f"{data.path} is multi-label, and a policy says how many images each class should have",
                "give a set with one label per image",
            )
        if set(self.classes) != set(facts["classes"]):
            raise DataError(
                f"the policy was tuned for the classes {', '.join(self.classes)}; {data.path} has "
                f"{', '.join(data.classes)}",
                f"rename the classes (--classes for an npz), or {_TUNE_AGAIN}",
            )
        for name, own in (("channels", self.channels), ("bits", self.bits)):
            if facts[name] != own:
                words = {1: "gray", 3: "color"} if name == "channels" else {}
                raise DataError(
                    f"the policy was tuned on images in {words.get(own, f'{own} bits')}, {data.path} is in "
                    f"{words.get(facts[name], f'{facts[name]} bits')}",
                    _TUNE_AGAIN,
                )

    def check_generator(self, *, plugin: str, version: str, weights_sha256: str | None) -> None:
        """Raise ConfigError for another plugin or other weights than the policy was tuned with.

        Log a warning for another version of the plugin, whose images may differ.
        """
        if self.plugin and plugin != self.plugin:
            raise ConfigError(
                f"the policy was tuned with the plugin '{self.plugin}', '{self.generator}' is now of '{plugin}'",
                f"install the former, or {_TUNE_AGAIN}",
            )
        if self.weights_sha256 != (weights_sha256 or ""):
            before, now = ((digest or "none")[:12] for digest in (self.weights_sha256, weights_sha256))
            raise ConfigError(
                f"the policy was tuned with other weights of '{self.generator}' ({before}) than these ({now})",
                f'name the version it was tuned with, as in generator.name = "NAME@v2", or {_TUNE_AGAIN}',
            )
        if self.plugin_version and version != self.plugin_version:
            logger.warning(
                f"the policy was tuned with '{plugin}' {self.plugin_version}, installed is {version}: its images may "
                f"differ, and with them the gain; install {self.plugin_version}, or {_TUNE_AGAIN}"
            )

    def to_toml(self) -> str:
        """Return the policy as policy.toml holds it."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        tables: dict[str, dict[str, Any]] = {
            "generator": {
                "name": self.generator,
                **{key: own[key] for key in ("plugin", "plugin_version", "weights_sha256")},
            },
            "generator.settings": dict(self.settings),
            "data": {key: own[key] for key in ("classes", "channels", "bits")},
            "use": {each.name: own["fill" if each.name == "classes" else each.name] for each in fields(_UsePart)},
            "tuned": dict(self.tuned),
        }
        helps = {each.key: each.help for each in config.settings_of(_PolicyFile)}
        lines = [
            f"format = {FORMAT}",
            f"augment = {_toml(self.augment)}  # {_COMMENTS['augment']}",
            f"verdict = {_toml(self.verdict)}",
        ]
        for table, values in tables.items():
            if not values:
                continue
            lines += ["", f"# {_COMMENTS[table]}", f"[{table}]"]
            for key, value in values.items():
                about = helps.get(f"{table}.{key}", "")
                shown = key if _BARE.fullmatch(key) else _toml(key)
                lines.append(f"{shown} = {_toml(value)}" + (f"  # {about}" if table == "use" else ""))
        return _HEAD + "\n".join(lines) + "\n"


def data_facts(data: Dataset) -> dict[str, Any]:
    """Return what a policy says of the data it is for: `classes`, `channels` and `bits`, by the names of its fields."""
    return {
        "classes": data.classes,
        "channels": data.channels,
        "bits": 8 if data.highest is None else data.depth,
    }


def read_policy(path: str | Path) -> Policy:
    """Read a policy.toml.

    Raises:
        ConfigError, UnknownName: a file that cannot be read, of a newer format, with an unknown key or a wrong value.
    """
    path = Path(path)
    values = config.read_toml(path)
    version = values.get("format")
    if version is None:
        raise ConfigError(f"{path} is not a policy: it has no format", "`medzoo tune` writes one")
    if isinstance(version, int) and version > FORMAT:
        raise ConfigError(
            f"{path} has format {version}, this medzoo reads up to {FORMAT}", "pip install --upgrade medzoo"
        )
    free = {group: dict(_within(values, group)) for group in _FREE}
    rest = {key: value for key, value in values.items() if not any(key.startswith(f"{group}.") for group in _FREE)}
    file = config.build(_PolicyFile, rest, origins=dict.fromkeys(rest, str(path)))
    use = {each.name: getattr(file.use, each.name) for each in fields(file.use)}
    try:
        return Policy(
            augment=file.augment,
            generator=file.generator.name,
            settings=free["generator.settings"],
            weights_sha256=file.generator.weights_sha256,
            plugin=file.generator.plugin,
            plugin_version=file.generator.plugin_version,
            classes=file.data.classes,
            channels=file.data.channels,
            bits=file.data.bits,
            fill=use.pop("classes"),
            **use,
            verdict=file.verdict,
            tuned=free["tuned"],
        )
    except MedzooError as error:
        error.message = f"{path}: {error.message}"
        raise


def _within(values: Mapping[str, Any], group: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys under a table, without its name."""
    for key, value in values.items():
        if key.startswith(f"{group}."):
            yield key.removeprefix(f"{group}."), value


def _toml(value: Any) -> str:
    """Return a value as TOML: text, a number, true or false, or a list of them."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for this control character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value)
    return repr(float(value) if isinstance(value, float) else value)
