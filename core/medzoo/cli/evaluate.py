"""`medzoo evaluate`: measure synthetic images beside real ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import BatchSize, Classes, Device, Mirror, Overrides, Seed, SkipBad, parse_overrides
from medzoo.cli.output import Json, print_table, print_text
from medzoo.cli.progress import Display
from medzoo.errors import ConfigError

if TYPE_CHECKING:
    from medzoo.evaluation.evaluate import Measured, Request
    from medzoo.evaluation.results import Evaluation, MetricResult
    from medzoo.generation.mixture import Source

logger = logging.getLogger(__name__)


Gen = Annotated[
    str | None, typer.Argument(metavar="[GEN]", help="Model or training run to draw images from, in place of --fake.")
]
Real = Annotated[Path, typer.Option(help="Held-out real images: class folders, images, CSV or npz.")]
Fake = Annotated[Path | None, typer.Option(help="Synthetic images.")]
Train = Annotated[Path | None, typer.Option(help="Images the generator was trained on: enables the copy check.")]
Other = Annotated[Path | None, typer.Option(help="Unrelated images, for the table of all pairs of sets.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME[@EXTRACTOR]", help="As kid@cnn-busi.  [default: all here]")
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Measure each class as well.")]
Count = Annotated[int, typer.Option(min=2, help="Images of each class to draw from GEN.")]
Checkpoints = Annotated[bool, typer.Option("--checkpoints", help="Measure each checkpoint of the run GEN: a trend.")]
Size = Annotated[int | None, typer.Option(help="Side to compare at.  [default: the smaller of the two sets']")]
Crop = Annotated[str, typer.Option(help="none, center or dark-border, of real images.")]
LeaveOutSeen = Annotated[
    bool, typer.Option("--leave-out-seen", help="Leave out real images that a model was trained on.")
]
AllowLeak = Annotated[bool, typer.Option("--allow-leak", help="Take real images that a model was trained on; told.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the HTML report, pictures, CSV and JSON.")]


def evaluate(
    gen: Gen = None,
    *,
    real: Real,
    fake: Fake = None,
    train: Train = None,
    other: Other = None,
    metric: Metrics = None,
    per_class: PerClass = False,
    n: Count = 100,
    checkpoints: Checkpoints = False,
    size: Size = None,
    crop: Crop = "none",
    classes: Classes = "",
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    overrides: Overrides = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    leave_out_seen: LeaveOutSeen = False,
    allow_leak: AllowLeak = False,
    from_: Mirror = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure synthetic images beside real ones, and report."""
    from medzoo.evaluation.evaluate import Request, check_no_errors
    from medzoo.generation.mixture import make_source
    from medzoo.plugins.lookup import load_plugins
    from medzoo.report.evaluation.folder import refuse_other_folder, write_evaluation
    from medzoo.runs.record import RunRecord

    if (gen is None) == (fake is None):
        raise ConfigError("give either synthetic images or a model to draw them from", "--fake DIR, or GEN")
    if checkpoints and (gen is None or train is None):
        raise ConfigError("--checkpoints needs a training run and its images", "medzoo evaluate RUN --train DIR ...")
    request = Request(
        real=real,
        fake=fake or Path(),
        train=train,
        other=other,
        metrics=tuple(metric or ()),
        per_class=per_class,
        size=size,
        crop=crop,
        classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
        seed=seed,
        batch_size=batch_size,
        skip_bad=skip_bad,
        leave_out_seen=leave_out_seen,
        allow_leak=allow_leak,
    )
    if out is not None:
        refuse_other_folder(out)
        record = RunRecord(job="evaluate", folder=out)
    source = make_source(load_plugins(), device=device, overrides=parse_overrides(overrides), mirror=from_)
    measured = _measure(gen, request, source, n=n, checkpoints=checkpoints)
    evaluation = write_evaluation(measured, out, source, record) if out is not None else measured.evaluation
    if gen is not None:
        _note_copy_check(Path(gen), evaluation)
    if as_json:
        from medzoo.report.evaluation.tables import evaluation_json

        print_text(evaluation_json(evaluation).decode())
    else:
        _show(evaluation, out)
    check_no_errors(evaluation.errors)


