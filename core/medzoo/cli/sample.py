"""`medzoo sample`: draw images from one generator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.output import Json, notice, print_json, print_text
from medzoo.cli.progress import DrawingDisplay

if TYPE_CHECKING:
    from medzoo.pipelines.filling import Job


def sample(
    gen: Annotated[str, typer.Argument(metavar="GEN", help="Model, plugin or training run.")],
    label: Annotated[list[str] | None, typer.Option(help="Class to draw; repeat for several.  [default: all]")] = None,
    n: Annotated[int, typer.Option(min=1, help="Images of each class.")] = 16,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the images.  [default: samples-GEN, unless --grid]")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="PNG that shows all of them, one row or more a class.")] = None,
    data: Annotated[Path | None, typer.Option(help="Real images, for generators that vary them.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 32,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as in sampling.steps=50.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    from_: Annotated[
        str | None, typer.Option("--from", metavar="DIR", help="Mirror folder to take the model from.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw images of chosen classes from one generator."""
    from medzoo.pipelines.inputs import make_source
    from medzoo.pipelines.sample import Request, prepare
    from medzoo.plugins import load_plugins

    request = Request(
        generator=gen,
        labels=tuple(label or ()),
        count=n,
        out=out,
        grid=grid,
        data=data,
        seed=seed,
        batch_size=batch_size,
    )
    source = make_source(load_plugins(), device=device, overrides=overrides or (), mirror=from_)
    job = prepare(request, source, notice=notice)
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
    from medzoo.pipelines.filling import run
    from medzoo.pipelines.sample import draw_grid

    with DrawingDisplay("drawing") as display:
        if only_grid and job.sheet is not None:
            draw_grid(job, job.sheet, watch=display)
            return None
        outcome = run(job, watch=display)
    if outcome.already_done:
        notice("these images were drawn before; nothing was done")
    return outcome.folder
