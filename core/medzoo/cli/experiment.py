"""`medzoo experiment`: train classifiers on arms of real and synthetic images, and compare them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import (
    AllowLeak,
    AllowUpload,
    Classes,
    Data,
    Device,
    GpusPerTask,
    Masks,
    Overrides,
    Ray,
    SharedOut,
    SkipBad,
    Source,
    names_in,
    parse_overrides,
    takes_reading,
)
from medzoo.cli.output import Json, megabytes, print_json, print_table, print_text
from medzoo.cli.progress import ProgressDisplay, duration
from medzoo.errors import OUT_OF_MEMORY, ResourceError

if TYPE_CHECKING:
    from medzoo.experiment.forecast import Forecast
    from medzoo.experiment.results import Experiment
    from medzoo.report.experiment.compare import ComparedScore, ExperimentComparison

logger = logging.getLogger(__name__)


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure whether synthetic images help classifiers.",
)

Given = Annotated[
    str | None,
    typer.Argument(
        metavar="PRESET|FILE",
        help="A preset (`medzoo experiment presets`) or a TOML file.  [default: the arms of --policy]",
        show_default=False,
    ),
]
Policies = Annotated[
    list[Path] | None,
    typer.Option("--policy", metavar="FILE", help="Add the arm of a policy.toml, and controls like it; repeatable."),
]
Test = Annotated[
    list[Path] | None,
    typer.Option(
        help="Test images (repeatable). With folds=0, the first replaces the data's test part; others are external."
    ),
]
Folds = Annotated[int | None, typer.Option(min=0, help="Folds of the cross-validation; 0 uses the data's test part.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Trainings of each classifier on the same images.")]
Repeats = Annotated[int | None, typer.Option(min=1, help="Repetitions of the cross-validation, with other folds.")]
LeaveOutSeen = Annotated[
    bool, typer.Option("--leave-out-seen", help="With folds=0: leave out test images used in training.")
]


@app.command("presets")
def presets(as_json: Json = False) -> None:
    """List the experiments that come with medzoo."""
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
@takes_reading
def plan(
    data: Data,
    experiment: Given = None,
    policy: Policies = None,
    out: Annotated[Path | None, typer.Option(help="Folder of a run: its finished tasks are not planned again.")] = None,
    test: Test = None,
    folds: Folds = None,
    seeds: Seeds = None,
    repeats: Repeats = None,
    overrides: Overrides = None,
    classes: Classes = "",
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes to estimate the time for.")] = 1,
    estimate: Annotated[bool, typer.Option(help="Time a few steps of each model (once per machine).")] = True,
    device: Device = "auto",
    source: Source = None,
    allow_leak: AllowLeak = False,
    leave_out_seen: LeaveOutSeen = False,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    as_json: Json = False,
) -> None:
    """Show what an experiment would do: cells, optimizer steps, time and disk space."""
    import medzoo
    from medzoo.experiment.forecast import forecast

    planned = medzoo.plan_experiment(
        experiment,
        data=data,
        out=out,
        test=test,
        folds=folds,
        seeds=seeds,
        repeats=repeats,
        settings=parse_overrides(overrides),
        classes=names_in(classes),
        device=device,
        source=source,
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        skip_bad=skip_bad,
        masks=masks,
        reading=reading,
        policy=policy or (),
    )
    found = forecast(planned, measure=estimate)
    if as_json:
        cells = [{"key": cell.key, **cell.identity, "steps": cell.steps} for cell in planned.cells]
        summary = planned.worker.images.facts["summary"]
        print_json({**asdict(found), "cells_in_order": cells, "data": summary})
    else:
        _show_plan(found, jobs=jobs, estimate=estimate)


@app.command("run")
@takes_reading
def run(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the results; the same command resumes there.")],
    experiment: Given = None,
    policy: Policies = None,
    test: Test = None,
    folds: Folds = None,
    seeds: Seeds = None,
    repeats: Repeats = None,
    overrides: Overrides = None,
    classes: Classes = "",
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes; they share the processor's cores.")] = 1,
    device: Device = "auto",
    ray: Ray = None,
    gpus_per_task: GpusPerTask = None,
    shared_out: SharedOut = False,
    source: Source = None,
    allow_leak: AllowLeak = False,
    leave_out_seen: LeaveOutSeen = False,
    allow_upload: AllowUpload = False,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    as_json: Json = False,
) -> None:
    """Run an experiment; the same command resumes it, and repeats what failed."""
    import medzoo

    with ProgressDisplay(Path(experiment or "policy").stem, unit="tasks") as progress:
        planned = medzoo.plan_experiment(
            experiment,
            data=data,
            out=out,
            test=test,
            folds=folds,
            seeds=seeds,
            repeats=repeats,
            settings=parse_overrides(overrides),
            classes=names_in(classes),
            device=device,
            ray=ray,
            gpus_per_task=gpus_per_task,
            shared_out=shared_out,
            source=source,
            allow_leak=allow_leak,
            leave_out_seen=leave_out_seen,
            allow_upload=allow_upload,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            policy=policy or (),
        )
        result = medzoo.run_experiment(planned, jobs=jobs, progress=progress)
    if as_json:
        print_json(result.to_dict())
    else:
        _show_results(result)
    if result.failed:
        raise typer.Exit(ResourceError.exit_code if any(OUT_OF_MEMORY in cell.error for cell in result.failed) else 1)


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Results of a run, finished or not.")],
    as_json: Json = False,
) -> None:
    """Write report.html, tables and figures into the folder of a run."""
    import medzoo
    from medzoo.report.experiment.report import write_experiment_report

    result = medzoo.load_experiment(folder)
    write_experiment_report(result)
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(str(folder / "report.html"))


@app.command("compare")
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER FOLDER...", help="Results of two runs or more.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.html and compare.csv.")] = None,
    as_json: Json = False,
) -> None:
    """Compare experiments, with differences where data, test images and steps are the same."""
    import medzoo
    from medzoo.report.experiment.compare import compare_experiments, write_comparison

    comparison = compare_experiments([medzoo.load_experiment(folder) for folder in folders])
    written = write_comparison(comparison, out) if out is not None else []
    for name, why in comparison.incomparable.items():
        if why:
            logger.warning(f"{name} cannot be compared with {next(iter(comparison.experiments))}: it has {why}")
    if as_json:
        print_json(comparison.to_dict())
    else:
        _show_comparison(comparison)
        for path in written[:1]:
            print_text(str(path))


def _show_results(result: Experiment) -> None:
    """Print the mean of each arm and classifier on each test set; log comparisons and warnings."""
    for name in result.test_sets:
        print_text(f"external test set {name}:")
        _show_scores(result.on(name))
        print_text("")
    _show_scores(result)
    for comparison in result.comparisons:
        logger.info(comparison.sentence())
    for warning in result.warnings:
        logger.warning(warning)
    print_text(str(result.folder))


def _show_scores(result: Experiment) -> None:
    from medzoo.experiment.config import metric_words

    rows = []
    for summary in result.summaries:
        found = summary.estimates[result.metric]
        interval = "" if found.reason else f"{found.low:.3f} to {found.high:.3f}"
        failed = f"{found.n_failed} failed" if found.n_failed else ""
        rows.append((summary.classifier, summary.arm, f"{found.mean:.3f}", interval, found.n, failed))
    metric = metric_words(result.metric)
    print_table(("classifier", "arm", metric, "95 %", "n", ""), rows, right=(metric, "n"))


def _show_plan(found: Forecast, *, jobs: int, estimate: bool) -> None:
    steps = ", ".join(
        f"{name} {count:,}" if count else f"{name} to its optimum" for name, count in found.steps_per_cell.items()
    )
    logger.info(
        f"{found.cells} cells ({len(found.arms)} arms x {len(found.steps_per_cell)} classifiers x {found.folds} folds "
        f"x {found.seeds} seeds), {found.missing} to do; optimizer steps per cell, equal in all arms: {steps}"
    )
    columns = ("arm", "real images", "synthetic", "cells", "to do")
    arms = [(a["name"], a["real"], a["synthetic"] or "", a["cells"], a["missing"]) for a in found.arms]
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
        many = f", at least {duration(found.seconds / jobs)} with {jobs} jobs" if jobs > 1 else ""
        logger.info(
            f"about {duration(found.seconds)} in one process{many}, and {megabytes(found.disk)} MB of disk space"
        )
    elif estimate:
        logger.info("no estimate of the whole, as a part has none")
    for warning in found.warnings:
        logger.warning(warning)


def _show_comparison(comparison: ExperimentComparison) -> None:
    first, *others = comparison.experiments
    columns = ["classifier", "arm", first]
    for name in others:
        columns += [name] if comparison.incomparable[name] else [name, "difference"]
    rows = []
    for compared in comparison.rows:
        row = [compared.classifier, compared.arm, _mean(compared.scores[0])]
        for name, score in zip(others, compared.scores[1:], strict=True):
            row += [_mean(score)] if comparison.incomparable[name] else [_mean(score), _difference(score)]
        rows.append(row)
    print_table(columns, rows, right=columns[2:])


def _mean(score: ComparedScore) -> str:
    """Return the mean, and of how many values where some are missing."""
    estimate = score.estimate
    if score.summary is None or estimate is None:
        return ""
    if not estimate.n:
        return score.summary.incomplete or "not defined"
    return f"{estimate.mean:.3f}" + (f" ({estimate.counts})" if estimate.n_failed else "")


def _difference(score: ComparedScore) -> str:
    difference = score.difference
    return score.reason if difference is None or not difference.n else f"{difference.mean:+.3f}"
