"""`medzoo inspect`: show what a generator has learned about its class labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Device, Overrides, Seed, Source, parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay

logger = logging.getLogger(__name__)


def inspect(
    gen: Annotated[str, typer.Argument(metavar="GEN", help="Generator: id, plugin, run folder or hf:org/name.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures and tables.")],
    label: Annotated[
        list[str] | None,
        typer.Option(help="Class to show attention for; repeat for several.  [default: all]"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=16, help="Images per class with attention maps.")] = 1,
    seed: Seed = 0,
    overrides: Overrides = None,
    device: Device = "auto",
    from_: Source = None,
    as_json: Json = False,
) -> None:
    """Show what a generator has learned about its class labels."""
    from medzoo.generation.mixture import make_source
    from medzoo.plugins.lookup import load_plugins
    from medzoo.report.inspection.report import Request
    from medzoo.report.inspection.report import inspect as run

    request = Request(generator=gen, out=out, labels=tuple(label or ()), count=n, seed=seed)
    source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides), mirror=from_)
    with ProgressDisplay("inspecting") as progress:
        found = run(request, source, progress=progress)
    if found.already_done:
        logger.info("this model was already inspected; nothing to do")
    for line in found.left_out:
        logger.info(f"left out {line}")
    if as_json:
        print_json({"folder": found.folder, "files": found.files, "left_out": found.left_out})
        return
    for name in found.files:
        print_text(str(found.folder / name))
