"""Measure synthetic images against real ones."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medzoo.data.dataset import Dataset
from medzoo.data.images import CROPS
from medzoo.errors import ConfigError, DataError, PluginError
from medzoo.evaluation.dataset_warnings import dataset_warnings
from medzoo.evaluation.image_sets import EvaluationSet, common_image, open_sets
from medzoo.evaluation.leakage import Lineage, Seen, check_unseen, find_seen
from medzoo.evaluation.metric_computation import MetricComputer
from medzoo.evaluation.metric_selection import select_metrics
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, Evaluation, MetricResult, PairwiseResult, SkippedMetric
from medzoo.generation.mixture import Source
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress, no_progress
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)


_PAIRWISE = ("fid", "kid", "ssim", "ms-ssim")


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """What to measure. Each set is a folder of class folders, or of images without any, a CSV, an npz, or a dataset.

    `real` are held-out images, `train` those the generator was trained on, `other` some of another kind, for study B's
    table of all pairs. `metrics` are names such as "kid@cnn-busi" or "ssim", all that can be had where there are none.
    `size` is the side in pixels at which images are compared, by default the smaller one of the real and synthetic
    images'; `crop` as in `images.prepare`, of real images, for generators make images that are cropped already.
    `models` made the synthetic images, beside those that the images' metadata.csv names. Real images that were trained
    on are refused, or left out with `leave_out_seen`, or measured all the same with `allow_leak`.
    """

    real: Path | Dataset
    fake: Path | Dataset
    train: Path | Dataset | None = None
    other: Path | Dataset | None = None
    models: tuple[LoadedModel[Generator], ...] = ()
    metrics: tuple[str, ...] = ()
    per_class: bool = False
    size: int | None = None
    crop: str = "none"
    classes: tuple[str, ...] | None = None
    seed: int = 0
    batch_size: int = 32
    skip_bad: bool = False
    leave_out_seen: bool = False
    allow_leak: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """An evaluation with its image sets by role, which a report shows."""

    evaluation: Evaluation
    sets: Mapping[str, EvaluationSet]


def evaluate(request: EvaluateRequest, source: Source, *, progress: Progress = no_progress) -> Measured:
    """Compare synthetic with real images; nothing is written but the caches.

    Raises:
        UnknownName, PluginError: an unknown or broken metric or extractor.
        HubError: a metric named by the user needs weights that are not on this machine.
        DataError: sets that cannot be read or compared, real images that a model was trained on, or no metric that can
            be computed.
    """
    _check(request)
    paths = {REAL: request.real, FAKE: request.fake, TRAIN: request.train, OTHER: request.other}
    sets = open_sets(paths, classes=request.classes, skip_bad=request.skip_bad)
    image, resized = common_image(sets, size=request.size)
    logger.info(resized)
    classes = tuple(name for name, count in sets[REAL].data.counts().items() if count)
    chosen, skipped = select_metrics(request.metrics, source, classes=classes, has_train=TRAIN in sets)
    if skipped:
        logger.info(f"skipped metrics: {_skipped_summary(skipped)}")
    for one in sets.values():
        one.decode(image, crop="none" if one.role == FAKE else request.crop)
    lineage = _handle_seen(find_seen(sets, source, models=request.models), sets, request, image)
    of_pairs = [one for one in chosen if one.spec.name in _PAIRWISE] if len(sets) > 2 else []
    computer = MetricComputer(chosen, source, pairwise=of_pairs, seed=request.seed, batch_size=request.batch_size)
    computer.extract(sets.values(), progress=progress)
    results = [computer.compute(one, sets) for one in chosen]
    if all(result.score is None for result in results):
        check_no_errors(computer.errors)
        raise DataError(
            f"nothing could be measured: {results[0].name}: {results[0].missing}", "give more or larger images"
        )
    evaluation = Evaluation(
        sets=tuple(one.summary() for one in sets.values()),
        image=image,
        crop=request.crop,
        resized=resized,
        seed=request.seed,
        results=tuple(results),
        per_class=tuple(_per_class(computer, sets)) if request.per_class else (),
        pairwise=tuple(_pairwise(computer, sets)),
        skipped=tuple(skipped),
        errors=computer.errors,
        warnings=(*dataset_warnings(sets), *lineage.warnings),
        provenance={"lineage": lineage.facts()},
    )
    return Measured(evaluation=evaluation, sets=sets)


def check_no_errors(errors: Mapping[str, str]) -> None:
    """Raise PluginError if a metric raised one of `errors` (messages by metric name)."""
    for name, message in errors.items():
        raise PluginError(f"metric '{name}': {message}", f"run `medzoo plugin check {name.partition('@')[0]}`")


def _check(request: EvaluateRequest) -> None:
    if request.crop not in CROPS:
        raise ConfigError(f"--crop cannot take '{request.crop}'", f"it takes {', '.join(CROPS)}")
    if request.batch_size < 1 or (request.size is not None and request.size < 8):
        raise ConfigError(
            f"--batch-size {request.batch_size} or --size {request.size} is too small", "use 1 and 8 or more"
        )


def _skipped_summary(skipped: Sequence[SkippedMetric]) -> str:
    """Return one line: the metrics that each command makes available."""
    by_hint: dict[str, list[str]] = {}
    for one in skipped:
        by_hint.setdefault(one.hint, []).append(one.name)
    return "; ".join(f"{', '.join(names)} ({hint})" for hint, names in by_hint.items())


def _handle_seen(
    seen: Sequence[Seen], sets: dict[str, EvaluationSet], request: EvaluateRequest, image: ImageSpec
) -> Lineage:
    """Return the lineage of the real images, and leave those used in training out of `sets` if the request says so.

    Raises: DataError for images used in training, unless the request says what to do with them.
    """
    data = sets[REAL].data
    trained_on = {index for one in seen for index in one.indices}
    left_out = len(trained_on) if request.leave_out_seen else 0
    lineage = Lineage(seen=tuple(seen), count=len(data), left_out=left_out)
    if not trained_on or (request.allow_leak and not request.leave_out_seen):
        return lineage
    if not request.leave_out_seen:
        check_unseen(lineage)
    if len(trained_on) == len(data):
        raise DataError("every real image was used in training", "give images that no model has seen")
    logger.info(f"left out {len(trained_on)} of the {len(data)} real images, which were used in training")
    sets[REAL] = EvaluationSet(REAL, data.subset([index for index in range(len(data)) if index not in trained_on]))
    sets[REAL].decode(image, crop=request.crop)
    return lineage


def _per_class(computer: MetricComputer, sets: Mapping[str, EvaluationSet]) -> list[MetricResult]:
    """Compute each metric of each class; FID only if it was asked for by name, as its bias grows when n falls."""
    chosen = [one for one in computer.metrics if one.chosen or one.spec.name not in ("fid", "isc")]
    labels = dict.fromkeys([*sets[REAL].data.classes, *sets[FAKE].data.classes])
    return [computer.compute(one, sets, label=label) for label in labels for one in chosen]


def _pairwise(computer: MetricComputer, sets: Mapping[str, EvaluationSet]) -> list[PairwiseResult]:
    """Compute the metrics between any two of the sets, if there are more than two."""
    pairs = itertools.combinations([role for role in (TRAIN, REAL, FAKE, OTHER) if role in sets], 2)
    return [computer.compute_pair(one, sets[a], sets[b]) for a, b in pairs for one in computer.pairwise]
