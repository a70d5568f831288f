"""Evaluate the images that a model, or each checkpoint of its training, samples."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.evaluate import EvaluateRequest, Measured, evaluate
from medzoo.evaluation.results import TrendPoint
from medzoo.generation.mixture import Source, alone, load_from
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress
from medzoo.training.checkpoints import checkpoints, load_checkpoint

logger = logging.getLogger(__name__)


PER_CLASS = 100
TREND_METRICS = ("kid",)


def evaluate_model(
    given: str, request: EvaluateRequest, source: Source, *, per_class: int, progress: Progress
) -> Measured:
    """Evaluate the images that `medzoo sample GEN --n PER_CLASS` writes with the request's seed and batch size.

    A generator that varies real images varies the training images. `request.fake` is ignored. Raises: as `evaluate`,
    and as loading the model; ConfigError for a multi-label generator, or one without images to vary.
    """
    model, real = load_from(given, source), None
    if model.needs_init_images:
        real = _training_images(request, model)
        request = replace(request, train=real)
    asked = _of(request, model, per_class=per_class, progress=progress, real=real)
    return evaluate(asked, source, progress=progress)


def _training_images(request: EvaluateRequest, model: LoadedModel[Generator]) -> Dataset:
    """Return the training images of the request: those given, or the training part of the real ones."""
    given = request.real if request.train is None else request.train
    data = (
        given
        if isinstance(given, Dataset)
        else open_dataset(
            given, skip_bad=request.skip_bad, classes=request.classes, masks=request.masks, reading=request.reading
        )
    )
    if request.train is None and not data.held_out:
        raise ConfigError(f"'{model.sampling_name}' varies real images, and none are given to vary", "--train DIR")
    check_no_synthetic(data, use="but was given as train images", hint="give a folder of real images only")
    return model.check_images(replace(data, held_out={}))


def evaluate_checkpoints(
    run: Path,
    request: EvaluateRequest,
    source: Source,
    *,
    train: Dataset,
    per_class: int,
    progress: Progress,
) -> Measured:
    """Evaluate the images that the run's last checkpoint samples, with the trend over all checkpoints.

    Each point is measured at the same n, on images of the same seeds. `train` are the run's training images.
    Raises: as `evaluate`; DataError for a folder that is not a training run, or without checkpoints that sample images.
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
        asked = _of(request, model, per_class=per_class, progress=progress, name=run.resolve().name, real=train)
        is_last = place == len(found)
        asked = asked if is_last else replace(asked, metrics=wanted, per_class=False, other=None)
        with _errors_only(when=last is not None and not is_last):
            measured = evaluate(asked, source, progress=progress)
        points += [
            TrendPoint(step=checkpoint.step, epoch=checkpoint.epoch, name=row.name, score=row.score)
            for row in measured.evaluation.results
            if row.score is not None and row.name.partition("@")[0] in {name.partition("@")[0] for name in wanted}
        ]
        last = measured
    if last is None:
        raise DataError(f"{run} has no checkpoint that samples images", "train it for longer, with --keep 0")
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


def _of(
    request: EvaluateRequest,
    model: LoadedModel[Generator],
    *,
    per_class: int,
    progress: Progress,
    name: str = "",
    real: Dataset | None,
) -> EvaluateRequest:
    """Return the request with images of the model, or its variations of `real` ones, as the synthetic ones."""
    given = {"seed": request.seed, "batch_size": request.batch_size}
    fake, sources = sample_dataset(model, per_class=per_class, **given, progress=progress, name=name, real=real)
    crop = request.crop if request.crop != "none" else model.crop
    if model.window and not request.reading.window:
        request = replace(request, reading=replace(request.reading, window=model.window))
    return replace(request, fake=fake, sources=sources, models=(model,), crop=crop)


def sample_dataset(
    model: LoadedModel[Generator],
    *,
    per_class: int,
    seed: int,
    batch_size: int,
    progress: Progress,
    name: str = "",
    real: Dataset | None = None,
) -> tuple[Dataset, tuple[str, ...]]:
    """Sample `per_class` images of each class, those of `medzoo sample`, as a dataset in memory.

    `name` replaces the model's own, from which seeds are derived. A generator that varies real images varies `real`,
    and the names of the sources are returned too, one for each image; else none.
    Raises: ConfigError for a generator whose images have several labels; DataError, as `Sampler`.
    """
    if model.image.multi_label:
        raise ConfigError(
            f"'{model.name}' makes images of several labels",
            "write images with `medzoo sample` or `medzoo augment`, and give them with --fake",
        )
    counts = dict.fromkeys(model.image.classes, per_class)
    sampler = alone(model, name=name).sampler(counts, real=real, batch_size=batch_size, seed=seed)
    pixels = sampler.sample_all(progress=progress)
    sources = tuple(map(sampler.source_name, sampler.plan.images())) if model.needs_init_images else ()
    made = Dataset(
        path=Path(model.sampling_name),
        classes=model.image.classes,
        labels=np.repeat(np.arange(len(counts)), per_class),
        names=tuple(image.file for image in sampler.plan.images()),
        array=pixels[:, 0] if model.image.channels == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)),
    )
    return made, sources
