"""`medzoo sample`: draw images from one generator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import AllowUpload, BatchSize, Device, Mirror, Overrides, Seed, parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import Display
from medzoo.cli.requests import show_requests

if TYPE_CHECKING:
    from medzoo.generation.job import Job

logger = logging.getLogger(__name__)


Gen = Annotated[str, typer.Argument(metavar="GEN", help="Model, plugin or training run.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        help="Class to draw; repeat for several: each in turn, or, by a multi-label model, all on every image."
        "  [default: each class in turn]"
    ),
]
Count = Annotated[int, typer.Option(min=1, help="Images of each class.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the images.  [default: samples-GEN, unless --grid]")]
Grid = Annotated[Path | None, typer.Option(help="PNG that shows all of them, one row or more a class.")]
Data = Annotated[Path | None, typer.Option(help="Real images, for generators that vary them.")]


def sample(
    gen: Gen,
    label: Labels = None,
    n: Count = 16,
    out: Out = None,
    grid: Grid = None,
    data: Data = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    overrides: Overrides = None,
    device: Device = "auto",
    allow_upload: AllowUpload = False,
    from_: Mirror = None,
    as_json: Json = False,
) -> None:
    """Draw images of chosen classes from one generator."""
    from medzoo.generation.mixture import make_source
    from medzoo.generation.sample import Request, prepare
    from medzoo.plugins.lookup import load_plugins

    request = Request(
        generator=gen,
        labels=tuple(label or ()),
        count=n,
        out=out,
        grid=grid,
        data=data,
        seed=seed,
        batch_size=batch_size,
        allow_upload=allow_upload,
    )
    source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides), mirror=from_)
    job = prepare(request, source)
    folder = _draw(job, only_grid=request.only_grid)
    if as_json:
        counts = {name: job.plan.count(name) for name in job.labels}
        print_json({"folder": folder, "grid": grid, "counts": counts, "seed": seed, "device": job.device})
        return
    for path in (folder, grid):
        if path is not None:
            print_text(str(path))


def _draw(job: Job, *, only_grid: bool) -> Path | None:
    """The folder the images are in; None where the grid alone was wanted."""
    from medzoo.generation.run import run
    from medzoo.generation.sample import draw_grid

    with Display("drawing") as display:
        if only_grid and job.sheet is not None:
            draw_grid(job, job.sheet, progress=display)
            return None
        outcome = run(job, progress=display)
    if outcome.already_done:
        logger.info("these images were drawn before; nothing was done")
    show_requests(outcome)
    return outcome.folder
