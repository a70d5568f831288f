"""`medzoo augment`: fill every class up to a target count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medzoo.cli.output import Json, notice, print_json, print_table, print_text
from medzoo.cli.progress import DrawingDisplay, duration

if TYPE_CHECKING:
    from medzoo.pipelines.filling import Forecast, Job, Outcome


def augment(
    gen: Annotated[
        list[str], typer.Option(metavar="GEN[=SHARE]", help="Model, plugin or training run; repeat for a mixture.")
    ],
    to: Annotated[int, typer.Option(min=1, metavar="N", help="Images every class should have.")],
    data: Annotated[
        Path | None, typer.Option(help="Real images: class folders, CSV or npz. Else ./datasets/train or simulated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to fill.  [default: augmented-GEN-N]")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 32,
    originals: Annotated[str, typer.Option(help="link, copy or omit the real images.")] = "link",
    shard: Annotated[str, typer.Option(metavar="K/N", help="Do the K-th of N parts of the work.")] = "1/1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as in sampling.steps=50.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Names for an npz's numbered classes: normal,pneumonia.")] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without unreadable images, listing them.")
    ] = False,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Use models that were trained on held-out images; recorded.")
    ] = False,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="DIR", help="Mirror folder to take models from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Fill every class of an image set up to N images."""
    from medzoo.pipelines.augment import Request, prepare
    from medzoo.pipelines.filling import forecast, run
    from medzoo.pipelines.inputs import make_source
    from medzoo.pipelines.plan import parse_shard
    from medzoo.plugins import load_plugins

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
    )
    source = make_source(load_plugins(), device=device, overrides=overrides or (), mirror=from_)
    job = prepare(request, source, notice=notice)
    plan = forecast(job)
    _show_plan(job, plan)
    if dry_run:
        if as_json:
            print_json({"folder": job.folder, "classes": [vars(row) for row in plan]})
        return
    with DrawingDisplay("drawing") as display:
        outcome = run(job, watch=display)
    if as_json:
        print_json(_as_dict(outcome))
    else:
        _show_outcome(job, outcome)


def _show_plan(job: Job, plan: list[Forecast]) -> None:
    """Nothing; what will be done goes to stderr."""
    import sys

    sizes = sorted({f"{model.image.size}x{model.image.size}" for model in job.studio.models})
    which, shards = job.shard
    part = f", part {which} of {shards}" if shards > 1 else ""
    notice(f"{job.plan.total} synthetic images of {' and '.join(sizes)} pixels into {job.folder} on {job.device}{part}")
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
        notice(f"about {duration(seconds)} in all, by a small batch of each generator")


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    return {
        "folder": str(outcome.folder),
        "contact_sheet": str(outcome.sheet) if outcome.sheet else None,
        "complete": not outcome.missing,
        "missing": outcome.missing,
        "already_done": outcome.already_done,
        "classes": [vars(row) for row in outcome.classes],
    }


def _show_outcome(job: Job, outcome: Outcome) -> None:
    if outcome.already_done:
        notice("this job was finished before; nothing was done")
    if job.how == "link" and outcome.how == "copy":
        notice("the real images were copied: hard links cannot be made here")
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
    if outcome.missing:
        notice(f"{outcome.missing} images are still to be made by other shards; the last one writes metadata.csv")
    print_text(str(outcome.folder))
    if outcome.sheet is not None:
        print_text(str(outcome.sheet))
