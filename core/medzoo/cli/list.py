"""`medzoo list`: the published generators and classifiers, and the assets that metrics and models build on."""

import gc
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from medzoo.cli.output import Json, count, megabytes, print_json, print_table, print_text
from medzoo.hub.registry import CLASSIFIER, GENERATOR, TRAIN_COMMANDS, AssetEntry, ModelEntry, Registry, load_registry
from medzoo.hub.search import EntryKind, SearchQuery, without_models
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.storage.paths import bundled_root, cache_root

logger = logging.getLogger(__name__)


_MODEL_COLUMNS = ("plugin", "modality", "classes", "size", "parameters", "MB", "license", "state")
_ASSET_COLUMNS = ("asset", "MB", "license", "state", "source")
_NUMBERS = ("classes", "size", "parameters", "MB")


def list_models(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]...", help="Keep entries with these words.")
    ] = None,
    modality: Annotated[str, typer.Option(help="Keep models of this modality.")] = "",
    plugin: Annotated[str, typer.Option(help="Keep models of this plugin.")] = "",
    dataset: Annotated[str, typer.Option(help="Keep models trained on this data set.")] = "",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Keep models that make or tell this class.")
    ] = None,
    kind: Annotated[EntryKind | None, typer.Option(help="Keep entries of this kind.")] = None,
    license: Annotated[str, typer.Option("--license", help="Keep entries under this license.")] = "",
    json: Json = False,
) -> None:
    """List models and assets, what they are and where."""
    query = SearchQuery.create(
        words or (),
        modality=modality,
        plugin=plugin,
        dataset=dataset,
        license=license,
        classes=classes or (),
        kind=kind,
    )
    with _collector_paused():
        _list(query, json=json)


def _list(query: SearchQuery, *, json: bool) -> None:
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    everything: tuple[ModelEntry | AssetEntry, ...] = (*registry.entries, *registry.assets)
    query.check_values(everything)
    entries = [entry for entry in everything if query.matches(entry)]
    if json:
        held = _held_folders()
        print_json([describe(entry, held) for entry in entries])
    elif entries:
        _print(entries)
    else:
        logger.info(
            f"nothing has the words: {' '.join(query.words)}" if query.words else "the catalogue holds none such"
        )
    if len(entries) == len(everything) and not json:
        _tell_besides(plugins, registry)
    deprecated = [entry.notice for entry in entries if isinstance(entry, ModelEntry)]
    for text in filter(None, [*deprecated, *registry.problems, plugins.broken_hint.strip("()")]):
        logger.warning(text)


def _tell_besides(plugins: Plugins, registry: Registry) -> None:
    """Nothing; what plugins offer that no entry stands for goes to stderr: what needs no weights, what has none yet."""
    weightless = sorted(name for name, spec in plugins.generators.items() if not spec.trainable)
    if weightless:
        logger.info(f"generators that need no weights: {', '.join(weightless)}")
    for kind, names in without_models(plugins, registry).items():
        if names:
            train = f"{TRAIN_COMMANDS[kind]} {names[0] if len(names) == 1 else 'NAME'} --data DIR --out DIR"
            logger.info(f"{kind}s without a published model: {', '.join(names)} ({train})")


def describe(entry: ModelEntry | AssetEntry, held: frozenset[str] | None = None) -> dict[str, Any]:
    """The entry and where its files are, as plain values; `held` as from `_held_folders`."""
    state, folder = _located(entry, held)
    facts = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != "origins"}
    if isinstance(entry, ModelEntry):
        facts["classes"] = list(entry.classes)
    return {
        "kind": EntryKind.ASSET.value,
        **facts,
        "bytes": entry.bytes,
        "files": [{"name": file.name, "sha256": file.sha256, "bytes": file.bytes} for file in entry.files],
        "origin": str(entry.origin),
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


def _located(entry: ModelEntry | AssetEntry, held: frozenset[str] | None) -> tuple[str, Path | None]:
    if held is not None and isinstance(entry, ModelEntry) and entry.id not in held and entry.folder not in held:
        return ("hub" if entry.repo and entry.revision else "missing"), None
    return locate(entry)


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


def _print(entries: Sequence[ModelEntry | AssetEntry]) -> None:
    """Nothing; a table of generators, one of classifiers and one of assets go to stdout, those that have entries."""
    held = _held_folders()
    models = [
        (entry.kind, _model_cells(entry, _located(entry, held)[0]))
        for entry in entries
        if isinstance(entry, ModelEntry)
    ]
    tables = [
        (("id", *_MODEL_COLUMNS), [cells for kind, cells in models if kind == GENERATOR]),
        ((CLASSIFIER, *_MODEL_COLUMNS), [cells for kind, cells in models if kind == CLASSIFIER]),
        (
            _ASSET_COLUMNS,
            [_asset_cells(entry, _located(entry, held)[0]) for entry in entries if isinstance(entry, AssetEntry)],
        ),
    ]
    for number, (columns, lines) in enumerate((columns, lines) for columns, lines in tables if lines):
        if number:
            print_text("")
        print_table(columns, lines, right=_NUMBERS)


def _model_cells(entry: ModelEntry, state: str) -> tuple[object, ...]:
    pixels = f"{entry.size} {'grey' if entry.channels == 1 else 'RGB'}"
    shown = f"{state}, deprecated" if entry.deprecated else state
    parameters, size = count(entry.parameters), megabytes(entry.bytes)
    return entry.name, entry.plugin, entry.modality, len(entry.classes), pixels, parameters, size, entry.license, shown


def _asset_cells(entry: AssetEntry, state: str) -> tuple[object, ...]:
    return entry.id, megabytes(entry.bytes), entry.license, state, entry.repo or urlsplit(entry.url).hostname
