"""`medzoo.classify`: train a classifier, predict with it, and test it on images it was not trained on.

Example:
    >>> run = medzoo.classify.train("cnn", data="scans", out="runs/cnn")
    >>> medzoo.classify.test(run.folder, data="scans").scores.balanced_accuracy
    >>> medzoo.classify.predict(run.folder, data="new-scans").predicted
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from medzoo.api import log_unreadable, train
from medzoo.data.reading import Reading
from medzoo.plugins.guard import exits_as_errors
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.arguments import class_names, require, whole_number
from medzoo.storage.files import check_empty, check_outside, write_atomic

if TYPE_CHECKING:
    import numpy as np

    from medzoo.classification.predict import ClassifierResult, Predictions
    from medzoo.data.dataset import Dataset
    from medzoo.models.loading import LoadedModel
    from medzoo.plugins.lookup import Plugins
    from medzoo.protocols import Classifier
    from medzoo.runs.progress import Progress

__all__ = ["predict", "test", "train"]

logger = logging.getLogger(__name__)


@exits_as_errors()
def predict(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path | None = None,
    part: str = "",
    classes: Sequence[str] | None = None,
    device: str = "auto",
    source: str | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    convert_color: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Predictions:
    """Predict the classes of images, labeled or not.

    `model` is a classifier's id, a plugin's name (its default model), a training run's folder or `hf:org/name`. `data`
    is an image, a folder of images or of class folders, a CSV or an npz; `part` keeps one part of it ("train", "val" or
    "test"), `classes` names the classes of an npz, `skip_bad` leaves out unreadable images, and
    `reading` is what `train` takes. Images in color are an
    error for a model trained in gray, unless `convert_color` reads them in gray. `out` is a CSV to write, `batch_size`
    the number of images classified at once. `progress` is called with the number of images done and their total.

    Example:
        >>> predictions = medzoo.classify.predict("cnn-busi", data="scans", out="predictions.csv")
        >>> predictions.predicted[0], predictions.probabilities[0]

    Raises:
        ConfigError, UnknownName: no such model, part or device; a generator.
        DataError: images that cannot be read.
        HubError, ResourceError: weights that cannot be had or are damaged; no such device; a full disk.
    """
    from medzoo.classification.predict import Predictions, images_to_predict
    from medzoo.classification.predict import predict as run
    from medzoo.runs.progress import no_progress

    require((str, Path), "a path", data=data)
    require((str, Path, NoneType), "a path", out=out)
    if out is not None:
        check_outside(Path(out), Path(data))
    loaded = _load(model, load_plugins(), device=device, source=source)
    image = loaded.image
    parts = images_to_predict(
        Path(data),
        image.classes,
        part=part,
        skip_bad=skip_bad,
        classes=class_names(classes),
        masks=masks,
        reading=Reading.of(reading),
    )
    if len(parts) > 1:
        logger.info(f"{data} has parts, or parts beside it: all are predicted; choose one with --part")
    found: list[tuple[Dataset, np.ndarray]] = []
    before, total = 0, sum(map(len, parts))

    def watch(done: int, _: int, note: str = "", /) -> None:
        (progress or no_progress)(before + done, total, note)

    for images in (loaded.check_images(images, convert_color=convert_color) for images in parts):
        log_unreadable(images)
        found.append((images, run(loaded, images, batch_size=whole_number("batch_size", batch_size), progress=watch)))
        before += len(images)
    predictions = Predictions.of(found, image.classes, multi_label=image.multi_label)
    if out is not None:
        write_atomic(Path(out), predictions.to_csv().encode())
    return predictions


@exits_as_errors()
def test(
    model: str | Path,
    *,
    data: str | Path,
    part: str = "",
    out: str | Path | None = None,
    near: float | None = None,
    record: bool = False,
    leave_out_seen: bool = False,
    allow_leak: bool = False,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    source: str | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    convert_color: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> ClassifierResult:
    """Score a classifier on images it was not trained on.

    `data` is a folder of class folders, a CSV or an npz, of which `part` is scored: by default the test part, or all of
    data without parts. Images that the model was trained on, or its weights chosen by, are an error, unless
    `leave_out_seen` leaves them out or `allow_leak` allows them, which is recorded. With `near`, scores are also given
    without the images whose 32x32 correlation with a training image is `near` or more. `record` writes the scores into
    the training run `model`, for its model card. `out` is an empty folder for predictions.csv, scores.json and
    run.json. The other arguments are those of `predict`.

    Example:
        >>> result = medzoo.classify.test("runs/cnn", data="scans")
        >>> result.scores.accuracy, result.scores.confusion

    Raises:
        ConfigError, UnknownName: as `predict`; `record` for a model that is not a training run.
        DataError: as `predict`; images the model was trained on; `out` is not empty.
        HubError, ResourceError: as `predict`.
    """
    from medzoo.classification.predict import record_scores, score, write_result
    from medzoo.data.dataset import open_dataset
    from medzoo.models.devices import pick_device
    from medzoo.runs.progress import no_progress
    from medzoo.runs.record import RunRecord

    require((str, Path), "a path", data=data)
    require((str, Path, NoneType), "a path", out=out)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_outside(folder, Path(data))
        check_empty(folder)
        run = RunRecord(job="classify test", folder=folder)
    plugins = load_plugins()
    loaded = _load(model, plugins, device=device, source=source)
    images = open_dataset(
        Path(data), skip_bad=skip_bad, classes=class_names(classes), masks=masks, reading=Reading.of(reading)
    )
    if images.held_out and not part:
        logger.info(f"{data} has parts, or parts beside it: the test part is scored; choose another with --part")
    result = score(
        loaded,
        images,
        part=part,
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        near=near,
        convert_color=convert_color,
        batch_size=whole_number("batch_size", batch_size),
        progress=progress or no_progress,
    )
    log_unreadable(result.data)
    if result.left_out:
        logger.info(f"left out {result.left_out} images that the model was trained on or its weights chosen by")
    if result.leaked:
        logger.warning(
            f"the model was trained on {result.leaked} of these images, or its weights were chosen by them: "
            "the scores are too good"
        )
    if record:
        record_scores(Path(model), result)
    if folder is not None:
        run.add_outputs(write_result(folder, result))
        run.config = loaded.config.flat()
        run.origins = loaded.config.origins
        run.plugins = [plugins.plugin_of("classifier", loaded.spec.name)]
        run.weights = {loaded.name: loaded.weights_sha256 or ""}
        run.data = {"path": str(result.data.path), "part": result.part, "counts": result.data.counts()}
        run.device = pick_device(device)
        run.scores = result.to_dict()
        run.extra = {"allow_leak": allow_leak}
        run.finish()
    return result


def _load(given: str | Path, plugins: Plugins, *, device: str, source: str | None) -> LoadedModel[Classifier]:
    from medzoo.hub.registry import load_registry
    from medzoo.models.devices import pick_device
    from medzoo.models.loading import load_by_name

    require((str, Path), "a model's name or a folder", model=given)
    return load_by_name(
        str(given),
        kind="classifier",
        registry=load_registry(plugins=plugins),
        plugins=plugins,
        device=pick_device(device),
        source=source,
    )
