"""Augment an imbalanced image set: add synthetic images to every class up to a target count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset, describe_blank
from medzoo.data.reading import Reading
from medzoo.data.windows import FILE
from medzoo.errors import ConfigError, DataError
from medzoo.generation.label_sets import label_sets, missing_images
from medzoo.generation.mixture import Mixture, Source, check_classes, lineage, load_mixture, open_signer
from medzoo.generation.plan import check_folders, check_format
from medzoo.generation.pool import FeatureExtractor, PoolSelection, pool_folder, run_selected
from medzoo.generation.run import AugmentationResult, Job
from medzoo.generation.run import run as run_job
from medzoo.generation.sampler import Sampler
from medzoo.generation.selection import AGREEMENT, check_criteria, needs_features, pool_counts
from medzoo.generation.writer import ORIGINALS, listing_digest, original_files, sheet_beside
from medzoo.models.labels import check_labels
from medzoo.runs.identity import check_same_run
from medzoo.runs.progress import Progress
from medzoo.storage.files import check_outside

logger = logging.getLogger(__name__)

POOL_FACTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many images a run adds: `counts` by class; `target` is the number of images that each class should have."""

    target: int
    counts: Mapping[str, int]


def prepare(
    generators: Sequence[str],
    source: Source,
    *,
    target: int | Callable[[Mixture, Dataset], Amounts],
    data: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    batch_size: int = 32,
    originals: str = "link",
    shard: tuple[int, int] = (1, 1),
    classes: tuple[str, ...] | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Reading = Reading(),
    allow_leak: bool = False,
    allow_upload: bool = False,
    criteria: Sequence[str] = (),
    pool: float | None = None,
    find_extractor: Callable[[Sequence[str]], FeatureExtractor] | None = None,
    policy: Mapping[str, Any] | None = None,
    format: str = "png",
    c2pa: tuple[Path, Path] | None = None,
) -> Job:
    """Load the models (GEN or GEN=SHARE), check everything and return the run; nothing is written yet.

    Each class is filled up to `target` images, or gets what `target` returns for the models and the real images.
    `originals` is "link" (hard links, or copies where links are impossible), "copy" or "omit". `shard` (k, n) runs
    every n-th batch from the k-th. `classes` names an npz's labels. `allow_upload` permits sending real images to
    services. With `criteria` (`selection.CRITERIA`), `pool` times as many images as are missing are drawn, and selected
    by features of the extractor that `find_extractor` returns for the data's classes. `policy` is kept in run.json, and
    a run resumes another one only with the same.

    Synthetic images are written as `format`, "png" or "dicom", and PNGs are signed with `c2pa`, a certificate chain and
    its key; real images stay as they are.

    Where images have several labels, `target` counts all images, and sets of labels are filled in proportion
    (`label_sets.missing_images`); the job's classes are then those sets, the most frequent first.

    Raises:
        ConfigError, UnknownName: an invalid option, generator, criterion or setting.
        DataError: images that cannot be read, classes a model does not know, held-out images it was trained on.
        HubError: weights that are not available or damaged.
    """
    if batch_size < 1 or (isinstance(target, int) and target < 1):
        given = f"--to {target} or " if isinstance(target, int) else ""
        raise ConfigError(f"{given}--batch-size {batch_size} is too small", "use at least 1")
    if originals not in ORIGINALS:
        raise ConfigError(f"--originals cannot take '{originals}'", f"it takes {', '.join(ORIGINALS)}")
    check_format(format)
    criteria = check_criteria(criteria)
    if pool is not None and not criteria:
        raise ConfigError("--pool draws more images than are kept, without --select", "give --select agreement")
    mixture, real = load_mixture(
        generators,
        source,
        data=data,
        always_open=True,
        classes=classes,
        skip_bad=skip_bad,
        masks=masks,
        multi_label=True,
        reading=reading,
    )
    assert real is not None  # as `always_open` asks
    check_labels(real.classes)
    _check_formats(mixture, real, originals=originals)
    if real.multi_label and (criteria or not isinstance(target, int)):
        option = "--select" if criteria else "--policy"
        raise ConfigError(f"{option} takes one label per image, but the data has several", "leave it out")
    counts, sets = real.counts(), label_sets(real, unlabeled=True)
    if isinstance(target, int):
        wanted: Mapping[str, int] = missing_images(real, target)
    else:
        amounts = target(mixture, real)
        target, wanted = amounts.target, amounts.counts
    check_classes(mixture, real, [label for label, count in wanted.items() if count])
    check_folders(sets.classes)
    sampler = mixture.sampler(wanted, real=sets, batch_size=batch_size, seed=seed, format=format)
    _log_warnings(mixture, real, target=target, wanted=wanted)
    signer = open_signer(c2pa, mixture, format=format)
    if format == "dicom" and originals != "omit":
        logger.info("real images keep their formats and all that their files say; --originals omit leaves them out")
    if not sampler.plan.total and originals == "omit":
        whole = f"there are {len(real)} images" if real.multi_label else f"every class has at least {target} images"
        raise ConfigError(f"{whole} and --originals omit leaves none to write")
    folder = out or Path("-".join(["augmented", *mixture.names, str(target), *criteria]))
    if real.files is not None:
        check_outside(folder, real.path)
    identity = {
        "job": "augment",
        "medzoo": __version__,
        "to": target,
        "seed": seed,
        "batch_size": batch_size,
        "originals": originals,
        "device": source.device.partition(":")[0],
        "data": {"counts": counts, "fingerprint": real.fingerprint(), "listing": listing_digest(sets)},
        # The fingerprint is of what files store.
        **({"window": real.window or FILE} if real.has_volumes else {}),
        "generators": mixture.describe(),
        **({} if policy is None else {"policy": dict(policy)}),
        **({} if format == "png" else {"format": format}),
        **({} if signer is None else {"c2pa": signer.fingerprint}),
    }
    job = Job(
        folder=folder,
        sampler=sampler,
        labels=_by_frequency(sets) if real.multi_label else real.classes,
        multi_label=real.multi_label,
        identity=identity,
        plugins=source.plugins,
        device=source.device,
        originals=() if originals == "omit" else tuple(original_files(sets, how=originals)),
        how=originals,
        sheet=sheet_beside(folder),
        shard=shard,
        allow_upload=allow_upload,
        signer=signer,
        cluster=source.cluster,
        data={
            "path": str(real.path),
            "fingerprint": real.fingerprint(),
            "counts": counts,
            "held_out": {part: images.counts() for part, images in real.held_out.items()},
            "summary": real.summary().to_dict(),
        },
        facts={
            "lineage": {"allow_leak": allow_leak, "models": lineage(mixture, real, allow_leak=allow_leak)},
            "left_out": [list(entry) for entry in real.bad],
            **({} if policy is None else {"policy": dict(policy)}),
        },
    )
    if criteria:
        factor = POOL_FACTOR if pool is None else pool
        counts = pool_counts(wanted, factor)
        extractor = None
        if find_extractor is not None and needs_features(criteria):
            extractor = find_extractor(real.classes)
            _check_extractor(extractor, real, criteria, allow_leak=allow_leak)
        sampler = mixture.sampler(counts, real=real, batch_size=batch_size, seed=seed, format=format)
        job = _with_pool(job, sampler, factor=factor, criteria=criteria, extractor=extractor)
    check_same_run(job.folder, job.identity)
    return job


