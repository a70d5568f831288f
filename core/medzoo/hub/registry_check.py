"""What is wrong with registry files: each entry's schema, files, card, license, plugin and successor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.hub.entries import (
    CLASSIFIER,
    GENERATOR,
    AssetEntry,
    Fault,
    ModelEntry,
    merged_faults,
    table_faults,
    table_name,
)
from medzoo.hub.front_matter import parse_card
from medzoo.hub.overlays import Layers, bundled_file, read_tables, user_files
from medzoo.hub.registry import Registry, clashes
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins
from medzoo.storage.files import sha256_file

_CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: in which file, with which entry ("" for the file itself), and what mends it."""

    file: Path
    entry: str
    message: str
    hint: str = ""


def check_registry(files: Sequence[Path], plugins: Plugins) -> tuple[Registry, list[Problem]]:
    """The entries that could be read, and all that is wrong with them and the rest.

    That is of the bundled registry with `files` laid over it; without any, with what plugins and the user lay over it.
    """
    layers = Layers()
    problems: list[Problem] = []
    for path in dict.fromkeys([bundled_file(), *(files or [*plugins.registries, *user_files()])]):
        problems += _lay(layers, path)
    entries, assets, lacking = _rows(layers)
    registry = Registry(entries=tuple(entries), assets=tuple(assets))
    problems += lacking
    problems += [_problem(entry, fault) for entry, fault in clashes(registry)]
    for entry in registry.entries:
        faults = [*_fact_faults(entry), *_plugin_faults(entry, plugins), *_successor_faults(entry, registry)]
        problems += [_problem(entry, fault) for fault in [*faults, *_card_faults(entry)]]
    return registry, problems


def _problem(entry: ModelEntry | AssetEntry, fault: Fault) -> Problem:
    return Problem(file=entry.origin, entry=entry.name, message=fault[0], hint=fault[1])


def _lay(layers: Layers, path: Path) -> Iterator[Problem]:
    """What is wrong with the file and its tables as they stand; the sound ones are laid over the layers."""
    try:
        sound = []
        for kind, number, table in read_tables(path):
            faults = list(table_faults(kind, table))
            name = table_name(kind, number, table)
            yield from (Problem(file=path, entry=name, message=message, hint=hint) for message, hint in faults)
            if not faults:
                sound.append((kind, number, table))
        layers.lay(path, sound)
    except ConfigError as error:
        yield Problem(file=path, entry="", message=error.message.removeprefix(f"{path}: "), hint=error.hint)


def _rows(layers: Layers) -> tuple[list[ModelEntry], list[AssetEntry], list[Problem]]:
    """The models and assets that the merged tables make, and why the others make none."""
    entries, assets, problems = [], [], []
    for kind, tables in layers.tables.items():
        for key, table in tables.items():
            if faults := list(merged_faults(kind, table)):
                file = layers.origins[kind][key]["id"]
                problems += [Problem(file=file, entry=key[0], message=message, hint=hint) for message, hint in faults]
            elif kind == "model":
                entries.append(layers.model(key))
            else:
                assets.append(layers.asset(key))
    return entries, assets, problems


def _fact_faults(entry: ModelEntry) -> Iterator[Fault]:
    """Values of the right type that no model has."""
    empty = [key for key in ("plugin", "summary", "modality", "dataset", "license") if not getattr(entry, key).strip()]
    if empty:
        yield f"{', '.join(empty)} must say something", ""
    if len(set(entry.classes)) != len(entry.classes) or not entry.classes:
        yield "classes must be names, each there once", ""
    if entry.size < 1 or entry.parameters < 1 or entry.channels not in (1, 3):
        yield "size and parameters are 1 or more, channels are 1 or 3", ""
    if entry.revision and not (entry.repo and _COMMIT.fullmatch(entry.revision)):
        yield "revision must be a commit of its repo, 40 hexadecimal digits", "a branch or a tag can move"


def _plugin_faults(entry: ModelEntry, plugins: Plugins) -> Iterator[Fault]:
    offered = plugins.classifiers if entry.kind == CLASSIFIER else plugins.generators
    if entry.plugin not in offered:
        yield (
            f"no installed plugin offers the {entry.kind} '{entry.plugin}'",
            "`medzoo plugin list` shows those there are",
        )
    elif entry.kind == GENERATOR and not plugins.generators[entry.plugin].trainable:
        yield f"'{entry.plugin}' needs no weights", ""


def _successor_faults(entry: ModelEntry, registry: Registry) -> Iterator[Fault]:
    if not entry.successor:
        return
    successor = registry.models.get(entry.successor)
    if successor is None:
        yield f"its successor '{entry.successor}' is in no registry", ""
    elif successor.kind != entry.kind:
        yield f"its successor '{entry.successor}' is a {successor.kind}", f"name a {entry.kind}"
    elif successor.deprecated:
        yield f"its successor '{entry.successor}' is deprecated too", "name the model to use in the end"


def _card_faults(entry: ModelEntry) -> Iterator[Fault]:
    """How the entry differs from its card, which lies in cards/ beside the registry file that names its files."""
    card = entry.origins["files"].parent / "cards" / entry.folder
    if _CARD not in {file.name for file in entry.files}:
        yield f"its files lack {_CARD}, the card", ""
    if not card.is_dir():
        if locate(entry)[0] == "missing":
            yield f"there is no {card}, and it is on no mirror and in no repo", f"medzoo push {entry.id}"
        return
    for file in entry.files:
        path = card / file.name
        if not path.is_file():
            yield f"{path} is missing", ""
        elif path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
            yield (
                f"{path} is another file than the entry's, by size or hash",
                f"medzoo push {entry.id} --update-registry",
            )
    if (card / _CARD).is_file():
        yield from _license_faults(entry, card / _CARD)


def _license_faults(entry: ModelEntry, card: Path) -> Iterator[Fault]:
    try:
        stated = parse_card(card.read_text("utf-8")).data.get("license")
    except ValueError as error:
        yield f"{card} has no front matter that can be read: {error}", ""
        return
    if stated != entry.license:
        yield f"the entry says license {entry.license}, its card {stated or 'none'}", "make them agree"
