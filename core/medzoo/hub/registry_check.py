"""What is wrong with registry files: each row's schema, files, card, licence, plugin and successor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.hub.entries import CLASSIFIER, GENERATOR, AssetRow, Fault, Row, merged_faults, table_faults, table_name
from medzoo.hub.front_matter import parse
from medzoo.hub.overlays import Layers, bundled_file, read_tables, user_files
from medzoo.hub.registry import Registry, clashes
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins
from medzoo.storage.files import sha256_file

_CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: in which file, with which row ("" for the file itself), and what mends it."""

    file: Path
    row: str
    what: str
    mend: str = ""


def check_registry(files: Sequence[Path], plugins: Plugins) -> tuple[Registry, list[Problem]]:
    """The rows that could be read, and all that is wrong with them and the rest.

    That is of the bundled registry with `files` laid over it; without any, with what plugins and the user lay over it.
    """
    layers = Layers()
    problems: list[Problem] = []
    for path in dict.fromkeys([bundled_file(), *(files or [*plugins.registries, *user_files()])]):
        problems += _lay(layers, path)
    rows, assets, lacking = _rows(layers)
    registry = Registry(rows=tuple(rows), assets=tuple(assets))
    problems += lacking
    problems += [_problem(row, fault) for row, fault in clashes(registry)]
    for row in registry.rows:
        faults = [*_fact_faults(row), *_plugin_faults(row, plugins), *_successor_faults(row, registry)]
        problems += [_problem(row, fault) for fault in [*faults, *_card_faults(row)]]
    return registry, problems


def _problem(row: Row | AssetRow, fault: Fault) -> Problem:
    return Problem(file=row.origin, row=row.name, what=fault[0], mend=fault[1])


def _lay(layers: Layers, path: Path) -> Iterator[Problem]:
    """What is wrong with the file and its tables as they stand; the sound ones are laid over the layers."""
    try:
        sound = []
        for kind, number, table in read_tables(path):
            faults = list(table_faults(kind, table))
            name = table_name(kind, number, table)
            yield from (Problem(file=path, row=name, what=what, mend=mend) for what, mend in faults)
            if not faults:
                sound.append((kind, number, table))
        layers.lay(path, sound)
    except ConfigError as error:
        yield Problem(file=path, row="", what=error.message.removeprefix(f"{path}: "), mend=error.hint)


def _rows(layers: Layers) -> tuple[list[Row], list[AssetRow], list[Problem]]:
    """The models and assets that the merged tables make, and why the others make none."""
    rows, assets, problems = [], [], []
    for kind, tables in layers.tables.items():
        for key, table in tables.items():
            if faults := list(merged_faults(kind, table)):
                file = layers.origins[kind][key]["id"]
                problems += [Problem(file=file, row=key[0], what=what, mend=mend) for what, mend in faults]
            elif kind == "model":
                rows.append(layers.model(key))
            else:
                assets.append(layers.asset(key))
    return rows, assets, problems


def _fact_faults(row: Row) -> Iterator[Fault]:
    """Values of the right type that no model has."""
    empty = [key for key in ("plugin", "summary", "modality", "dataset", "license") if not getattr(row, key).strip()]
    if empty:
        yield f"{', '.join(empty)} must say something", ""
    if len(set(row.classes)) != len(row.classes) or not row.classes:
        yield "classes must be names, each there once", ""
    if row.size < 1 or row.parameters < 1 or row.channels not in (1, 3):
        yield "size and parameters are 1 or more, channels are 1 or 3", ""
    if row.revision and not (row.repo and _COMMIT.fullmatch(row.revision)):
        yield "revision must be a commit of its repo, 40 hexadecimal digits", "a branch or a tag can move"


def _plugin_faults(row: Row, plugins: Plugins) -> Iterator[Fault]:
    offered = plugins.classifiers if row.kind == CLASSIFIER else plugins.generators
    if row.plugin not in offered:
        yield f"no installed plugin offers the {row.kind} '{row.plugin}'", "`medzoo plugin list` shows those there are"
    elif row.kind == GENERATOR and not plugins.generators[row.plugin].trainable:
        yield f"'{row.plugin}' needs no weights", ""


def _successor_faults(row: Row, registry: Registry) -> Iterator[Fault]:
    if not row.successor:
        return
    successor = registry.models.get(row.successor)
    if successor is None:
        yield f"its successor '{row.successor}' is in no registry", ""
    elif successor.kind != row.kind:
        yield f"its successor '{row.successor}' is a {successor.kind}", f"name a {row.kind}"
    elif successor.deprecated:
        yield f"its successor '{row.successor}' is deprecated too", "name the model to use in the end"


def _card_faults(row: Row) -> Iterator[Fault]:
    """How the row differs from its card, which lies in cards/ beside the registry file that names its files."""
    card = row.origins["files"].parent / "cards" / row.folder
    if _CARD not in {file.name for file in row.files}:
        yield f"its files lack {_CARD}, the card", ""
    if not card.is_dir():
        if locate(row)[0] == "missing":
            yield f"there is no {card}, and it is on no mirror and in no repo", f"medzoo push {row.id}"
        return
    for file in row.files:
        path = card / file.name
        if not path.is_file():
            yield f"{path} is missing", ""
        elif path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
            yield f"{path} is another file than the row's, by size or hash", f"medzoo push {row.id} --update-registry"
    if (card / _CARD).is_file():
        yield from _licence_faults(row, card / _CARD)


def _licence_faults(row: Row, card: Path) -> Iterator[Fault]:
    try:
        stated = parse(card.read_text("utf-8")).data.get("license")
    except ValueError as error:
        yield f"{card} has no front matter that can be read: {error}", ""
        return
    if stated != row.license:
        yield f"the row says licence {row.license}, its card {stated or 'none'}", "make them agree"
