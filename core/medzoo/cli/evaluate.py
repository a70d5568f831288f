"""`medzoo evaluate`: compare synthetic images with real ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import (
    AllowLeak,
    BatchSize,
    Classes,
    Device,
    LeaveOutSeen,
    Masks,
    Overrides,
    Seed,
    SkipBad,
    Source,
    complete_generators,
    names_in,
    parse_overrides,
    takes_reading,
)
from medzoo.cli.output import Json, print_table, print_text
from medzoo.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from medzoo.evaluation.results import Evaluation, MetricResult

logger = logging.getLogger(__name__)


Gen = Annotated[
    str | None,
    typer.Argument(
        metavar="[GEN]",
        help="Generator to sample images from (id or run), instead of --fake.",
        autocompletion=complete_generators,
    ),
]
Real = Annotated[Path, typer.Option(help="Held-out real images: class folders, images, CSV or npz.")]
Fake = Annotated[Path | None, typer.Option(help="Synthetic images.")]
Train = Annotated[
    Path | None, typer.Option(help="Images the generator was trained on; enables the memorization check.")
]
Other = Annotated[Path | None, typer.Option(help="Unrelated images, for the table of all pairs of sets.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME[@EXTRACTOR]", help="E.g. kid@cnn-busi.  [default: all that need no pull]"),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Also measure each class.")]
Count = Annotated[int, typer.Option(min=2, help="Images per class to sample from GEN.")]
Checkpoints = Annotated[bool, typer.Option("--checkpoints", help="Measure each checkpoint of the training run GEN.")]
Size = Annotated[int | None, typer.Option(help="Side in pixels to compare at.  [default: the smaller set's side]")]
Crop = Annotated[str, typer.Option(help="Crop of the real images: none, center, dark-border or pad.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the HTML report, figures, CSV and JSON.")]


@takes_reading
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
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    leave_out_seen: LeaveOutSeen = False,
    allow_leak: AllowLeak = False,
    source: Source = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare synthetic images with real ones, and write a report."""
    import medzoo
    from medzoo.evaluation.evaluate import check_no_errors

    with ProgressDisplay("images") as progress:
        evaluation = medzoo.evaluate(
            gen,
            real=real,
            fake=fake,
            train=train,
            other=other,
            metrics=metric or (),
            per_class=per_class,
            n=n,
            checkpoints=checkpoints,
            size=size,
            crop=crop,
            classes=names_in(classes),
            seed=seed,
            batch_size=batch_size,
            settings=parse_overrides(overrides),
            device=device,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            leave_out_seen=leave_out_seen,
            allow_leak=allow_leak,
            source=source,
            out=out,
            progress=progress,
        )
    if as_json:
        from medzoo.report.evaluation.tables import evaluation_json

        print_text(*evaluation_json(evaluation).decode().splitlines())
    else:
        _show(evaluation, out)
    check_no_errors(evaluation.errors)


def _show(evaluation: Evaluation, out: Path | None) -> None:
    rows = [*evaluation.results, *evaluation.per_class]
    classes = ("class",) if evaluation.per_class else ()
    columns = ("metric", *classes, "value", "±", "95 %", "baseline", "at equal n", "n real", "n synth", "better")
    cells = [(row.name, *((row.label or "all",) if classes else ()), *_cells(row), _better(row)) for row in rows]
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
        logger.info("--out DIR writes a report with figures, pairs of sets, histograms and tables")
    else:
        print_text(str(out / "report.html"))


def _remarks(rows: Sequence[MetricResult]) -> dict[str, list[str]]:
    """Map each remark to the rows it applies to; a class is named only where the remark does not apply to all."""
    remarks: dict[str, list[str]] = {}
    for row in rows:
        failed = "FAILED, look at the pairs in the report" if row.score is not None and row.score.failed else ""
        for text in filter(None, (row.missing, *row.warnings, failed)):
            if not row.label or row.name not in remarks.get(text, ()):
                remarks.setdefault(text, []).append(f"{row.name} of {row.label}" if row.label else row.name)
    return remarks


def _better(row: MetricResult) -> str:
    """Return which way is better, or where neither is, the value of images like the real ones."""
    return row.better if row.better != "neither" or row.ideal is None else f"near {row.ideal:g}"


def _cells(row: MetricResult) -> tuple[str, ...]:
    """Return value, spread, interval, baseline and its counterpart, and counts; "-" where there is no score."""
    score, baseline = row.score, row.baseline
    if score is None:
        return "-", "", "", "", "", "", ""
    interval = f"{_number(score.interval[0])} to {_number(score.interval[1])}" if score.interval else ""
    spread = _number(score.spread) if score.spread is not None else ""
    baselines = (_number(baseline.real), f"{_number(baseline.fake)} (n {baseline.n})") if baseline else ("", "")
    return _number(score.value), spread, interval, *baselines, str(score.n_real), str(score.n_fake)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4g}"
