"""`medzoo card`: write the model card of a training run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import parse_overrides
from medzoo.cli.output import Json, print_json, print_text

logger = logging.getLogger(__name__)


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished training run.")],
    about: Annotated[Path, typer.Option(help="TOML file with what a run cannot know: title, data, license, limits.")],
    out: Annotated[Path, typer.Option(help="Folder for the card and its weights.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a sampling or prediction setting that is published."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the model card of a training run."""
    from medzoo.plugins.lookup import load_plugins
    from medzoo.publishing.card import SAMPLES, About, write_card

    row = write_card(run, out, About.read(about), plugins=load_plugins(), overrides=parse_overrides(overrides))
    look = out / SAMPLES if (out / SAMPLES).is_file() else out
    logger.info(f"card written to {out}; check {look}, then add this entry to a registry file:")
    if as_json:
        print_json({"folder": out, "row": row})
    else:
        print_text(row)
