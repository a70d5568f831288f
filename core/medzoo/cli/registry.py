"""`medzoo registry`: check registry files."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.output import Json, print_json, print_table
from medzoo.errors import ConfigError
from medzoo.plugins.lookup import load_plugins

logger = logging.getLogger(__name__)


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check registry files entry by entry.")


@app.callback()
def _registry() -> None:
    """Keep `check` a subcommand."""


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Registry files to overlay on medzoo's (default: the user's own)."),
    ] = None,
    json: Json = False,
) -> None:
    """Check every entry: its schema, files, card, license, plugin, versions and successor."""
    from medzoo.hub.registry_check import check_registry

    registry, problems = check_registry([file.absolute() for file in files or []], load_plugins())
    if json:
        print_json([asdict(problem) for problem in problems])
    elif problems:
        print_table(("file", "entry", "problem", "hint"), [(p.file, p.entry, p.message, p.hint) for p in problems])
    if problems:
        raise ConfigError(f"the registry has {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    logger.info(f"{len(registry.entries)} models and {len(registry.assets)} assets match their entries")
