"""`medzoo sample`: sample images from one generator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import (
    AllowUpload,
    BatchSize,
    C2pa,
    Device,
    Format,
    Masks,
    Overrides,
    Seed,
    Source,
    complete_generators,
    parse_overrides,
    parse_signing,
    takes_reading,
)
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay
from medzoo.cli.requests import show_requests

logger = logging.getLogger(__name__)

Gen = Annotated[
    str,
    typer.Argument(
        metavar="GEN",
        help="Generator: id, plugin, run folder or hf:org/name; @0.3 varies images.",
        autocompletion=complete_generators,
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        help="Class to sample; repeat for several (a multi-label model shows them all on each image)."
        "  [default: every class]"
    ),
]
Count = Annotated[int, typer.Option(min=1, help="Images per class.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the images.  [default: samples-GEN, unless --grid]")]
Grid = Annotated[Path | None, typer.Option(help="PNG with all images, one or more rows per class.")]
Data = Annotated[Path | None, typer.Option(help="Real images, for generators that vary them.")]


@takes_reading
def sample(
    gen: Gen,
    label: Labels = None,
    n: Count = 16,
    out: Out = None,
    grid: Grid = None,
    data: Data = None,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    overrides: Overrides = None,
    device: Device = "auto",
    allow_upload: AllowUpload = False,
    format: Format = "png",
    c2pa: C2pa = "",
    source: Source = None,
    as_json: Json = False,
) -> None:
    """Sample images of chosen classes from one generator."""
    import medzoo

    with ProgressDisplay("sampling") as progress:
        result = medzoo.sample(
            gen,
            labels=label,
            n=n,
            out=out,
            grid=grid,
            data=data,
            masks=masks,
            reading=reading,
            seed=seed,
            batch_size=batch_size,
            settings=parse_overrides(overrides),
            device=device,
            allow_upload=allow_upload,
            format=format,  # type: ignore[arg-type]  # the API checks it
            c2pa=parse_signing(c2pa),
            source=source,
            progress=progress,
        )
    if result.already_done:
        logger.info("these images were already sampled; nothing to do")
    show_requests(result.requests)
    if as_json:
        keys = ("folder", "grid", "counts", "seed", "device")
        print_json({**{key: getattr(result, key) for key in keys}, "data": result.data})
        return
    for path in (result.folder, result.grid):
        if path is not None:
            print_text(str(path))
