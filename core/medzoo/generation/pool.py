"""Draw a pool of images, select some of them, and fill a run's folder with those."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.duplicates import image_groups
from medzoo.errors import DataError
from medzoo.generation.plan import PlannedImage
from medzoo.generation.run import AugmentationResult, ClassResult, Job, run
from medzoo.generation.sampler import Sampler
from medzoo.generation.selection import NOVELTY, PoolFeatures, RealFeatures, Selection, select
from medzoo.generation.writer import place_file, recorded_hashes
from medzoo.runs.identity import check_same_run, lock_run_dir
from medzoo.runs.progress import Progress, no_progress
from medzoo.runs.record import check_finished
from medzoo.specs import ImageSpec
from medzoo.storage.files import join_name, sha256_file

logger = logging.getLogger(__name__)

_SHOWN = 8


class FeatureExtractor(Protocol):
    """Compute the features of datasets; `evaluation.features.DatasetExtractor` is one."""

    @property
    def name(self) -> str:
        """The extractor's name."""

    @property
    def identity(self) -> str:
        """A text that changes whenever the features of the same images do."""

    @property
    def trained_on(self) -> frozenset[str]:
        """The fingerprints of the images it was trained on, as far as they are known."""

    def extract(self, data: Dataset, image: ImageSpec, *, crop: str, mirrored: bool) -> Sequence[np.ndarray]:
        """Return features, float32 (N, D), of the images in the size and channels of `image`.

        With `mirrored`, those of the horizontally flipped images follow.
        """

    def seconds_per_image(self, image: ImageSpec) -> float:
        """Time a few images."""


@dataclass(frozen=True, kw_only=True)
class PoolSelection:
    """How a run selects its images: from those that the job `pool` draws, by `criteria`, as `selection.select` does.

    The pool has `factor` times as many images as are kept. `extractor` is None for criteria that need no features.
    """

    pool: Job
    factor: float
    criteria: tuple[str, ...]
    extractor: FeatureExtractor | None

    def seconds(self, real: Dataset) -> float:
        """Estimate how long extracting features takes, of real images and of the pool."""
        if self.extractor is None:
            return 0.0
        images = self.pool.plan.total + len(real) * (2 if NOVELTY in self.criteria else 1)
        return images * self.extractor.seconds_per_image(_compared_image(self.pool))


