"""Augment an imbalanced image set: add synthetic images to every class up to a target count."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.generation.mixture import Mixture, Source, check_classes, lineage, load_mixture
from medzoo.generation.real_images import find_data
from medzoo.generation.run import Job
from medzoo.generation.sampler import Sampler
from medzoo.generation.writer import ORIGINALS, listing_digest, original_files, sheet_beside
from medzoo.models.labels import check_labels
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.identity import check_same_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AugmentRequest:
    """Which images to augment, to what count, with which generators (GEN or GEN=SHARE).

    `originals` is "link" (hard links, or copies where links are impossible), "copy" or "omit". `shard` (k, n) runs
    every n-th batch from the k-th. `classes` names an npz's labels. `allow_upload` permits sending real images to
    services.
    """

    generators: tuple[str, ...]
    target: int
    data: Path | None = None
    out: Path | None = None
    seed: int = 0
    batch_size: int = 32
    originals: str = "link"
    shard: tuple[int, int] = (1, 1)
    classes: tuple[str, ...] | None = None
    skip_bad: bool = False
    allow_leak: bool = False
    allow_upload: bool = False


def prepare(request: AugmentRequest, source: Source) -> Job:
    """Load the models, check everything and return the run that `request` asks for; nothing is written yet.

    Raises:
        ConfigError, UnknownName: an invalid option, generator or setting.
        DataError: images that cannot be read, classes a model does not know, held-out images it was trained on.
        HubError: weights that are not available or damaged.
    """
    if request.target < 1 or request.batch_size < 1:
        raise ConfigError(f"--to {request.target} or --batch-size {request.batch_size} is too small", "use at least 1")
    if request.originals not in ORIGINALS:
        raise ConfigError(f"--originals cannot take '{request.originals}'", f"it takes {', '.join(ORIGINALS)}")

    def open_real(lead: LoadedModel[Generator] | None) -> Dataset:
        return find_data(request.data, lead, classes=request.classes, skip_bad=request.skip_bad)

    mixture, real = load_mixture(request.generators, source, open_real=open_real)
    assert real is not None  # find_data gives images or raises
    check_labels(real.classes)
    wanted = {label: max(0, request.target - count) for label, count in real.counts().items()}
    check_classes(mixture, real, [label for label, count in wanted.items() if count])
    sampler = mixture.sampler(wanted, real=real, batch_size=request.batch_size, seed=request.seed)
    _log_warnings(request, mixture, real)
    if not sampler.plan.total and request.originals == "omit":
        raise ConfigError(f"every class has at least {request.target} images and --originals omit leaves none to write")
    folder = request.out or Path(f"augmented-{'-'.join(mixture.names)}-{request.target}")
    _check_outside(folder, real)
    job = _job(request, source, mixture, real, sampler, folder)
    check_same_run(job.folder, job.identity)
    return job


def _job(
    request: AugmentRequest, source: Source, mixture: Mixture, real: Dataset, sampler: Sampler, folder: Path
) -> Job:
    leaks = lineage(mixture, real, allow_leak=request.allow_leak)
    return Job(
        kind="augment",
        folder=folder,
        sampler=sampler,
        labels=real.classes,
        identity=_identity(request, source, mixture, real),
        plugins=source.plugins,
        device=source.device,
        originals=() if request.originals == "omit" else tuple(original_files(real)),
        how=request.originals,
        sheet=sheet_beside(folder),
        shard=request.shard,
        allow_upload=request.allow_upload,
        data={
            "path": str(real.path),
            "fingerprint": real.fingerprint(),
            "counts": real.counts(),
            "held_out": {part: images.counts() for part, images in real.held_out.items()},
        },
        facts={
            "lineage": {"allow_leak": request.allow_leak, "models": leaks},
            "left_out": [list(entry) for entry in real.bad],
        },
    )


def _log_warnings(request: AugmentRequest, mixture: Mixture, real: Dataset) -> None:
    """Log what a reader of the plan might miss."""
    counts = real.counts()
    above = [f"{label} has {count}" for label, count in counts.items() if count > request.target]
    if above:
        logger.info(f"above --to {request.target}, so nothing is added or deleted: {', '.join(above)}")
    for label, count in counts.items():
        if not count:
            logger.warning(f"class '{label}' has no real images: all {request.target} will be synthetic")
    unseen = sorted({name for model in mixture.models for name in model.image.classes} - set(real.classes))
    if unseen:
        logger.warning(f"known to the model but not in the data, so not sampled: {', '.join(unseen)}")
    for part, images in real.held_out.items():
        logger.info(f"the {len(images)} {part} images are held out: they stay where they are and are not augmented")


def _check_outside(folder: Path, real: Dataset) -> None:
    """Raise DataError if `folder` is in the folder of the real images."""
    home, out = real.path.resolve(), folder.resolve()
    if real.files is not None and real.path.is_dir() and (out == home or home in out.parents):
        raise DataError(f"{folder} is inside the data folder {real.path}", "choose another --out")


def _identity(request: AugmentRequest, source: Source, mixture: Mixture, real: Dataset) -> Mapping[str, Any]:
    """Return what two runs must have in common for one to resume the other."""
    return {
        "job": "augment",
        "medzoo": __version__,
        "to": request.target,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "originals": request.originals,
        "device": source.device.partition(":")[0],
        "data": {
            "counts": real.counts(),
            "fingerprint": real.fingerprint(),
            "listing": listing_digest(real),
        },
        "generators": mixture.describe(),
    }
