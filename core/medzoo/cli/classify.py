"""`medzoo classify`: train a classifier, let it predict, and test it on images it was not trained on."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import Classes, Device, Mirror, Overrides, SkipBad, parse_overrides
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.cli.progress import Display, TrainingDisplay

if TYPE_CHECKING:
    from medzoo.classification.predict import Scored
    from medzoo.classification.scores import ClassificationScores
    from medzoo.data.dataset import Dataset
    from medzoo.models.loading import LoadedModel
    from medzoo.plugins.lookup import Plugins
    from medzoo.protocols import Classifier

logger = logging.getLogger(__name__)


app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train classifiers, predict with them and test them."
)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A classifier: id, plugin (its default model), run folder, hf:org/name.")
]
Images = Annotated[Path, typer.Option(help="Folder of class folders, CSV or npz.")]


@app.command("train")
def train(
    classifier: Annotated[str, typer.Argument(metavar="PLUGIN", help="Kind of classifier: cnn, or timm:resnet34.")],
    data: Images,
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command again goes on there.")],
    preset: Annotated[
        str, typer.Option(help="A preset of the plugin, as `medzoo show PLUGIN` lists them.")
    ] = "default",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, over the preset.")] = None,
    overrides: Overrides = None,
    classes: Classes = "",
    val: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="Share set aside to choose weights by; default: the val part, or else 0.1."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    device: Device = "auto",
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Start from this classifier's weights instead of fresh ones.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 2,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train a classifier; the same command goes on where it stopped."""
    from medzoo import config as settings
    from medzoo.data.dataset import open_dataset
    from medzoo.models.loading import classifier_to_train
    from medzoo.plugins.lookup import load_plugins
    from medzoo.training.train_classifier import train as run
    from medzoo.training.train_classifier import training_parts

    plugins = load_plugins()
    spec, implied = classifier_to_train(classifier, plugins)
    given = {**implied, **parse_overrides(overrides)}
    resolved = settings.resolve(spec.config, presets=spec.presets, preset=preset, file=config, overrides=given)
    dataset = open_dataset(data, skip_bad=skip_bad, classes=_names(classes))
    _tell_bad(dataset)
    parts = training_parts(dataset, share=val, seed=seed)
    logger.info(f"trained on {len(parts.training)} images; those to choose weights by: {parts.origin}")
    before = None if start is None else _load(start, plugins, device="cpu", source=None)
    with TrainingDisplay(f"{classifier} on {data.name}") as display:
        result = run(
            spec,
            resolved,
            parts,
            out,
            plugins=plugins,
            display=display,
            seed=seed,
            device=device,
            keep=keep,
            start=before,
        )
    if not result.leads:
        return
    if result.already_done:
        logger.info("this run was finished before; nothing was done")
    if as_json:
        print_json(result.record)
    else:
        print_text(str(result.folder))


