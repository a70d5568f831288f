"""Fill every class of an imbalanced image set up to a target count; nothing that exists is deleted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.generation.job import Job
from medzoo.generation.metadata import listing_digest, sheet_beside
from medzoo.generation.mixture import (
    Mixture,
    Source,
    find_data,
    lineage,
    load_mixture,
    refuse_unknown_classes,
)
from medzoo.generation.plan import Plan, make_plan
from medzoo.generation.sampler import Studio, refuse_without_sources
from medzoo.generation.writer import ORIGINALS, original_files
from medzoo.models.labels import check_labels
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.identity import refuse_other

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to fill, to what count, with which generators (GEN or GEN=SHARE).

    `originals`: "link" (hard links, copies where they cannot be), "copy" or "omit". `shard` (k, n) does every n-th
    batch from the k-th. `classes` names an npz's numbers. `allow_upload` lets real images leave this machine.
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


def prepare(request: Request, source: Source) -> Job:
    """The job that `request` means, with models loaded and everything checked; nothing is written yet.

    Raises:
        ConfigError, UnknownName: an option, generator or setting that cannot be taken.
        DataError: images that cannot be read, classes a model does not know, held-out images it was trained on.
        HubError: weights that cannot be had or are damaged.
    """
    if request.target < 1 or request.batch_size < 1:
        raise ConfigError(f"--to {request.target}, --batch-size {request.batch_size}", "both count from 1")
    if request.originals not in ORIGINALS:
        raise ConfigError(f"--originals cannot take '{request.originals}'", f"it takes {', '.join(ORIGINALS)}")

    def open_real(lead: LoadedModel[Generator] | None) -> Dataset:
        return find_data(request.data, lead, classes=request.classes, skip_bad=request.skip_bad)

    mixture, real = load_mixture(request.generators, source, open_real=open_real)
    assert real is not None  # find_data gives images or raises
    check_labels(real.classes)
    plan = make_plan(
        {label: max(0, request.target - count) for label, count in real.counts().items()},
        names=mixture.names,
        shares=mixture.shares,
        batch_size=request.batch_size,
        seed=request.seed,
    )
    refuse_unknown_classes(mixture, real, [label for label in real.classes if plan.count(label)])
    refuse_without_sources(mixture.models, plan, real)
    _tell_oddities(request, mixture, real, plan)
    folder = request.out or Path(f"augmented-{'-'.join(mixture.names)}-{request.target}")
    _refuse_inside(folder, real)
    job = _job(request, source, mixture, real, plan, folder)
    refuse_other(job.folder, job.identity)
    return job


def _job(request: Request, source: Source, mixture: Mixture, real: Dataset, plan: Plan, folder: Path) -> Job:
    leaks = lineage(mixture, real, allow_leak=request.allow_leak)
    return Job(
        kind="augment",
        folder=folder,
        plan=plan,
        studio=Studio(mixture.models, plan, real=real),
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


def _tell_oddities(request: Request, mixture: Mixture, real: Dataset, plan: Plan) -> None:
    """Notices of what a reader of the plan might miss. Raises: ConfigError if there is nothing to do at all."""
    counts = real.counts()
    above = [f"{label} has {count}" for label, count in counts.items() if count > request.target]
    if above:
        logger.info(f"above --to {request.target}, so nothing is made and nothing deleted: {', '.join(above)}")
    for label, count in counts.items():
        if not count:
            logger.warning(f"class '{label}' has no real image at all: all {request.target} will be synthetic")
    unseen = sorted({name for model in mixture.models for name in model.image.classes} - set(real.classes))
    if unseen:
        logger.warning(f"known to the model but absent from the data, so not made: {', '.join(unseen)}")
    for part, images in real.held_out.items():
        logger.info(
            f"the {len(images)} {part} images are held out: they stay where they are and get no synthetic company"
        )
    if not plan.total and request.originals == "omit":
        raise ConfigError(f"every class has at least {request.target} images and --originals omit leaves none to write")


def _refuse_inside(folder: Path, real: Dataset) -> None:
    home, out = real.path.resolve(), folder.resolve()
    if real.files is not None and real.path.is_dir() and (out == home or home in out.parents):
        raise DataError(f"{folder} lies in the data folder {real.path}", "choose an --out elsewhere")


def _identity(request: Request, source: Source, mixture: Mixture, real: Dataset) -> Mapping[str, Any]:
    """What makes two jobs the same, so that either may go on with the other's pictures."""
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