def _by_frequency(sets: Dataset) -> tuple[str, ...]:
    """Return sets of labels, the most frequent first."""
    counts = sets.counts()
    return tuple(sorted(counts, key=lambda label: -counts[label]))


def run(job: Job, *, progress: Progress) -> AugmentationResult:
    """Run what `prepare` returned. Raises: as `generation.run.run`; DataError where too few images are selected."""
    return run_job(job, progress=progress) if job.selection is None else run_selected(job, progress=progress)


def _with_pool(
    job: Job, sampler: Sampler, *, factor: float, criteria: tuple[str, ...], extractor: FeatureExtractor | None
) -> Job:
    """Return the job with the one before it that draws the pool of `sampler`.

    The pool's identity says nothing of its size, nor of the selection: a larger pool continues it.
    """
    of_images = {key: job.identity[key] for key in ("medzoo", "seed", "batch_size", "device", "data", "generators")}
    of_images |= {key: job.identity[key] for key in ("format", "c2pa") if key in job.identity}
    pool = replace(
        job,
        folder=pool_folder(job.folder),
        sampler=sampler,
        identity={"job": "pool", **of_images},
        originals=(),
        how="omit",
        sheet=None,
    )
    check_same_run(pool.folder, pool.identity)
    chosen: dict[str, Any] = {"criteria": list(criteria), "pool": factor, "extractor": None}
    if extractor is not None:
        chosen["extractor"] = {"name": extractor.name, "identity": extractor.identity}
    selection = PoolSelection(pool=pool, factor=factor, criteria=criteria, extractor=extractor)
    return replace(
        job,
        identity={**job.identity, "select": chosen},
        # Without an image to draw there is nothing to select.
        selection=selection if sampler.plan.total else None,
    )


