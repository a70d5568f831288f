"""`medzoo list`: the published generators and classifiers, and the assets that metrics and models build on."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from medzoo.cli.output import Json, count, megabytes, print_json, print_table, print_text
from medzoo.hub.registry import CLASSIFIER, GENERATOR, TRAIN_COMMANDS, Entry, ModelEntry, Registry, load_registry
from medzoo.hub.search import EntryKind, search, without_models
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins, load_plugins

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
    classes: Annotated[list[str] | None, typer.Option("--class", help="Keep models that know this class.")] = None,
    kind: Annotated[EntryKind | None, typer.Option(help="Keep entries of this kind.")] = None,
    license: Annotated[str, typer.Option("--license", help="Keep entries under this license.")] = "",
    json: Json = False,
) -> None:
    """List models and assets, what they are and where."""
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    everything: list[Entry] = [*registry.entries, *registry.assets]
    entries = search(
        everything,
        words or (),
        modality=modality,
        plugin=plugin,
        dataset=dataset,
        license=license,
        classes=classes or (),
        kind=kind,
    )
    if json:
        print_json([describe(entry) for entry in entries])
    elif entries:
        _print(entries)
    else:
        logger.info(f"no entry has the words: {' '.join(words)}" if words else "no entry matches")
    if len(entries) == len(everything) and not json:
        _log_unlisted(plugins, registry)
    deprecated = [entry.notice for entry in entries if isinstance(entry, ModelEntry)]
    for text in filter(None, [*deprecated, *registry.problems, plugins.broken_hint.strip("()")]):
        logger.warning(text)


def _log_unlisted(plugins: Plugins, registry: Registry) -> None:
    """Log what plugins provide without a published model."""
    parameter_free = sorted(name for name, spec in plugins.generators.items() if not spec.trainable)
    if parameter_free:
        logger.info(f"generators that need no weights: {', '.join(parameter_free)}")
    for kind, names in without_models(plugins, registry).items():
        if names:
            train = f"{TRAIN_COMMANDS[kind]} {names[0] if len(names) == 1 else 'NAME'} --data DIR --out DIR"
            logger.info(f"{kind}s without a published model: {', '.join(names)} ({train})")


def describe(entry: Entry) -> dict[str, Any]:
    """Describe the entry and where its files are, as plain values."""
    state, folder = locate(entry)
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


def _print(entries: Sequence[Entry]) -> None:
    """Print a table of generators, one of classifiers and one of assets, those that have entries."""
    tables: dict[tuple[str, ...], list[tuple[object, ...]]] = {
        columns: [] for columns in (("id", *_MODEL_COLUMNS), (CLASSIFIER, *_MODEL_COLUMNS), _ASSET_COLUMNS)
    }
    for entry in entries:
        state, size = locate(entry)[0], megabytes(entry.bytes)
        if isinstance(entry, ModelEntry):
            pixels = f"{entry.size} {'gray' if entry.channels == 1 else 'RGB'}"
            facts = (entry.name, entry.plugin, entry.modality, len(entry.classes), pixels, count(entry.parameters))
            shown = f"{state}, deprecated" if entry.deprecated else state
            first = "id" if entry.kind == GENERATOR else CLASSIFIER
            tables[first, *_MODEL_COLUMNS].append((*facts, size, entry.license, shown))
        else:
            source = entry.requirement or entry.repo or urlsplit(entry.url).hostname
            tables[_ASSET_COLUMNS].append((entry.id, size, entry.license, state, source))
    for number, (columns, lines) in enumerate((columns, lines) for columns, lines in tables.items() if lines):
        if number:
            print_text("")
        print_table(columns, lines, right=_NUMBERS)
