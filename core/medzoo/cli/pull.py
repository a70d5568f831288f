"""`medzoo pull`: models and assets into the cache."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import DownloadDisplay
from medzoo.hub.registry import AssetEntry, ModelEntry, find_entry, load_registry
from medzoo.hub.repositories import check_source, fetch_repo, is_reference, parse_reference, read_pulled
from medzoo.hub.sources import fetch_asset, fetch_model
from medzoo.plugins.lookup import load_plugins

logger = logging.getLogger(__name__)


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="Models, assets, plugins (their default model) or hf:org/name[@revision]."
        ),
    ],
    source: Annotated[
        str | None, typer.Option("--from", metavar="bundled|hub|DIR", help="Use this source only.")
    ] = None,
    json: Json = False,
) -> None:
    """Download models and assets into the cache."""
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    wanted = [_reference(name, source) if is_reference(name) else find_entry(name, registry, plugins) for name in names]
    with DownloadDisplay() as display:
        pulled = [_pull(item, source, display) for item in wanted]
    if json:
        print_json(pulled)
    else:
        print_text("\n".join(str(item["path"]) for item in pulled))


def _reference(name: str, source: str | None) -> str:
    """Return `name`, a repository on the Hub. Raises: ConfigError, also if `source` is not the Hub."""
    parse_reference(name)
    check_source(name, source)
    return name


def _pull(item: str | ModelEntry | AssetEntry, source: str | None, display: DownloadDisplay) -> dict[str, Any]:
    """Fetch the item; return what it is and where."""
    if isinstance(item, str):
        folder = fetch_repo(item, refresh=True, progress=partial(display, item))
        pulled = read_pulled(folder)
        logger.info(f"{item} is now hf:{pulled['repo']}@{pulled['revision']}")
        return {"id": item, "path": str(folder), "bytes": _size(folder), **pulled}
    facts = {"bytes": item.bytes, "repo": item.repo, "revision": item.revision}
    if isinstance(item, AssetEntry):
        path = fetch_asset(item, source=source, progress=partial(display, item.id))
        return {"id": item.id, "path": str(path), **facts}
    if item.notice:
        logger.warning(item.notice)
    path = fetch_model(item, source=source, progress=partial(display, item.name))
    return {"id": item.name, "path": str(path), **facts}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith("."))
