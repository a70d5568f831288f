"""Measure synthetic images beside real ones."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import CROPS
from medzoo.errors import ConfigError, DataError, PluginError
from medzoo.evaluation.dataset_warnings import oddities
from medzoo.evaluation.image_sets import ImageSet, common_image, described, open_sets
from medzoo.evaluation.leakage import Lineage, Seen, find_seen, refuse_seen
from medzoo.evaluation.measurement import MeasuredSet, Measurer
from medzoo.evaluation.metric_selection import choose
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, Evaluation, MetricResult, PairwiseResult, SkippedMetric
from medzoo.generation.mixture import Source
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress, no_progress
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)


_PAIRWISE = ("fid", "kid", "ssim", "ms-ssim")


@dataclass(frozen=True, kw_only=True)
class Request:
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
    """An evaluation with the images it is of, by role, for a report to show."""

    evaluation: Evaluation
    sets: Mapping[str, MeasuredSet]


def evaluate(request: Request, source: Source, *, progress: Progress = no_progress) -> Measured:
    """What the metrics say of the synthetic images; nothing is written but the caches.

    Raises:
        UnknownName, PluginError: a metric or an extractor that is not there.
        HubError: a metric named by the user needs weights that are not on this machine.
        DataError: sets that cannot be read or compared, held-out images that a model was trained on, or no metric that
            could be measured.
    """
    _check(request)
    paths = {REAL: request.real, FAKE: request.fake, TRAIN: request.train, OTHER: request.other}
    given = open_sets(paths, classes=request.classes, skip_bad=request.skip_bad)
    image, resized = common_image(given, size=request.size)
    logger.info(resized)
    chosen, skipped = choose(request.metrics, source, classes=_labels(given), has_train=TRAIN in given)
    if skipped:
        logger.info(f"skipped metrics: {_skipped_summary(skipped)}")
    sets = {role: _measured(one, image, request.crop) for role, one in given.items()}
    seen = find_seen(given, sets, source, models=request.models)
    lineage = _settle(seen, given, sets, request, image)
    of_pairs = [one for one in chosen if one.spec.name in _PAIRWISE] if len(sets) > 2 else []
    measurer = Measurer(chosen, source, pairwise=of_pairs, seed=request.seed, batch_size=request.batch_size)
    measurer.extract(sets.values(), progress=progress)
    results = [measurer.row(one, sets, fake=FAKE) for one in chosen]
    if all(result.score is None for result in results):
        check_no_errors(measurer.errors)
        raise DataError(
            f"nothing could be measured: {results[0].name}: {results[0].missing}", "give more or larger images"
        )
    evaluation = Evaluation(
        sets=tuple(one.facts(sets[role].images) for role, one in given.items()),
        image=image,
        crop=request.crop,
        resized=resized,
        seed=request.seed,
        results=tuple(results),
        per_class=tuple(_per_class(measurer, sets, given)) if request.per_class else (),
        pairwise=tuple(_pairwise(measurer, sets)),
        skipped=tuple(skipped),
        errors=measurer.errors,
        warnings=(*oddities(given, sets), *lineage.warnings),
        provenance={"lineage": lineage.facts()},
    )
    return Measured(evaluation=evaluation, sets=sets)


def check_no_errors(errors: Mapping[str, str]) -> None:
    """Raise PluginError if a metric raised one of `errors` (messages by metric name)."""
    for name, message in errors.items():
        raise PluginError(f"metric '{name}': {message}", f"run `medzoo plugin check {name.partition('@')[0]}`")


def _check(request: Request) -> None:
    if request.crop not in CROPS:
        raise ConfigError(f"--crop cannot take '{request.crop}'", f"it takes {', '.join(CROPS)}")
    if request.batch_size < 1 or (request.size is not None and request.size < 8):
        raise ConfigError(f"--batch-size {request.batch_size}, --size {request.size}", "at least 1 and 8 pixels")


def _labels(sets: Mapping[str, ImageSet]) -> tuple[str, ...]:
    """The classes that images of the real set have."""
    return tuple(name for name, count in sets[REAL].data.counts().items() if count)


def _skipped_summary(skipped: Sequence[SkippedMetric]) -> str:
    """One line: the metrics that each command makes available."""
    by_hint: dict[str, list[str]] = {}
    for one in skipped:
        by_hint.setdefault(one.hint, []).append(one.name)
    return "; ".join(f"{', '.join(names)} ({hint})" for hint, names in by_hint.items())


def _measured(one: ImageSet, image: ImageSpec, crop: str) -> MeasuredSet:
    how = "none" if one.role == FAKE else crop
    images = Decoded(one.data, size=image.size, channels=image.channels, crop=how)
    classes = tuple(dict.fromkeys([*image.classes, *one.data.classes]))
    return MeasuredSet(role=one.role, data=one.data, images=images, classes=classes)


def _settle(
    seen: Sequence[Seen],
    given: dict[str, ImageSet],
    sets: dict[str, MeasuredSet],
    request: Request,
    image: ImageSpec,
) -> Lineage:
    """What is known of the real images' lineage; those left out are in neither mapping any more.

    Raises: DataError for images that were trained on, unless the request says what to do with them.
    """
    data = given[REAL].data
    places = {place for one in seen for place in one.indices}
    lineage = Lineage(seen=tuple(seen), count=len(data), left_out=len(places) if request.leave_out_seen else 0)
    if not places or (request.allow_leak and not request.leave_out_seen):
        return lineage
    if not request.leave_out_seen:
        refuse_seen(lineage)
    if len(places) == len(data):
        raise DataError("every real image was trained on", "give images that no model has seen")
    logger.info(f"left out {len(places)} of the {len(data)} real images, which were trained on")
    given[REAL] = described(REAL, data.subset([place for place in range(len(data)) if place not in places]))
    sets[REAL] = _measured(given[REAL], image, request.crop)
    return lineage


def _per_class(
    measurer: Measurer, sets: Mapping[str, MeasuredSet], given: Mapping[str, ImageSet]
) -> list[MetricResult]:
    """Each measurement of each class; FID only where it was asked for by name, for its bias grows as n falls."""
    chosen = [one for one in measurer.measurements if one.chosen or one.spec.name not in ("fid", "isc")]
    labels = dict.fromkeys([*given[REAL].data.classes, *given[FAKE].data.classes])
    return [measurer.row(one, sets, fake=FAKE, label=label) for label in labels for one in chosen]


def _pairwise(measurer: Measurer, sets: Mapping[str, MeasuredSet]) -> list[PairwiseResult]:
    """Study B's table: its metrics between any two of the sets, where there are more than two."""
    pairs = itertools.combinations([role for role in (TRAIN, REAL, FAKE, OTHER) if role in sets], 2)
    return [measurer.pair(one, sets[first], sets[second]) for first, second in pairs for one in measurer.pairwise]
