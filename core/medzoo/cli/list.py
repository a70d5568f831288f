"""`medzoo list`: the published generators and classifiers, and the assets that metrics and models build on."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from medzoo.cli.output import Json, count, megabytes, notice, print_json, print_table, print_text
from medzoo.hub.registry import CLASSIFIER, GENERATOR, TRAIN, AssetRow, Registry, Row, load_registry
from medzoo.hub.search import Kind, Wanted, unpublished
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.storage.paths import bundled_root, cache_root

_MODEL_COLUMNS = ("plugin", "modality", "classes", "size", "parameters", "MB", "license", "state")
_ASSET_COLUMNS = ("asset", "MB", "license", "state", "source")
_NUMBERS = ("classes", "size", "parameters", "MB")


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
    wanted = Wanted.of(
        words or (),
        modality=modality,
        plugin=plugin,
        dataset=dataset,
        license=licence,
        classes=classes or (),
        kind=kind,
    )
    with _collector_paused():
        _list(wanted, json=json)


def _list(wanted: Wanted, *, json: bool) -> None:
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    everything: tuple[Row | AssetRow, ...] = (*registry.rows, *registry.assets)
    wanted.refuse_unknown(everything)
    rows = [row for row in everything if wanted.takes(row)]
    if json:
        held = _held_folders()
        print_json([describe(row, held) for row in rows])
    elif rows:
        _print(rows)
    else:
        notice(f"nothing has the words: {' '.join(wanted.words)}" if wanted.words else "the catalogue holds none such")
    if len(rows) == len(everything) and not json:
        _tell_besides(plugins, registry)
    deprecated = [row.notice for row in rows if isinstance(row, Row)]
    for text in filter(None, [*deprecated, *registry.problems, plugins.broken_hint.strip("()")]):
        notice(text)


def _tell_besides(plugins: Plugins, registry: Registry) -> None:
    """Nothing; what plugins offer that no row stands for goes to stderr: what needs no weights, what has none yet."""
    weightless = sorted(name for name, spec in plugins.generators.items() if not spec.trainable)
    if weightless:
        notice(f"generators that need no weights: {', '.join(weightless)}")
    for kind, names in unpublished(plugins, registry).items():
        if names:
            train = f"{TRAIN[kind]} {names[0] if len(names) == 1 else 'NAME'} --data DIR --out DIR"
            notice(f"{kind}s without a published model: {', '.join(names)} ({train})")


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
