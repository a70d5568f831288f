"""`medzoo list`: the published generators and classifiers, and the assets that metrics and models build on."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from medzoo.cli.output import Json, count, megabytes, notice, print_json, print_table, print_text
from medzoo.errors import UnknownName
from medzoo.hub import locate
from medzoo.places import bundled_root, cache_root
from medzoo.plugins import load_plugins
from medzoo.registry import CLASSIFIER, GENERATOR, AssetRow, Row, load_registry

_MODEL_COLUMNS = ("plugin", "modality", "classes", "size", "parameters", "MB", "license", "state")
_ASSET_COLUMNS = ("asset", "MB", "license", "state", "source")
_NUMBERS = ("classes", "size", "parameters", "MB")


class Kind(StrEnum):
    """The kinds of row; a model is a generator or a classifier."""

    GENERATOR = "generator"
    CLASSIFIER = "classifier"
    MODEL = "model"
    ASSET = "asset"


def list_models(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...", help="Keep rows with these words.")] = None,
    modality: Annotated[str, typer.Option(help="Keep models of this modality.")] = "",
    plugin: Annotated[str, typer.Option(help="Keep models of this plugin.")] = "",
    dataset: Annotated[str, typer.Option(help="Keep models trained on this data set.")] = "",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Keep models that make or tell this class.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Keep rows of this kind.")] = None,
    licence: Annotated[str, typer.Option("--licence", "--license", help="Keep rows under this licence.")] = "",
    json: Json = False,
) -> None:
    """List models and assets, what they are and where."""
    facts = {"modality": modality, "plugin": plugin, "dataset": dataset, "license": licence}
    wanted = _Wanted(
        words=[word.lower() for word in words or []],
        facts={fact: value.lower() for fact, value in facts.items() if value},
        classes={name.lower() for name in classes or []},
        kind=kind,
    )
    with _collector_paused():
        _list(wanted, json=json)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What the rows to list must have, in lower case."""

    words: list[str]
    facts: dict[str, str]
    classes: set[str]
    kind: Kind | None

    def takes(self, row: Row | AssetRow) -> bool:
        """Whether the row has all of it. An asset has fewer facts than a model, and no classes."""
        if self.kind and self.kind not in _kinds(row):
            return False
        if not all(getattr(row, fact, "").lower() == value for fact, value in self.facts.items()):
            return False
        if self.classes and not self.classes <= {name.lower() for name in getattr(row, "classes", ())}:
            return False
        return not self.words or all(word in _text(row) for word in self.words)


def _list(wanted: _Wanted, *, json: bool) -> None:
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    everything: tuple[Row | AssetRow, ...] = (*registry.rows, *registry.assets)
    _refuse_unknown(wanted, everything)
    rows = [row for row in everything if wanted.takes(row)]
    if json:
        held = _held_folders()
        print_json([describe(row, held) for row in rows])
    elif rows:
        _print(rows)
    else:
        notice(f"nothing has the words: {' '.join(wanted.words)}" if wanted.words else "the catalogue holds none such")
    weightless = sorted(name for name, spec in plugins.generators.items() if not spec.trainable)
    if weightless and len(rows) == len(everything) and not json:
        notice(f"generators that need no weights: {', '.join(weightless)}")
    deprecated = [row.notice for row in rows if isinstance(row, Row)]
    for text in filter(None, [*deprecated, *registry.problems, plugins.broken_hint.strip("()")]):
        notice(text)


def describe(row: Row | AssetRow, held: frozenset[str] | None = None) -> dict[str, Any]:
    """The row and where its files are, as plain values; `held` as from `_held_folders`."""
    state, folder = _located(row, held)
    facts = {field.name: getattr(row, field.name) for field in fields(row) if field.name != "origins"}
    if isinstance(row, Row):
        facts["classes"] = list(row.classes)
    return {
        "kind": Kind.ASSET.value,
        **facts,
        "bytes": row.bytes,
        "files": [{"name": file.name, "sha256": file.sha256, "bytes": file.bytes} for file in row.files],
        "origin": str(row.origin),
        "state": state,
        "folder": None if folder is None else str(folder),
    }


def _held_folders() -> frozenset[str]:
    """Names of the folders in the cache, in cards/ and in the mirror; a model that has none of them is not here.

    Looking for the files of 10,000 models in each of these places would take half a second more.
    """
    places = [cache_root() / "models", bundled_root() / "cards"]
    if mirror := os.environ.get("MEDZOO_MIRROR"):
        places.append(Path(mirror).expanduser())
    return frozenset(name for place in places if place.is_dir() for name in os.listdir(place))


def _located(row: Row | AssetRow, held: frozenset[str] | None) -> tuple[str, Path | None]:
    if held is not None and isinstance(row, Row) and row.id not in held and row.folder not in held:
        return ("hub" if row.repo and row.revision else "missing"), None
    return locate(row)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing; meanwhile no garbage is looked for. A listing makes none, and looking takes a fifth of a long one."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_unknown(wanted: _Wanted, rows: Sequence[Row | AssetRow]) -> None:
    """Nothing. Raises: UnknownName for a fact or class that no row of the catalogue has."""
    asked = [*wanted.facts.items(), *(("classes", name) for name in wanted.classes)]
    for fact, value in asked:
        had = [getattr(row, fact, ()) for row in rows]
        known = {name for names in had for name in ([names] if isinstance(names, str) else names)}
        if value not in {name.lower() for name in known}:
            raise UnknownName({"license": "licence", "classes": "class"}.get(fact, fact), value, known)


def _kinds(row: Row | AssetRow) -> tuple[str, ...]:
    """What `--kind` may call the row."""
    return (Kind.MODEL, row.kind) if isinstance(row, Row) else (Kind.ASSET,)


def _text(row: Row | AssetRow) -> str:
    """Everything words are looked for in."""
    facts = [row.id, row.summary, row.license]
    if isinstance(row, Row):
        facts += [row.plugin, row.modality, row.dataset, *row.classes]
    return " ".join(facts).lower()


def _print(rows: Sequence[Row | AssetRow]) -> None:
    """Nothing; a table of generators, one of classifiers and one of assets go to stdout, those that have rows."""
    held = _held_folders()
    models = [(row.kind, _model_cells(row, _located(row, held)[0])) for row in rows if isinstance(row, Row)]
    tables = [
        (("id", *_MODEL_COLUMNS), [cells for kind, cells in models if kind == GENERATOR]),
        ((CLASSIFIER, *_MODEL_COLUMNS), [cells for kind, cells in models if kind == CLASSIFIER]),
        (_ASSET_COLUMNS, [_asset_cells(row, _located(row, held)[0]) for row in rows if isinstance(row, AssetRow)]),
    ]
    for number, (columns, lines) in enumerate((columns, lines) for columns, lines in tables if lines):
        if number:
            print_text("")
        print_table(columns, lines, right=_NUMBERS)


def _model_cells(row: Row, state: str) -> tuple[object, ...]:
    pixels = f"{row.size} {'grey' if row.channels == 1 else 'RGB'}"
    shown = f"{state}, deprecated" if row.deprecated else state
    parameters, size = count(row.parameters), megabytes(row.bytes)
    return row.name, row.plugin, row.modality, len(row.classes), pixels, parameters, size, row.license, shown


def _asset_cells(row: AssetRow, state: str) -> tuple[object, ...]:
    return row.id, megabytes(row.bytes), row.license, state, row.repo or urlsplit(row.url).hostname
