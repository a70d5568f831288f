"""`medzoo list`: the published models."""

from typing import Annotated, Any

import typer

from medzoo.cli.output import Json, count, megabytes, notice, print_json, print_table
from medzoo.hub import locate
from medzoo.plugins import load_plugins
from medzoo.registry import Row, load_registry

_COLUMNS = ("id", "plugin", "modality", "classes", "size", "parameters", "MB", "license", "state")
_NUMBERS = ("classes", "size", "parameters", "MB")


def list_models(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]...", help="Keep models with these words.")
    ] = None,
    json: Json = False,
) -> None:
    """List the models: what they make, their size and where they are."""
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    rows = [row for row in registry.rows if _matches(row, words or [])]
    if json:
        print_json([describe(row) for row in rows])
    elif rows:
        print_table(_COLUMNS, [_cells(row) for row in rows], right=_NUMBERS)
    else:
        notice(f"no model has the words: {' '.join(words)}" if words else "the catalogue is empty")
    weightless = sorted(name for name, spec in plugins.generators.items() if not spec.trainable)
    if weightless and not words and not json:
        notice(f"generators that need no weights: {', '.join(weightless)}")
    for problem in filter(None, [*registry.problems, plugins.broken_hint.strip("()")]):
        notice(problem)


def describe(row: Row) -> dict[str, Any]:
    """The row and where its model is, as plain values."""
    state, folder = locate(row)
    return {
        "id": row.id,
        "plugin": row.plugin,
        "summary": row.summary,
        "modality": row.modality,
        "dataset": row.dataset,
        "classes": list(row.classes),
        "size": row.size,
        "channels": row.channels,
        "parameters": row.parameters,
        "bytes": row.bytes,
        "license": row.license,
        "default": row.default,
        "repo": row.repo,
        "revision": row.revision,
        "files": [{"name": file.name, "sha256": file.sha256, "bytes": file.bytes} for file in row.files],
        "origin": str(row.origin),
        "state": state,
        "folder": None if folder is None else str(folder),
    }


def _matches(row: Row, words: list[str]) -> bool:
    text = " ".join([row.id, row.plugin, row.summary, row.modality, row.dataset, row.license, *row.classes]).lower()
    return all(word.lower() in text for word in words)


def _cells(row: Row) -> tuple[object, ...]:
    pixels = f"{row.size} {'grey' if row.channels == 1 else 'RGB'}"
    state, _ = locate(row)
    parameters = count(row.parameters)
    size = megabytes(row.bytes)
    return (row.id, row.plugin, row.modality, len(row.classes), pixels, parameters, size, row.license, state)
