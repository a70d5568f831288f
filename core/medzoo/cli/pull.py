"""`medzoo pull`: models into the cache."""

from typing import Annotated

import typer

from medzoo.cli.output import Json, notice, print_json, print_text
from medzoo.errors import ConfigError
from medzoo.hub import fetch_model
from medzoo.plugins import load_plugins
from medzoo.registry import Row, load_registry, resolve


def pull(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Models, or generators for their default model.")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="bundled|DIR", help="Take them from here and nowhere else.")
    ] = None,
    json: Json = False,
) -> None:
    """Put models into the cache, checked, and print their folders."""
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    rows: list[Row] = []
    for name in names:
        row = resolve(name, registry, plugins).row
        if row is None:
            raise ConfigError(f"'{name}' has nothing to pull", "it is used as it is")
        rows.append(row)
    pulled = [(row, fetch_model(row, source=source, notice=notice)) for row in rows]
    if json:
        print_json([{"id": row.id, "folder": str(folder), "bytes": row.bytes} for row, folder in pulled])
    else:
        print_text("\n".join(str(folder) for _, folder in pulled))
