"""`medzoo pull` and `medzoo mirror`: models and assets into the cache, or into a folder for other machines."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Source, complete_models
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay

logger = logging.getLogger(__name__)


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Models, assets, plugins (their default model) or hf:org/name[@revision].",
            autocompletion=complete_models,
        ),
    ],
    source: Source = None,
    json: Json = False,
) -> None:
    """Download models and assets into the cache."""
    import medzoo

    with ProgressDisplay("downloading", unit="MB") as progress:
        pulled = medzoo.pull(*names, source=source, progress=progress)
    if json:
        print_json([vars(each) for each in pulled])
    else:
        print_text(*(str(each.path) for each in pulled))


def mirror(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the mirror, created if missing.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Models and assets (default: every model).")
    ] = None,
    assets: Annotated[bool, typer.Option("--assets", help="Add every asset.")] = False,
    json: Json = False,
) -> None:
    """Copy models into a folder, for machines without a network."""
    from medzoo.hub.mirror import write_mirror
    from medzoo.hub.registry import AssetEntry, ModelEntry, find_entry, load_registry
    from medzoo.plugins.lookup import load_plugins

    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    entries: list[ModelEntry | AssetEntry] = [find_entry(name, registry, plugins) for name in names or ()]
    entries = entries or [entry for entry in registry.entries if not entry.deprecated]
    if assets:
        entries += [entry for entry in registry.assets if entry not in entries]
    with ProgressDisplay("downloading", unit="MB") as progress:
        mirrored = list(write_mirror(entries, folder, progress=progress))
    if json:
        print_json([{"id": item.entry.id, "folder": str(item.folder), "copied": item.copied} for item in mirrored])
        return
    for item in mirrored:
        print_text(f"{item.folder}{'' if item.copied else ' (was there)'}")
    size = sum(item.entry.bytes for item in mirrored) / 1e6
    logger.info(f"{len(mirrored)} models and assets, {size:.1f} MB; use them with MEDZOO_MIRROR={folder}")