@app.command("predict")
def predict(
    model: Model,
    data: Annotated[Path, typer.Option(help="An image, a folder of images or of class folders, CSV or npz.")],
    out: Annotated[
        Path, typer.Option(help="CSV with file, label where known, predicted, and a column p_CLASS a class.")
    ],
    part: Annotated[str, typer.Option(help="train, val or test; default: every part.")] = "",
    classes: Classes = "",
    device: Device = "auto",
    source: Mirror = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write a CSV of what a classifier says of each image."""
    from medzoo.classification.predict import images_to_predict, predictions_table
    from medzoo.classification.predict import predict as run
    from medzoo.plugins.lookup import load_plugins
    from medzoo.storage.files import write_atomic

    loaded = _load(model, load_plugins(), device=device, source=source)
    names, known = _names(classes), loaded.image.classes
    found = []
    parts = list(images_to_predict(data, known, part=part, skip_bad=skip_bad, classes=names))
    if len(parts) > 1:
        logger.info(f"{data} has parts, or parts beside it: the images of all are predicted; --part takes one")
    for images in parts:
        _tell_bad(images)
        with Display(f"{loaded.name} on {data.name}") as display:
            found.append((images, run(loaded, images, progress=display)))
    table = predictions_table(found, loaded.image.classes, multi_label=loaded.image.multi_label)
    write_atomic(out, table.encode())
    print_text(str(out))


@app.command("test")
def measure(
    model: Model,
    data: Images,
    part: Annotated[str, typer.Option(help="train, val or test; default: test, or all of data without parts.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for predictions.csv, scores.json and run.json.")] = None,
    near: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Also without images whose 32x32 correlation with a training image is this high."
        ),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Note the scores in the run, for its model card.")] = False,
    leave_out_seen: Annotated[
        bool, typer.Option("--leave-out-seen", help="Leave out images the model was trained on or chosen by.")
    ] = False,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Go on where the model was trained on such an image; recorded.")
    ] = False,
    classes: Classes = "",
    device: Device = "auto",
    source: Mirror = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Measure a classifier on images it was not trained on."""
    from medzoo.classification.predict import record_scores, score
    from medzoo.data.dataset import open_dataset
    from medzoo.plugins.lookup import load_plugins
    from medzoo.storage.files import refuse_occupied

    if out is not None:
        refuse_occupied(out)
    plugins = load_plugins()
    loaded = _load(model, plugins, device=device, source=source)
    dataset = open_dataset(data, skip_bad=skip_bad, classes=_names(classes))
    if dataset.held_out and not part:
        logger.info(f"{data} has parts, or parts beside it: the test part is measured; --part takes another")
    with Display(f"{loaded.name} on {data.name}") as display:
        result = score(
            loaded,
            dataset,
            part=part,
            allow_leak=allow_leak,
            leave_out_seen=leave_out_seen,
            near=near,
            progress=display,
        )
    _tell_bad(result.data)
    if result.left_out:
        logger.info(f"left out {result.left_out} images that the model was trained on or chosen by")
    if result.leaked:
        logger.warning(f"{result.leaked} of these images were trained on or chosen by: the scores flatter the model")
    if record:
        record_scores(Path(model), result)
    if out is not None:
        _write(out, loaded, result, plugins, allow_leak=allow_leak, device=device)
    if as_json:
        print_json(result.to_dict())
        return
    _print(result.scores)
    if result.near is not None:
        logger.info(f"without {result.near.count} images that resemble a training image at {result.near.threshold:g}:")
        _print(result.near.scores)


def _tell_bad(data: Dataset) -> None:
    for name, reason in data.bad:
        logger.warning(f"left out {name}: {reason}")


def _names(classes: str) -> list[str] | None:
    return [name.strip() for name in classes.split(",")] if classes else None


def _load(given: str, plugins: Plugins, *, device: str, source: str | None) -> LoadedModel[Classifier]:
    from medzoo.hub.registry import load_registry
    from medzoo.models.devices import pick_device
    from medzoo.models.loading import load_by_name

    return load_by_name(
        given,
        kind="classifier",
        registry=load_registry(plugins=plugins),
        plugins=plugins,
        device=pick_device(device),
        source=source,
    )


def _write(
    out: Path, loaded: LoadedModel[Classifier], result: Scored, plugins: Plugins, *, allow_leak: bool, device: str
) -> None:
    """Nothing; `out` holds the predictions, the scores and the record."""
    from medzoo.classification.predict import write_scored
    from medzoo.models.devices import pick_device
    from medzoo.runs.record import RunRecord

    record = RunRecord(job="classify test", folder=out)
    record.add_outputs(write_scored(out, result, loaded.image))
    record.config = loaded.config.flat()
    record.origins = loaded.config.origins
    record.plugins = [plugins.plugin_of("classifier", loaded.spec.name)]
    record.weights = {loaded.name: loaded.weights_sha256 or ""}
    record.data = {"path": str(result.data.path), "part": result.part, "counts": result.data.counts()}
    record.device = pick_device(device)
    record.scores = result.to_dict()
    record.extra = {"allow_leak": allow_leak}
    record.finish()


def _print(scores: ClassificationScores) -> None:
    """Nothing; the scores over all, by class, and the confusion matrix go to stdout, what they leave out to stderr."""
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")
    overall = [(name.replace("_", " "), _shown(getattr(scores, name))) for name in names]
    if scores.multi_label:
        overall.insert(0, ("exact match", _shown(scores.exact_match)))
    print_table(("score", f"{scores.n} images"), overall, right=("score", f"{scores.n} images")[1:])
    print_text("")
    columns = ("class", "images", "precision", "recall", "f1", "auc")
    rows = [
        (one.name, one.support, *(_shown(value) for value in (one.precision, one.recall, one.f1, one.auc)))
        for one in scores.per_class
    ]
    print_table(columns, rows, right=columns[1:])
    if scores.confusion:
        print_text("")
        told = [f"said {name}" for name in scores.classes]
        rows_of = [(f"is {name}", *counts) for name, counts in zip(scores.classes, scores.confusion, strict=True)]
        print_table(("", *told), rows_of, right=told)
    if scores.absent:
        logger.warning(f"no test image is {', '.join(scores.absent)}: left out of every mean")
    if partial := [name for name in scores.one_sided if name not in scores.absent]:
        logger.warning(f"every test image is {', '.join(partial)}: no AUC")
    if scores.unpredicted:
        logger.warning(f"never predicted: {', '.join(scores.unpredicted)}; its precision counts as 0")


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
