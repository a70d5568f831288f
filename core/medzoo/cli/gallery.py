"""`medzoo gallery`: a static site of models, or of augmented data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Classes, Device, Masks, Seed, SkipBad, names_in, takes_reading
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay


@takes_reading
def gallery(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or an earlier gallery to bring up to date.")],
    *,
    data: Annotated[
        Path | None, typer.Option(help="Show these images instead of all models: real ones, or an augmented folder.")
    ] = None,
    augmented: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder of `augment` or `sample` to show beside them; repeat for several."),
    ] = None,
    evaluated: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder of `evaluate` whose metrics to show; repeat for several."),
    ] = None,
    tuned: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of `tune` whose verdict to show.")] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sample N images of each class anew.  [default: the cards' samples]"),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    classes: Classes = "",
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    title: Annotated[str, typer.Option(help="Title of the first page.")] = "",
    as_json: Json = False,
) -> None:
    """Write a static site of models or augmented data to look at."""
    import medzoo

    with ProgressDisplay("sampling") as progress:
        made = medzoo.gallery(
            out,
            data=data,
            augmented=augmented or (),
            evaluated=evaluated or (),
            tuned=tuned,
            classes=names_in(classes),
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            sample=sample,
            seed=seed,
            device=device,
            title=title,
            progress=progress,
        )
    if as_json:
        print_json({"index": made.index, "models": made.models, "remote": made.remote})
        return
    print_text(str(made.index))
