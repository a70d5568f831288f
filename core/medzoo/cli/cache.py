"""`medzoo cache`: list and remove what the cache holds."""

import logging
from typing import Annotated

import typer

from medzoo.cli.output import Json, megabytes, print_json, print_table, print_text
from medzoo.errors import ConfigError
from medzoo.hub.cache import CacheEntry, cached_entries, find_cached, remove_cached
from medzoo.storage.paths import cache_root

logger = logging.getLogger(__name__)


app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, help="List or remove what the cache holds.")


@app.callback()
def list_cache(context: typer.Context, json: Json = False) -> None:
    """List what the cache holds: size, and when it was last used. `medzoo cache remove` removes it."""
    if context.invoked_subcommand is not None:
        return
    held = cached_entries()
    if json:
        print_json([_facts(entry) for entry in held])
        return
    if held:
        columns = ("what", "kind", "MB", "last used", "folder")
        cells = [(e.name, e.kind, megabytes(e.bytes), f"{e.used:%Y-%m-%d %H:%M}", e.folder) for e in held]
        print_table(columns, cells, right=("MB",))
    logger.info(f"{megabytes(sum(entry.bytes for entry in held))} MB in {cache_root()}")


@app.command("remove")
def remove_entries(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Names to remove, as listed.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    json: Json = False,
) -> None:
    """Remove entries from the cache; pulling or training brings them back."""
    if bool(names) == everything:
        raise ConfigError("nothing to remove was given", "medzoo cache remove ID..., or --all")
    removed = cached_entries() if everything else find_cached(names or ())
    for entry in removed:
        remove_cached(entry)
    if json:
        print_json([_facts(entry) for entry in removed])
        return
    for entry in removed:
        print_text(str(entry.folder))
    logger.info(f"{megabytes(sum(entry.bytes for entry in removed))} MB freed")


def _facts(entry: CacheEntry) -> dict[str, object]:
    used = entry.used.isoformat(timespec="seconds")
    return {"name": entry.name, "kind": entry.kind, "bytes": entry.bytes, "used": used, "folder": str(entry.folder)}
