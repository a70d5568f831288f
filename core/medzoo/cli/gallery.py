"""`medzoo gallery`: a static site of models, or of augmented data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Device, Seed
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay


def gallery(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or an earlier gallery to bring up to date.")],
    *,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sample N images of each class anew.  [default: the cards' samples]"),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    title: Annotated[str, typer.Option(help="Title of the first page.")] = "",
    as_json: Json = False,
) -> None:
    """Write a static site of all models: samples, cards and scores."""
    import medzoo

    with ProgressDisplay("sampling") as progress:
        made = medzoo.gallery(out, sample=sample, seed=seed, device=device, title=title, progress=progress)
    if as_json:
        print_json({"index": made.index, "models": made.models, "remote": made.remote})
        return
    print_text(str(made.index))