def _check_extractor(extractor: FeatureExtractor, real: Dataset, criteria: Sequence[str], *, allow_leak: bool) -> None:
    """Raise DataError if the extractor was trained on held-out images; log if it was on the real ones."""
    for part, images in real.held_out.items():
        count = sum(digest in extractor.trained_on for digest in images.fingerprints())
        if count and not allow_leak:
            raise DataError(
                f"'{extractor.name}' was trained on {count} of the {len(images)} {part} images of {real.path}, so a "
                "selection by its features would not be valid for a result measured on them",
                "use another --extractor, such as efficientnet-lite0, or --allow-leak, which is recorded",
            )
    seen = sum(digest in extractor.trained_on for digest in real.fingerprints())
    if seen and AGREEMENT in criteria:
        logger.warning(
            f"'{extractor.name}' was trained on {seen} of the {len(real)} real images, so its features know their "
            "labels, and agreement is less strict than it seems; --extractor efficientnet-lite0 knows none"
        )


def _check_formats(mixture: Mixture, real: Dataset, *, originals: str) -> None:
    """Raise DataError if gray and color images would stand side by side in a class; log if 8 and 16 bits will."""
    if originals == "omit":
        return
    # A generator without weights follows the real images, unless the user chose.
    for model in (each for each in mixture.models if each.weights_sha256 is not None):
        if real.channels == 3 and model.image.channels == 1 and originals != "gray":
            raise DataError(
                f"{real.path} is in color, but '{model.name}' makes grayscale images: a class would hold both",
                "use a model trained in color; --originals gray writes the real images in gray",
            )
        if model.image.channels == 3 and (originals == "gray" or all(header.gray for header in real.headers)):
            raise DataError(
                f"the real images are gray, but '{model.name}' makes images in color: a class would hold both",
                "use a model trained in gray; --originals omit writes the synthetic images alone",
            )
    if real.highest is not None and originals != "gray":
        logger.warning(
            f"{real.path}: real images keep their 16 bits beside synthetic ones of 8; --originals gray writes 8 bits"
        )


def _log_warnings(mixture: Mixture, real: Dataset, *, target: int, wanted: Mapping[str, int]) -> None:
    """Log what a reader of the plan might miss."""
    counts = real.counts() if not real.multi_label else {"the whole set": len(real)}
    if blank := real.blank():
        logger.warning(f"{real.path}: {describe_blank(blank)}")
    above = [f"{label} has {count}" for label, count in counts.items() if count > target and not wanted.get(label)]
    if real.multi_label:
        logger.info(f"images have several labels: --to {target} counts all images, filled in proportion to label sets")
    if above:
        logger.info(f"above --to {target}, so nothing is added or deleted: {', '.join(above)}")
    for label, count in counts.items():
        if not count:
            logger.warning(f"class '{label}' has no real images: all {wanted[label]} will be synthetic")
    unseen = sorted({name for model in mixture.models for name in model.image.classes} - set(real.classes))
    if unseen:
        logger.warning(f"known to the model but not in the data, so not sampled: {', '.join(unseen)}")
    for part, images in real.held_out.items():
        logger.info(f"the {len(images)} {part} images are held out: they stay where they are and are not augmented")
