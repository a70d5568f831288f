"""`medzoo augment`: fill every class up to a target count."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medzoo.cli.options import (
    AllowUpload,
    BatchSize,
    Classes,
    Device,
    Mirror,
    Overrides,
    Seed,
    SkipBad,
    parse_overrides,
)
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.cli.progress import Display, duration
from medzoo.cli.requests import quotes_as_dict, show_quotes, show_requests

if TYPE_CHECKING:
    from medzoo.generation.forecast import Forecast
    from medzoo.generation.job import Job
    from medzoo.generation.run import Outcome

logger = logging.getLogger(__name__)


Gens = Annotated[
    list[str], typer.Option(metavar="GEN[=SHARE]", help="Model, plugin or training run; repeat for a mixture.")
]
Target = Annotated[int, typer.Option(min=1, metavar="N", help="Images every class should have.")]
Data = Annotated[
    Path | None, typer.Option(help="Real images: class folders, CSV or npz. Else ./datasets/train or simulated.")
]
Out = Annotated[Path | None, typer.Option(help="Folder to fill.  [default: augmented-GEN-N]")]
Originals = Annotated[str, typer.Option(help="link, copy or omit the real images.")]
Shard = Annotated[str, typer.Option(metavar="K/N", help="Do the K-th of N parts of the work.")]
AllowLeak = Annotated[bool, typer.Option("--allow-leak", help="Take models trained on held-out images; recorded.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]


def augment(
    gen: Gens,
    to: Target,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    originals: Originals = "link",
    shard: Shard = "1/1",
    device: Device = "auto",
    overrides: Overrides = None,
    classes: Classes = "",
    skip_bad: SkipBad = False,
    allow_leak: AllowLeak = False,
    allow_upload: AllowUpload = False,
    from_: Mirror = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fill every class of an image set up to N images."""
    from medzoo.generation.augment import Request, prepare
    from medzoo.generation.mixture import make_source
    from medzoo.generation.plan import parse_shard
    from medzoo.plugins.lookup import load_plugins

    request = Request(
        generators=tuple(gen),
        target=to,
        data=data,
        out=out,
        seed=seed,
        batch_size=batch_size,
        originals=originals,
        shard=parse_shard(shard),
        classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
        skip_bad=skip_bad,
        allow_leak=allow_leak,
        allow_upload=allow_upload,
    )
    source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides), mirror=from_)
    _fill(prepare(request, source), dry_run=dry_run, as_json=as_json)


def _fill(job: Job, *, dry_run: bool, as_json: bool) -> None:
    """Nothing; shows the plan, does it and shows what came of it."""
    from medzoo.generation.forecast import forecast
    from medzoo.generation.remote.consent import quotes
    from medzoo.generation.run import run

    plan, asked = forecast(job), quotes(job)
    _show_plan(job, plan, besides=", besides the requests" if asked else "")
    if dry_run or job.allow_upload:  # without leave, the refusal says it
        show_quotes(job, asked)
    if dry_run:
        if as_json:
            rows = [vars(row) for row in plan]
            print_json({"folder": job.folder, "classes": rows, "requests": quotes_as_dict(asked)})
        return
    with Display("drawing") as display:
        outcome = run(job, progress=display)
    if as_json:
        print_json(_as_dict(outcome))
    else:
        _show_outcome(job, outcome)


def _show_plan(job: Job, plan: list[Forecast], *, besides: str) -> None:
    """Nothing; what will be done goes to stderr."""
    import sys

    sizes = sorted({f"{model.image.size}x{model.image.size}" for model in job.studio.models})
    which, shards = job.shard
    part = f", part {which} of {shards}" if shards > 1 else ""
    logger.info(
        f"{job.plan.total} synthetic images of {' and '.join(sizes)} pixels into {job.folder} on {job.device}{part}"
    )
    rows = [
        (
            row.label,
            row.real,
            sum(row.make.values()),
            " + ".join(f"{name} {count}" for name, count in row.make.items()) or "-",
            row.there,
            f"~{duration(row.seconds)}" if row.seconds else "-",
        )
        for row in plan
    ]
    columns = ("class", "real", "to make", "by", "there", "time")
    print_table(columns, rows, right=("real", "to make", "there", "time"), file=sys.stderr)
    seconds = sum(row.seconds for row in plan)
    if seconds:
        logger.info(f"about {duration(seconds)} in all{besides}, by a small batch of each generator")


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    return {
        "folder": str(outcome.folder),
        "contact_sheet": str(outcome.sheet) if outcome.sheet else None,
        "complete": not outcome.missing,
        "missing": outcome.missing,
        "already_done": outcome.already_done,
        "classes": [vars(row) for row in outcome.classes],
        "requests": outcome.requests,
    }


def _show_outcome(job: Job, outcome: Outcome) -> None:
    if outcome.already_done:
        logger.info("this job was finished before; nothing was done")
    if job.how == "link" and outcome.how == "copy":
        logger.info("the real images were copied: hard links cannot be made here")
    rows = [
        (
            row.label,
            row.real,
            row.synthetic,
            row.real + row.synthetic,
            f"{row.seconds:.1f}" if row.drawn else "-",
            f"{row.drawn / row.seconds:.1f}" if row.drawn and row.seconds else "-",
        )
        for row in outcome.classes
    ]
    columns = ("class", "real", "synthetic", "total", "seconds", "images/s")
    print_table(columns, rows, right=columns[1:])
    show_requests(outcome)
    if outcome.missing:
        logger.info(f"{outcome.missing} images are still to be made by other shards; the last one writes metadata.csv")
    print_text(str(outcome.folder))
    if outcome.sheet is not None:
        print_text(str(outcome.sheet))
