"""`medzoo tune`: find how to use which synthetic images on one's own data, or that they do not help, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import (
    AllowLeak,
    Classes,
    ConfigFile,
    Device,
    GpusPerTask,
    Masks,
    Ray,
    SharedOut,
    SkipBad,
    Source,
    complete_generators,
    names_in,
    parse_overrides,
    takes_reading,
)
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.cli.progress import ProgressDisplay, duration

if TYPE_CHECKING:
    from medzoo.tuning.results import TuningResult


@takes_reading
def tune(
    data: Annotated[
        Path, typer.Option(help="Real images with a test part, as `medzoo data split` makes: folders, a CSV or an npz.")
    ],
    classifier: Annotated[str, typer.Option(help="Kind of classifier to tune for, such as cnn or timm:resnet18.")],
    out: Annotated[Path, typer.Option(help="Folder for pools, results and policy.toml; the same command resumes.")],
    gen: Annotated[
        list[str] | None,
        typer.Option(
            help="Generator, as `sample` takes it (repeatable); without, all on this machine that fit.",
            autocompletion=complete_generators,
        ),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(help="Test images instead of the data's test part (repeatable: others are external)."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Policies to score (200).")] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Time for all of it; the search ends earlier to keep it.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes; they share the processor's cores.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed; the same seed gives the same policy.")] = None,
    config: ConfigFile = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set folds=4 or --set epochs=20."),
    ] = None,
    classes: Classes = "",
    device: Device = "auto",
    ray: Ray = None,
    gpus_per_task: GpusPerTask = None,
    shared_out: SharedOut = False,
    source: Source = None,
    allow_leak: AllowLeak = False,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: dict[str, str] | None = None,
    as_json: Json = False,
) -> None:
    """Find how to use synthetic images on your data, or not to.

    In inner folds of the training part, policies are searched with a classifier on frozen features, and the best few
    are trained for real beside the controls at equal steps. The winner is tested once on the held-out part, and written
    as policy.toml, which `augment --policy` takes.
    """
    import medzoo

    with ProgressDisplay("tune", unit="") as progress:
        result = medzoo.tune(
            data=data,
            classifier=classifier,
            out=out,
            gen=gen or (),
            test=test,
            trials=trials,
            budget=budget,
            jobs=jobs,
            seed=seed,
            config=config,
            settings=parse_overrides(overrides),
            classes=names_in(classes),
            device=device,
            ray=ray,
            gpus_per_task=gpus_per_task,
            shared_out=shared_out,
            source=source,
            allow_leak=allow_leak,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            progress=progress,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)


def _show(result: TuningResult) -> None:
    """Print the means of the finalists and of the held-out part, the verdict, where time went, and the files."""
    from medzoo.experiment.config import metric_words

    columns = ("images", "arm", metric_words(result.metric), "95 %")
    rows = []
    for where, experiment in (("inner folds", result.finalists), ("held out", result.held_out)):
        for summary in experiment.summaries if experiment is not None else ():
            found = summary.estimates[result.metric]
            interval = "" if found.reason else f"{found.low:.3f} to {found.high:.3f}"
            rows.append((where, summary.arm, f"{found.mean:.3f}", interval))
    print_table(columns, rows, right=(columns[2],))
    print_text("", result.verdict)
    print_text(", ".join(f"{name} {duration(seconds)}" for name, seconds in result.seconds.items()), "")
    print_text(str(result.folder / "policy.toml"))
    if (result.folder / "report.html").is_file():
        print_text(str(result.folder / "report.html"))
