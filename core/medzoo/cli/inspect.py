"""`medzoo inspect`: show what a generator has learned about its class labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Device, GeneratorName, Overrides, Seed, Source, parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay

logger = logging.getLogger(__name__)


def inspect(
    gen: GeneratorName,
    out: Annotated[Path, typer.Option(help="Folder for the figures and tables.")],
    label: Annotated[
        list[str] | None,
        typer.Option(help="Class to show attention for; repeat for several.  [default: all]"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, max=16, help="Images per class with attention maps.")] = 1,
    seed: Seed = 0,
    overrides: Overrides = None,
    device: Device = "auto",
    source: Source = None,
    as_json: Json = False,
) -> None:
    """Show what a generator has learned about its class labels."""
    import medzoo

    with ProgressDisplay("inspecting") as progress:
        found = medzoo.inspect(
            gen,
            out=out,
            labels=label,
            n=n,
            seed=seed,
            device=device,
            settings=parse_overrides(overrides),
            source=source,
            progress=progress,
        )
    if found.already_done:
        logger.info("this model was already inspected; nothing to do")
    for line in found.left_out:
        logger.info(f"left out {line}")
    if as_json:
        print_json({"folder": found.folder, "files": found.files, "left_out": found.left_out})
        return
    for name in found.files:
        print_text(str(found.folder / name))
