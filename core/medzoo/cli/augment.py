"""`medzoo augment`: fill every class up to a target count."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medzoo.cli.options import (
    AllowUpload,
    BatchSize,
    C2pa,
    Classes,
    Device,
    Format,
    GpusPerTask,
    Masks,
    Overrides,
    PolicyFile,
    Ray,
    Seed,
    SharedOut,
    SkipBad,
    Source,
    complete_generators,
    names_in,
    parse_overrides,
    parse_signing,
    takes_reading,
)
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.cli.progress import ProgressDisplay, duration
from medzoo.cli.requests import request_plans_as_dict, show_request_plans, show_requests

if TYPE_CHECKING:
    from medzoo.generation.run import AugmentationResult, Forecast, Job

logger = logging.getLogger(__name__)

NO_LABEL = "(no label)"

Gens = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GEN[@STRENGTH][=SHARE]",
        autocompletion=complete_generators,
        help="Generator: id, plugin or run folder; @0.3 varies the real images; repeat for a mixture.",
    ),
]
Target = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of images each class should have; of all images where they have several labels.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Real images: class folders, CSV or npz.  [default: ./datasets/train, else the model's demonstration data]"
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder to fill.  [default: augmented-GEN-N]")]
Originals = Annotated[str, typer.Option(help="link, copy or omit the real images, or write them in gray.")]
Shard = Annotated[str, typer.Option(metavar="K/N", help="Make the K-th of N parts.")]
AllowLeak = Annotated[
    bool, typer.Option("--allow-leak", help="Allow models trained on held-out images of the data (recorded).")
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CRITERION",
        help="Draw more images and keep the best: agreement, distance, novelty or, as a control, random; repeatable.",
    ),
]
Pool = Annotated[
    float | None, typer.Option(metavar="FACTOR", help="Images to draw for each one that --select keeps.  [default: 2]")
]
Extractor = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Features that --select compares.  [default: efficientnet-lite0, else the classifier of these classes]",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]


@takes_reading
def augment(
    gen: Gens = None,
    to: Target = None,
    policy: PolicyFile = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    originals: Originals = "link",
    shard: Shard = "1/1",
    device: Device = "auto",
    ray: Ray = None,
    gpus_per_task: GpusPerTask = None,
    shared_out: SharedOut = False,
    overrides: Overrides = None,
    classes: Classes = "",
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    allow_leak: AllowLeak = False,
    allow_upload: AllowUpload = False,
    select: Select = None,
    pool: Pool = None,
    extractor: Extractor = None,
    format: Format = "png",
    c2pa: C2pa = "",
    source: Source = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Add synthetic images to every class, up to N images each."""
    import medzoo
    from medzoo.generation.run import forecast

    planned: dict[str, Any] = {}

    def show_plan(job: Job) -> None:
        plan, requests = forecast(job), job.requests()
        _show_plan(job, plan, besides=", besides the requests" if requests else "")
        if dry_run or allow_upload:  # without permission, the error says it
            show_request_plans(requests)
        planned["pooled"] = job.selection is not None
        planned["folder"], planned["classes"] = job.folder, [vars(row) for row in plan]
        planned["requests"], planned["data"] = request_plans_as_dict(requests), job.data["summary"]

    with ProgressDisplay("sampling") as progress:
        result = medzoo.augment(
            gen,
            to=to,
            policy=policy,
            data=data,
            out=out,
            seed=seed,
            batch_size=batch_size,
            originals=originals,  # type: ignore[arg-type]  # the API checks it
            shard=shard,
            device=device,
            ray=ray,
            gpus_per_task=gpus_per_task,
            shared_out=shared_out,
            settings=parse_overrides(overrides),
            classes=names_in(classes),
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            allow_leak=allow_leak,
            allow_upload=allow_upload,
            select=select or (),
            pool=pool,
            extractor=extractor,
            format=format,  # type: ignore[arg-type]  # the API checks it
            c2pa=parse_signing(c2pa),
            source=source,
            dry_run=dry_run,
            on_plan=show_plan,
            progress=progress,
        )
    if dry_run:
        if as_json:
            print_json(planned)
    elif as_json:
        folder, sheet = str(result.folder), str(result.sheet) if result.sheet else None
        print_json(
            {"folder": folder, "contact_sheet": sheet, "complete": not result.missing, "missing": result.missing}
            | {"already_done": result.already_done, "classes": [vars(row) for row in result.classes]}
            | {"requests": result.requests, "selection": result.selection, "data": planned["data"]}
        )
    else:
        _show_result(result, originals, pooled=planned["pooled"])


def _show_plan(job: Job, plan: list[Forecast], *, besides: str) -> None:
    """Print what will be done to stderr."""
    sizes = sorted({f"{model.image.size}x{model.image.size}" for model in job.sampler.models})
    which, shards = job.shard
    part = f", part {which} of {shards}" if shards > 1 else ""
    logger.info(
        f"{job.plan.total} synthetic images of {' and '.join(sizes)} pixels into {job.folder} on {job.device}{part}"
    )
    if (selection := job.selection) is not None:
        drawn = f"drawn first: a pool of {selection.pool.plan.total} into {selection.pool.folder}"
        logger.info(f"{drawn}; kept: {job.plan.total} by {' and '.join(selection.criteria)}")
    rows = [
        (
            row.label or NO_LABEL,
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
        logger.info(f"about {duration(seconds)} in all{besides}, estimated from a small batch of each generator")
    if selection is not None and selection.extractor is not None and job.real is not None:
        more = duration(selection.seconds(job.real))
        logger.info(f"about {more} more to compare features by '{selection.extractor.name}', which are cached")


def _show_result(result: AugmentationResult, originals: str, *, pooled: bool) -> None:
    if result.already_done:
        logger.info("this job was already finished; nothing to do")
    if originals == "link" and result.how == "copy":
        logger.info("the real images were copied: hard links cannot be made here")
    rows = [
        (
            row.label or NO_LABEL,
            row.real,
            row.synthetic,
            row.real + row.synthetic,
            f"{row.seconds:.1f}" if row.drawn else "-",
            f"{row.drawn / row.seconds:.1f}" if row.drawn and row.seconds else "-",
        )
        for row in result.classes
    ]
    columns = ("class", "real", "synthetic", "total", "seconds", "images/s")
    print_table(columns, rows, right=columns[1:])
    show_requests(result.requests)
    if result.selection:
        _show_selection(result.selection)
    if result.missing:
        last = "selects" if pooled else "writes metadata.csv"
        logger.info(f"{result.missing} images are left for other shards; the last one {last}")
    print_text(str(result.folder))
    if result.sheet is not None:
        print_text(str(result.sheet))


def _show_selection(selection: Mapping[str, Any]) -> None:
    """Print what was kept of the pool, by class, and where it is."""
    by = f", features by '{selection['extractor']}'" if selection["extractor"] else ""
    logger.info(
        f"kept {selection['kept']} of {selection['pool']} images by {' and '.join(selection['criteria'])}{by}; the "
        f"pool stays in {selection['folder']}"
    )
    titles = {
        "pool": "pool",
        "kept": "kept",
        "near_copies": "near copies",
        "ranked_lower": "ranked lower",
        "agreed": "pool read as class",
        "kept_agreed": "kept read as class",
    }
    shown = {key: title for key, title in titles.items() if any(key in row for row in selection["classes"].values())}
    rows = [(label, *(row.get(key, 0) for key in shown)) for label, row in selection["classes"].items()]
    print_table(("class", *shown.values()), rows, right=[*shown.values()], file=sys.stderr)
