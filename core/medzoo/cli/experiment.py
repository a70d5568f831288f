"""`medzoo experiment`: train classifiers on arms of real and synthetic images, and say what that shows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.experiment_compare import compare
from medzoo.cli.options import AllowUpload, Classes, Device, Mirror, Overrides, SkipBad, parse_overrides
from medzoo.cli.output import Json, megabytes, print_json, print_table, print_text
from medzoo.cli.progress import Display, duration

if TYPE_CHECKING:
    from medzoo.experiment.forecast import Forecast
    from medzoo.experiment.plan import ExperimentPlan
    from medzoo.experiment.results import Experiment

logger = logging.getLogger(__name__)


app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train classifiers on real and synthetic images; compare."
)

Given = Annotated[str, typer.Argument(metavar="PRESET|FILE", help="An experiment of medzoo's, or a TOML file.")]
Data = Annotated[Path, typer.Option(help="Real images: folder of class folders, CSV or npz.")]
Test = Annotated[Path | None, typer.Option(help="With folds=0, images to test on instead of the data's test part.")]
Folds = Annotated[int | None, typer.Option(min=0, help="Parts of a cross-validation; 0 uses the data's test part.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Trainings of each classifier on the same images.")]
Repeats = Annotated[int | None, typer.Option(min=1, help="Cross-validations, each with folds of its own.")]
AllowLeak = Annotated[
    bool, typer.Option("--allow-leak", help="Go on where test images were trained on; recorded, and warned of.")
]
LeaveOutSeen = Annotated[
    bool, typer.Option("--leave-out-seen", help="With folds=0, leave out test images that were trained on.")
]


@app.command("presets")
def presets(as_json: Json = False) -> None:
    """Show the experiments that come with medzoo."""
    from medzoo.experiment.config import preset_names, read_design

    rows = []
    for name in preset_names():
        design = read_design(name)
        rows.append((name, len(design.arms), ", ".join(design.value.classifiers), design.value.folds or "held-out"))
    if as_json:
        print_json([dict(zip(("name", "arms", "classifiers", "folds"), row, strict=True)) for row in rows])
    else:
        print_table(("name", "arms", "classifiers", "folds"), rows, right=("arms",))


@app.command("plan")
def plan(
    experiment: Given,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder of a run that was begun: what it has is left out.")] = None,
    test: Test = None,
    folds: Folds = None,
    seeds: Seeds = None,
    repeats: Repeats = None,
    overrides: Overrides = None,
    classes: Classes = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    estimate: Annotated[bool, typer.Option(help="Time a few steps of each model, once on a machine.")] = True,
    device: Device = "auto",
    source: Mirror = None,
    allow_leak: AllowLeak = False,
    leave_out_seen: LeaveOutSeen = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Show what an experiment would do: cells, optimiser steps, time and disk."""
    from medzoo.experiment.forecast import forecast

    planned = _plan(
        experiment,
        data,
        out,
        test=test,
        options={"folds": folds, "seeds": seeds, "repeats": repeats},
        overrides=overrides,
        classes=classes,
        device=device,
        source=source,
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        skip_bad=skip_bad,
    )
    found = forecast(planned, measure=estimate)
    if as_json:
        print_json({**found.to_dict(), "cells_in_order": _cells(planned)})
    else:
        _show_plan(found, jobs=jobs, estimate=estimate)