def _measure(gen: str | None, request: Request, source: Source, *, n: int, checkpoints: bool) -> Measured:
    from medzoo.data.dataset import open_dataset
    from medzoo.evaluation.evaluate import evaluate as measure
    from medzoo.evaluation.model_evaluation import evaluate_checkpoints, evaluate_model

    with Display("images") as display:
        if gen is None:
            return measure(request, source, progress=display)
        if not checkpoints:
            return evaluate_model(gen, request, source, per_class=n, progress=display)
        assert isinstance(request.train, Path)  # the verb has seen to it
        train = open_dataset(request.train, skip_bad=request.skip_bad, classes=request.classes)
        return evaluate_checkpoints(Path(gen), request, source, train=train, per_class=n, progress=display)


def _note_copy_check(run: Path, evaluation: Evaluation) -> None:
    """Nothing; a finished training run keeps the copy check's result, which its card then states."""
    from medzoo.report.evaluation.folder import copy_note, note_copy_check
    from medzoo.runs.record import RUN

    note = copy_note(evaluation)
    if note is not None and (run / RUN).is_file():
        note_copy_check(run, note)
        logger.info(f"the copy check {note['verdict']}; {run / RUN} keeps it for the model's card")


def _show(evaluation: Evaluation, out: Path | None) -> None:
    rows = [*evaluation.results, *evaluation.per_class]
    classes = ("class",) if evaluation.per_class else ()
    columns = ("metric", *classes, "value", "±", "95 %", "baseline", "at equal n", "n real", "n synth", "better")
    cells = [(row.name, *((row.label or "all",) if classes else ()), *_cells(row), row.better) for row in rows]
    print_table(columns, cells, right=("value", "±", "baseline", "at equal n", "n real", "n synth"))
    for text, titles in _remarks(rows).items():
        logger.warning(f"{', '.join(titles)}: {text}")
    for warning in evaluation.warnings:
        logger.warning(warning)
    if evaluation.trend:
        points = [
            (f"{point.step}", f"{point.epoch:.1f}", point.name, _number(point.score.value))
            for point in evaluation.trend
        ]
        print_text("")
        print_table(("step", "epoch", "metric", "value"), points, right=("step", "epoch", "value"))
    if out is None:
        logger.info("--out DIR writes the report: pictures, pairs of sets, histograms, tables")
    else:
        print_text(str(out / "report.html"))


def _remarks(rows: Sequence[MetricResult]) -> dict[str, list[str]]:
    """What has to be said of the rows, each with the rows it is said of; of a class only what is not said of all."""
    remarks: dict[str, list[str]] = {}
    for row in rows:
        failed = "FAILED, look at the pairs in the report" if row.score is not None and row.score.failed else ""
        for text in filter(None, (row.missing, *row.warnings, failed)):
            if not row.label or row.name not in remarks.get(text, ()):
                remarks.setdefault(text, []).append(f"{row.name} of {row.label}" if row.label else row.name)
    return remarks


def _cells(row: MetricResult) -> tuple[str, ...]:
    """Value, spread, interval, the baseline and its counterpart, numbers of images; "-" where there is no score."""
    score, baseline = row.score, row.baseline
    if score is None:
        return "-", "", "", "", "", "", ""
    interval = f"{_number(score.interval[0])} to {_number(score.interval[1])}" if score.interval else ""
    spread = _number(score.spread) if score.spread is not None else ""
    baselines = (_number(baseline.real), f"{_number(baseline.fake)} (n {baseline.n})") if baseline else ("", "")
    return _number(score.value), spread, interval, *baselines, str(score.n_real), str(score.n_fake)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4g}"