def pool_folder(folder: Path) -> Path:
    """Return the folder of a run's pool: beside its own, which holds class folders only."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.parent / join_name(named.name, "-pool")


def run_selected(job: Job, *, progress: Progress) -> AugmentationResult:
    """Draw the pool of a job with a `selection`, select from it, and complete the job's folder with the kept images.

    The pool is drawn like any job: it resumes, and shards share the work; whoever finds it complete selects. It stays
    for later: with a larger factor it is continued. The kept images have their files in the pool's folder, as hard
    links where possible, under the same names. A finished folder needs no pool.

    Raises: as `run` and `select`.
    """
    assert job.selection is not None
    check_same_run(job.folder, job.identity)
    if (done := _finished(job)) is not None:
        return done
    drawn = run(job.selection.pool, progress=progress)
    if drawn.missing:
        return replace(drawn, already_done=False)
    images = tuple(job.selection.pool.plan.images())
    started = time.monotonic()
    chosen = _select(job, images)
    facts = _facts(job.selection, chosen, seconds=time.monotonic() - started)
    final = _selected(job, images, chosen, facts={"selection": facts, "requests": drawn.requests})
    lock_run_dir(final.folder, final.identity)
    final.remove_damaged()
    for image in final.plan.images():
        place_file(job.selection.pool.folder / image.file, final.folder / image.file)
    result = run(final, progress=no_progress)
    by_label = {row.label: row for row in drawn.classes}
    return replace(
        result,
        classes=tuple(
            replace(row, drawn=by_label[row.label].drawn, seconds=by_label[row.label].seconds) for row in result.classes
        ),
        already_done=False,
        requests=drawn.requests,
        selection=facts,
    )


def _finished(job: Job) -> AugmentationResult | None:
    """Return the result of a job that was finished before, or None; its files are compared with their hashes."""
    record, lost = check_finished(job.folder)
    if record is None or lost or "selection" not in record:
        return None
    for name, digest in recorded_hashes(job.folder).items():
        if not (job.folder / name).is_file() or sha256_file(job.folder / name) != digest:
            return None
    if job.selection is not None:
        replace(job, sampler=job.selection.pool.sampler).warn_if_unmarked()
    return AugmentationResult(
        folder=job.folder,
        sheet=job.sheet if job.sheet is not None and job.sheet.exists() else None,
        classes=tuple(
            ClassResult(
                label=label,
                real=record["counts"][label]["real"] if job.originals else 0,
                synthetic=record["counts"][label]["synthetic"],
                drawn=0,
                seconds=0.0,
            )
            for label in job.labels
        ),
        missing=0,
        already_done=True,
        how=record["originals"],
        requests=record["requests"],
        selection=record["selection"],
    )


def _select(job: Job, images: Sequence[PlannedImage]) -> Selection:
    """Select from the images of the pool, which are all there."""
    assert job.selection is not None
    assert job.real is not None
    selection, real = job.selection, job.real
    pool, extractor = selection.pool, selection.extractor
    labels = np.array([real.classes.index(image.label) for image in images], np.int64)
    sources = [pool.sampler.source(image) for image in images]
    drawn = Dataset(
        path=pool.folder,
        classes=real.classes,
        labels=labels,
        names=tuple(image.file for image in images),
        files=tuple(pool.folder / image.file for image in images),
    )
    of_pool, of_real = np.empty((len(drawn), 0), np.float32), [np.empty((len(real), 0), np.float32)]
    if extractor is not None:
        image = _compared_image(pool)
        logger.info(f"comparing features by '{extractor.name}' of {len(drawn)} drawn and {len(real)} real images")
        (of_pool,) = extractor.extract(drawn, image, crop="none", mirrored=False)
        crop = pool.sampler.models[0].crop
        of_real = [*extractor.extract(real, image, crop=crop, mirrored=NOVELTY in selection.criteria)]
    # Criteria without features look at no real image, nor at which belong together.
    groups = image_groups(real) if extractor is not None else np.arange(len(real))
    try:
        return select(
            PoolFeatures(
                features=of_pool,
                labels=labels,
                sources=np.array([-1 if source is None else source for source in sources], np.int64),
            ),
            RealFeatures(
                classes=real.classes,
                features=of_real[0],
                mirrored=of_real[-1],
                labels=real.labels,
                groups=groups,
            ),
            criteria=selection.criteria,
            keep={label: job.plan.count(label) for label in real.classes},
            seed=job.plan.seed,
        )
    except DataError as error:
        raise DataError(f"{pool.folder}: {error.message}", error.hint) from error


def _compared_image(pool: Job) -> ImageSpec:
    """Return the size and channels in which images are compared: the smallest side, color if a model makes color."""
    images = [model.image for model in pool.sampler.models]
    return ImageSpec(
        size=min(image.size for image in images),
        channels=max(image.channels for image in images),
        classes=pool.labels,
    )


def _facts(selection: PoolSelection, chosen: Selection, *, seconds: float) -> dict[str, Any]:
    """Return what run.json says of a selection."""
    return {
        "criteria": list(selection.criteria),
        "factor": selection.factor,
        "pool": len(chosen.labels),
        "kept": len(chosen.kept),
        "folder": str(selection.pool.folder.resolve()),
        "extractor": selection.extractor.name if selection.extractor is not None else None,
        "near_copy_distance": chosen.threshold,
        "seconds": round(seconds, 3),
        "classes": chosen.summary(),
    }


def _selected(job: Job, images: Sequence[PlannedImage], chosen: Selection, *, facts: dict[str, Any]) -> Job:
    """Return the job whose plan is the kept images."""
    assert job.selection is not None
    assert job.real is not None
    pool = job.selection.pool
    rejected = {
        name: tuple(pool.folder / images[index].file for index in chosen.best_rejected(label, _SHOWN))
        for label, name in enumerate(job.real.classes)
    }
    plan = pool.plan.only(images[index] for index in chosen.kept.tolist())
    return replace(
        job,
        sampler=Sampler(pool.sampler.models, plan, real=job.real),
        shard=(1, 1),
        facts={**job.facts, **facts},
        selection=None,
        rejected=rejected,
    )
