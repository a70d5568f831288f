"""`medzoo inspect`: look at what a model has learned of its labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Device, Mirror, Overrides, Seed, parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import Display

logger = logging.getLogger(__name__)


def inspect(
    gen: Annotated[str, typer.Argument(metavar="GEN", help="Model, plugin or training run.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and tables.")],
    label: Annotated[
        list[str] | None,
        typer.Option(help="Class whose attention is drawn; repeat for several.  [default: all]"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=16, help="Images of each class with attention.")] = 1,
    seed: Seed = 0,
    overrides: Overrides = None,
    device: Device = "auto",
    from_: Mirror = None,
    as_json: Json = False,
) -> None:
    """Show what a model has learned of its labels."""
    from medzoo.generation.mixture import make_source
    from medzoo.inspection.inspect import Request
    from medzoo.inspection.inspect import inspect as run
    from medzoo.plugins.lookup import load_plugins

    request = Request(generator=gen, out=out, labels=tuple(label or ()), count=n, seed=seed)
    source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides), mirror=from_)
    with Display("looking") as display:
        found = run(request, source, progress=display)
    if found.already_done:
        logger.info("this model was looked at before; nothing was done")
    for line in found.left_out:
        logger.info(f"left out {line}")
    if as_json:
        print_json({"folder": found.folder, "files": found.files, "left_out": found.left_out})
        return
    for name in found.files:
        print_text(str(found.folder / name))