@app.command("run")
def run(
    experiment: Given,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same command again goes on there.")],
    test: Test = None,
    folds: Folds = None,
    seeds: Seeds = None,
    repeats: Repeats = None,
    overrides: Overrides = None,
    classes: Classes = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work and the processor's cores.")] = 1,
    device: Device = "auto",
    source: Mirror = None,
    allow_leak: AllowLeak = False,
    leave_out_seen: LeaveOutSeen = False,
    allow_upload: AllowUpload = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Run an experiment; the same command goes on where it stopped, and tries again what failed."""
    from medzoo.experiment.run import run as run_experiment

    planned = _plan(
        experiment,
        data,
        out,
        test=test,
        options={"folds": folds, "seeds": seeds, "repeats": repeats},
        overrides=overrides,
        classes=classes,
        device=device,
        source=source,
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        allow_upload=allow_upload,
        skip_bad=skip_bad,
    )
    with Display(planned.worker.design.name, unit="tasks") as display:
        result = run_experiment(planned, jobs=jobs, progress=display)
    _write_report(result)
    if as_json:
        print_json(result.to_dict())
    else:
        _show_results(result)
    if result.failed:
        raise typer.Exit(1)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The results of a run, finished or not.")],
    as_json: Json = False,
) -> None:
    """Write report.html, tables and figures into the folder of a run, from what it holds."""
    from medzoo.experiment.results import load_results

    result = load_results(folder)
    _write_report(result)
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(str(folder / "report.html"))


_compare = app.command("compare")(compare)  # whose options are in a file of its own


def _write_report(result: Experiment) -> None:
    from medzoo.report.experiment.report import write_experiment_report

    write_experiment_report(result)


def _show_results(result: Experiment) -> None:
    """Nothing; the mean of each arm and classifier goes to stdout, comparisons and warnings to stderr."""
    rows = []
    for summary in result.summaries:
        found = summary.estimates[result.metric]
        interval = "" if found.reason else f"{found.low:.3f} to {found.high:.3f}"
        failed = f"{found.n_failed} failed" if found.n_failed else ""
        rows.append((summary.classifier, summary.arm, f"{found.mean:.3f}", interval, found.n, failed))
    metric = result.metric.replace("_", " ")
    print_table(("classifier", "arm", metric, "95 %", "n", ""), rows, right=(metric, "n"))
    for comparison in result.comparisons:
        logger.info(comparison.sentence())
    for warning in result.warnings:
        logger.warning(warning)
    print_text(str(result.folder))


def _plan(
    experiment: str,
    data: Path,
    out: Path | None,
    *,
    test: Path | None,
    options: dict[str, int | None],
    overrides: list[str] | None,
    classes: str,
    device: str,
    source: str | None,
    allow_leak: bool,
    leave_out_seen: bool,
    skip_bad: bool,
    allow_upload: bool = False,
) -> ExperimentPlan:
    from medzoo.data.dataset import open_dataset
    from medzoo.experiment.config import read_design
    from medzoo.experiment.plan import plan_experiment
    from medzoo.generation.mixture import make_source
    from medzoo.plugins.lookup import load_plugins

    design = read_design(experiment, overrides=parse_overrides(overrides), options=options)
    names = [name.strip() for name in classes.split(",")] if classes else None
    images = open_dataset(data, skip_bad=skip_bad, classes=names)
    for name, reason in images.bad:
        logger.warning(f"left out {name}: {reason}")
    return plan_experiment(
        design,
        images,
        out,
        source=make_source(load_plugins(), device=device, mirror=source),
        test=None if test is None else open_dataset(test, skip_bad=skip_bad, classes=names),
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        allow_upload=allow_upload,
    )


def _show_plan(found: Forecast, *, jobs: int, estimate: bool) -> None:
    steps = ", ".join(f"{name} {count:,}" for name, count in found.steps_per_cell.items())
    logger.info(
        f"{found.cells} cells ({len(found.arms)} arms x {len(found.steps_per_cell)} classifiers x {found.folds} folds "
        f"x {found.seeds} seeds), {found.missing} to do; optimizer steps of each, equal in all arms: {steps}"
    )
    columns = ("arm", "real images", "synthetic", "cells", "to do")
    arms = [(arm.name, arm.real, arm.synthetic or "", arm.cells, arm.missing) for arm in found.arms]
    print_table(columns, arms, right=columns[1:])
    print_text("")
    rows = [
        (
            model.name,
            model.kind,
            model.trainings or "",
            f"{model.steps:,}" if model.steps else "",
            model.images or "",
            "?" if model.seconds is None else f"~{duration(model.seconds)}",
        )
        for model in found.models
    ]
    print_table(("model", "kind", "trainings", "steps", "images", "time"), rows, right=("trainings", "steps", "images"))
    for model in found.models:
        if model.reason:
            logger.info(f"no estimate for {model.name}: {model.reason}")
    if found.seconds is not None:
        many = f", with {jobs} jobs hardly less than {duration(found.seconds / jobs)}" if jobs > 1 else ""
        logger.info(
            f"in all about {duration(found.seconds)} of one process{many}, and {megabytes(found.disk)} MB of disk"
        )
    elif estimate:
        logger.info("the whole cannot be estimated without all of its parts")
    for warning in found.warnings:
        logger.warning(warning)


def _cells(plan: ExperimentPlan) -> list[dict[str, object]]:
    return [
        {
            "key": cell.key,
            "arm": cell.arm.name,
            "classifier": cell.classifier,
            "repeat": cell.fold.repeat,
            "fold": cell.fold.fold,
            "seed": cell.number,
            "steps": cell.steps,
        }
        for cell in plan.cells
    ]
