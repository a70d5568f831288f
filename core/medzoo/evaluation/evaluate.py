"""Measure synthetic images against real ones."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medzoo.data.dataset import Dataset
from medzoo.data.pixels import CROPS
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError, PluginError
from medzoo.evaluation.image_sets import EvaluationSet, common_image, dataset_warnings, open_sets, source_indices
from medzoo.evaluation.leakage import find_seen, without_seen
from medzoo.evaluation.metric_computation import MetricComputer
from medzoo.evaluation.metric_selection import select_metrics
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, Evaluation, MetricResult
from medzoo.generation.mixture import Source
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress, no_progress

logger = logging.getLogger(__name__)


_PAIRWISE = ("fid", "kid", "ssim", "ms-ssim")


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """What to measure. Each set is a folder of class folders, or of images without any, a CSV, an npz, or a dataset.

    `real` are held-out images, `train` those the generator was trained on, `other` some of another kind, for study B's
    table of all pairs. `metrics` are names such as "kid@cnn-busi" or "ssim", all that can be had where there are none.
    `size` is the side in pixels at which images are compared, by default the smaller one of the real and synthetic
    images'; `crop` as in `pixels.prepare`, of real images, for generators make images that are cropped already.
    `models` made the synthetic images, beside those that the images' metadata.csv names, and `sources` are the names of
    the real images they vary, if `fake` is a dataset of variations. Real images that were trained
    on are refused, or left out with `leave_out_seen`, or measured all the same with `allow_leak`.
    """

    real: Path | Dataset
    fake: Path | Dataset
    train: Path | Dataset | None = None
    other: Path | Dataset | None = None
    models: tuple[LoadedModel[Generator], ...] = ()
    sources: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    per_class: bool = False
    size: int | None = None
    crop: str = "none"
    classes: tuple[str, ...] | None = None
    seed: int = 0
    batch_size: int = 32
    skip_bad: bool = False
    masks: str = "ignore"
    reading: Reading = Reading()
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
    if request.crop not in CROPS:
        raise ConfigError(f"--crop cannot take '{request.crop}'", f"it takes {', '.join(CROPS)}")
    if request.batch_size < 1 or (request.size is not None and request.size < 8):
        raise ConfigError(
            f"--batch-size {request.batch_size} or --size {request.size} is too small", "use 1 and 8 or more"
        )
    paths = {REAL: request.real, FAKE: request.fake, TRAIN: request.train, OTHER: request.other}
    sets = open_sets(
        paths, classes=request.classes, skip_bad=request.skip_bad, masks=request.masks, reading=request.reading
    )
    sets[FAKE].sources = request.sources or sets[FAKE].sources
    image, resized = common_image(sets, size=request.size)
    logger.info(resized)
    classes = tuple(name for name, count in sets[REAL].data.counts().items() if count)
    chosen, skipped = select_metrics(request.metrics, source, classes=classes, has_train=TRAIN in sets)
    by_hint: dict[str, list[str]] = {}
    for metric in skipped:
        by_hint.setdefault(metric.hint, []).append(metric.name)
    if skipped:
        summary = "; ".join(f"{', '.join(names)} ({hint})" for hint, names in by_hint.items())
        logger.info(f"skipped metrics: {summary}")
    for one in sets.values():
        one.decode(image, crop="none" if one.role == FAKE else request.crop)
    seen = find_seen(sets, source, models=request.models)
    held_out, lineage, warnings = without_seen(
        sets[REAL].data, seen, leave_out=request.leave_out_seen, allow=request.allow_leak
    )
    if held_out is not sets[REAL].data:
        sets[REAL] = EvaluationSet(REAL, held_out)
        sets[REAL].decode(image, crop=request.crop)
    of_pairs = [one for one in chosen if one.spec.name in _PAIRWISE] if len(sets) > 2 else []
    computer = MetricComputer(chosen, source, pairwise=of_pairs, seed=request.seed, batch_size=request.batch_size)
    computer.extract(sets.values(), progress=progress)
    results = [computer.compute(one, sets) for one in chosen]
    if all(result.score is None for result in results):
        check_no_errors(computer.errors)
        raise DataError(
            f"nothing could be measured: {results[0].name}: {results[0].missing}", "give more or larger images"
        )
    per_class: list[MetricResult] = []
    if request.per_class:  # FID only if it was asked for by name, as its bias grows when n falls
        of_class = [one for one in chosen if one.chosen or one.spec.name not in ("fid", "isc")]
        labels = dict.fromkeys([*sets[REAL].data.classes, *sets[FAKE].data.classes])
        per_class = [computer.compute(one, sets, label=label) for label in labels for one in of_class]
    roles = itertools.combinations([role for role in (TRAIN, REAL, FAKE, OTHER) if role in sets], 2)
    pairwise = tuple(computer.compute_pair(one, sets[a], sets[b]) for a, b in roles for one in of_pairs)
    if computer.cached:
        of = computer.cached + computer.computed
        logger.info(
            f"{computer.cached} of {of} scores are from an earlier evaluation of the same images; "
            "`medzoo cache remove scores` has them computed anew"
        )
    evaluation = Evaluation(
        sets=tuple(one.summary() for one in sets.values()),
        image=image,
        crop=request.crop,
        resized=resized,
        seed=request.seed,
        results=tuple(results),
        per_class=tuple(per_class),
        pairwise=pairwise,
        skipped=tuple(skipped),
        errors=computer.errors,
        warnings=(*dataset_warnings(sets), *warnings, *_source_warnings(sets)),
        provenance={"lineage": lineage},
    )
    return Measured(evaluation=evaluation, sets=sets)


def _source_warnings(sets: Mapping[str, EvaluationSet]) -> Iterator[str]:
    """Yield a sentence if synthetic images are variations of images that the memorization check cannot leave out."""
    varied = [name for name in sets[FAKE].sources if name]
    if varied and TRAIN in sets:
        unknown = int((source_indices(varied, sets[TRAIN].data.names) < 0).sum())
        if unknown:
            yield (
                f"{unknown} synthetic images are variations of images that have no namesake among the training images, "
                "so the memorization check cannot leave those out"
            )


def check_no_errors(errors: Mapping[str, str]) -> None:
    """Raise PluginError if a metric raised one of `errors` (messages by metric name)."""
    for name, message in errors.items():
        raise PluginError(f"metric '{name}': {message}", f"run `medzoo plugin check {name.partition('@')[0]}`")
