"""`medzoo classify`: train a classifier, predict with it, and test it on images it was not trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import (
    AllowLeak,
    Classes,
    ConfigFile,
    ConvertColor,
    Data,
    Device,
    LeaveOutSeen,
    LogWith,
    Masks,
    Overrides,
    PolicyFile,
    Preset,
    RunFolder,
    SkipBad,
    Source,
    names_in,
    parse_overrides,
    takes_reading,
)
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.cli.progress import ProgressDisplay
from medzoo.cli.train import print_run

if TYPE_CHECKING:
    from medzoo.classification.scores import ClassificationScores

logger = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train and test classifiers; predict with them.")

BatchSize = Annotated[int, typer.Option(min=1, help="Images to classify at once.")]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Classifier: id, plugin (its default model), run folder or hf:org/name."),
]


@app.command("train")
@takes_reading
def train(
    classifier: Annotated[str, typer.Argument(metavar="PLUGIN", help="Kind of classifier: cnn, or timm:resnet34.")],
    data: Data,
    out: RunFolder,
    preset: Preset = "default",
    config: ConfigFile = None,
    overrides: Overrides = None,
    classes: Classes = "",
    val: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.5, help="Share of images for validation.  [default: the val part, or 0.1 without one]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of weights, data order and split.")] = 0,
    device: Device = "auto",
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from the weights of this classifier, id or folder.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of newest checkpoints to keep.")] = 2,
    log_with: LogWith = None,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    policy: PolicyFile = None,
    as_json: Json = False,
) -> None:
    """Train a classifier; the same command resumes it."""
    import medzoo

    with ProgressDisplay(f"{classifier} on {data.name}", unit="steps") as progress:
        result = medzoo.classify.train(
            classifier,
            kind="classifier",
            data=data,
            out=out,
            preset=preset,
            config=config,
            settings=parse_overrides(overrides),
            classes=names_in(classes),
            validation=val,
            seed=seed,
            device=device,
            start=start,
            keep=keep,
            log_with=log_with or (),
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            policy=policy,
            progress=progress,
        )
    print_run(result, as_json=as_json)


@app.command("predict")
@takes_reading
def predict(
    model: Model,
    data: Annotated[Path, typer.Option(help="An image, a folder of images or of class folders, a CSV or an npz.")],
    out: Annotated[
        Path, typer.Option(help="CSV to write: file, label if known, predicted class, and p_CLASS for each class.")
    ],
    part: Annotated[str, typer.Option(help="train, val or test.  [default: all parts]")] = "",
    classes: Classes = "",
    device: Device = "auto",
    source: Source = None,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    convert_color: ConvertColor = False,
    batch_size: BatchSize = 64,
) -> None:
    """Predict the classes of images; write a CSV."""
    import medzoo

    with ProgressDisplay(f"{model} on {data.name}") as progress:
        medzoo.classify.predict(
            model,
            data=data,
            out=out,
            part=part,
            classes=names_in(classes),
            device=device,
            source=source,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            convert_color=convert_color,
            batch_size=batch_size,
            progress=progress,
        )
    print_text(str(out))


@app.command("test")
@takes_reading
def score(
    model: Model,
    data: Data,
    part: Annotated[str, typer.Option(help="train, val or test.  [default: test, or all of data without parts]")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for predictions.csv, scores.json and run.json.")] = None,
    near: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Also score without images whose 32x32 correlation with a training image is this high."
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the scores into the run MODEL, for its model card.")
    ] = False,
    leave_out_seen: LeaveOutSeen = False,
    allow_leak: AllowLeak = False,
    classes: Classes = "",
    device: Device = "auto",
    source: Source = None,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    convert_color: ConvertColor = False,
    batch_size: BatchSize = 64,
    as_json: Json = False,
) -> None:
    """Score a classifier on images it was not trained on."""
    import medzoo

    with ProgressDisplay(f"{model} on {data.name}") as progress:
        result = medzoo.classify.test(
            model,
            data=data,
            part=part,
            out=out,
            near=near,
            record=record,
            leave_out_seen=leave_out_seen,
            allow_leak=allow_leak,
            classes=names_in(classes),
            device=device,
            source=source,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            convert_color=convert_color,
            batch_size=batch_size,
            progress=progress,
        )
    if as_json:
        print_json(result.to_dict())
        return
    _print(result.scores)
    if result.near is not None:
        near_count, threshold = result.near.count, result.near.threshold
        logger.info(f"without {near_count} images that resemble a training image at {threshold:g} or more:")
        _print(result.near.scores)


def _print(scores: ClassificationScores) -> None:
    """Print scores over all images, by class, and the confusion matrix; log what they leave out."""
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")
    overall = [(name.replace("_", " "), _format(getattr(scores, name))) for name in names]
    if scores.multi_label:
        overall.insert(0, ("exact match", _format(scores.exact_match)))
    print_table(("score", f"{scores.n} images"), overall, right=(f"{scores.n} images",))
    print_text("")
    columns = ("class", "images", "precision", "recall", "f1", "auc")
    rows = [
        (one.name, one.support, *(_format(value) for value in (one.precision, one.recall, one.f1, one.auc)))
        for one in scores.per_class
    ]
    print_table(columns, rows, right=columns[1:])
    if scores.confusion:
        print_text("")
        predicted = [f"predicted {name}" for name in scores.classes]
        actual = [(f"actual {name}", *counts) for name, counts in zip(scores.classes, scores.confusion, strict=True)]
        print_table(("", *predicted), actual, right=predicted)
    if scores.absent:
        logger.warning(f"no test images of {', '.join(scores.absent)}: left out of all means")
    if partial := [name for name in scores.one_sided if name not in scores.absent]:
        logger.warning(f"every test image is {', '.join(partial)}: AUC is not defined")
    if scores.unpredicted:
        logger.warning(f"never predicted: {', '.join(scores.unpredicted)}; precision counts as 0")


def _format(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
