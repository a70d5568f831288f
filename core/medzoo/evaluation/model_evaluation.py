"""Images drawn from a model, or from each checkpoint of its training, and what the metrics say of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.images import to_uint8
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.evaluate import Measured, Request, evaluate
from medzoo.evaluation.results import TrendPoint
from medzoo.generation.mixture import Source, load_from
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress
from medzoo.seeds import derive_seed
from medzoo.training.checkpoints import checkpoints, load_checkpoint

logger = logging.getLogger(__name__)


PER_CLASS = 100
TREND_METRICS = ("kid",)


def evaluate_model(given: str, request: Request, source: Source, *, per_class: int, progress: Progress) -> Measured:
    """What the metrics say of images drawn from the model that `given` (GEN) means, `per_class` of each class.

    `request.fake` is not looked at. Raises: as `evaluate`, and what loading the model raises; ConfigError for a
    generator that varies real images, or is multi-label.
    """
    model = load_from(given, source)
    drawn = draw(model, per_class=per_class, seed=request.seed, batch_size=request.batch_size, progress=progress)
    return evaluate(_of(request, model, drawn), source, progress=progress)


def evaluate_checkpoints(
    run: Path,
    request: Request,
    source: Source,
    *,
    train: Dataset,
    per_class: int,
    progress: Progress,
) -> Measured:
    """The evaluation of images drawn from the run's last checkpoint, with the trend over all of them.

    Each point is measured at the same n, on images of the same seeds. `train` are the run's training images.
    Raises: as `evaluate`; DataError for a folder that is no training run, or without checkpoints that draw images.
    """
    wanted = request.metrics or TREND_METRICS
    points: list[TrendPoint] = []
    last: Measured | None = None
    found = checkpoints(run)
    for place, checkpoint in enumerate(found, 1):
        try:
            model = load_checkpoint(run, checkpoint, plugins=source.plugins, device=source.device, data=train)
        except DataError as error:
            logger.warning(f"step {checkpoint.step}: {error.message}")
            continue
        logger.info(f"step {checkpoint.step} ({place} of {len(found)})")
        drawn = draw(model, per_class=per_class, seed=request.seed, batch_size=request.batch_size, progress=progress)
        own = _of(request, model, drawn)
        is_last = place == len(found)
        asked = own if is_last else replace(own, metrics=wanted, per_class=False, other=None)
        with _errors_only(when=last is not None and not is_last):
            measured = evaluate(asked, source, progress=progress)
        points += [
            TrendPoint(step=checkpoint.step, epoch=checkpoint.epoch, name=row.name, score=row.score)
            for row in measured.evaluation.results
            if row.score is not None and row.name.partition("@")[0] in {name.partition("@")[0] for name in wanted}
        ]
        last = measured
    if last is None:
        raise DataError(f"{run} has no checkpoint from which images can be drawn", "train it for longer, with --keep 0")
    return replace(last, evaluation=replace(last.evaluation, trend=tuple(points)))


@contextlib.contextmanager
def _errors_only(when: bool) -> Iterator[None]:
    """Silence what an evaluation logs: what was logged of the first checkpoint holds for the others."""
    evaluation = logging.getLogger("medzoo.evaluation")
    level = evaluation.level
    if when:
        evaluation.setLevel(logging.ERROR)
    try:
        yield
    finally:
        evaluation.setLevel(level)


def _of(request: Request, model: LoadedModel[Generator], drawn: Dataset) -> Request:
    crop = request.crop if request.crop != "none" else model.crop
    return replace(request, fake=drawn, models=(model,), crop=crop)


def draw(model: LoadedModel[Generator], *, per_class: int, seed: int, batch_size: int, progress: Progress) -> Dataset:
    """Images of each class, `per_class` of each, as a dataset in memory.

    Raises: ConfigError for a generator that varies real images, or whose images have several labels.
    """
    if model.needs_init_images or model.image.multi_label:
        why = "varies real images" if model.needs_init_images else "makes images of several labels"
        raise ConfigError(
            f"'{model.name}' {why}", "make images with `medzoo sample` or `medzoo augment`, and give them with --fake"
        )
    labels = np.repeat(np.arange(len(model.image.classes)), per_class)
    batches = []
    progress(0, len(labels))
    for batch in _batches(labels, batch_size):
        names = [model.image.classes[labels[place]] for place in batch]
        seeds = [
            derive_seed(seed, "evaluate", name, int(place) % per_class)
            for name, place in zip(names, batch, strict=True)
        ]
        batches.append(to_uint8(model.model.sample(seeds, label_tensor(model.image, names))))
        progress(int(batch[-1]) + 1, len(labels))
    pixels = np.concatenate(batches)
    stored = pixels[:, 0] if model.image.channels == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return Dataset(
        path=Path(model.name),
        classes=model.image.classes,
        labels=labels.astype(np.int64),
        names=tuple(f"{model.image.classes[label]}/{place % per_class:05d}" for place, label in enumerate(labels)),
        array=stored,
    )


def _batches(labels: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(labels), batch_size):
        yield np.arange(start, min(start + batch_size, len(labels)))
