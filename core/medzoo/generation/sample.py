"""Draw images of chosen classes from one generator, into a folder, onto a grid, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.job import Job
from medzoo.generation.metadata import listing_digest, write_sheet
from medzoo.generation.mixture import Mixture, Source, find_data, load_mixture
from medzoo.generation.plan import Picture, Plan, make_plan
from medzoo.generation.sampler import Studio, refuse_without_sources
from medzoo.models.labels import check_labels, join_labels
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.identity import refuse_other
from medzoo.runs.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which generator, which classes (all of them if empty), how many images of each, and where they go.

    Each image is of one class, but a multi-label model's are of all the `labels` together where there are any. Without
    `out` and `grid` they go into ./samples-<generator>. `data` is for generators that vary real images, and
    `allow_upload` lets those images leave this machine.
    """

    generator: str
    labels: tuple[str, ...] = ()
    count: int = 16
    out: Path | None = None
    grid: Path | None = None
    data: Path | None = None
    seed: int = 0
    batch_size: int = 32
    allow_upload: bool = False

    @property
    def only_grid(self) -> bool:
        """Whether the images are wanted on the grid alone."""
        return self.out is None and self.grid is not None


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Sampled images: the folder and the grid they are in, each None where it was not asked for.

    `counts` is the number of images by class. `requests` says, for each generator that asked a service, how many
    requests it sent and what they cost. `already_done` is true if the folder was complete before.
    """

    folder: Path | None
    grid: Path | None
    counts: Mapping[str, int]
    seed: int
    device: str
    already_done: bool = False
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def prepare(request: Request, source: Source) -> Job:
    """The job that `request` means, its model loaded; nothing is written yet.

    Raises:
        UnknownName, ConfigError: an unknown generator, class or setting.
        DataError: no or unreadable real images for a generator that needs them.
        HubError: weights that cannot be had or are damaged.
    """
    if request.count < 1 or request.batch_size < 1:
        raise ConfigError(f"--n {request.count}, --batch-size {request.batch_size}", "both count from 1")

    if request.grid is not None and request.grid.suffix.lower() != ".png":
        raise ConfigError(f"--grid {request.grid} does not end in .png", "the grid is a PNG: --grid grid.png")

    mixture, real = load_alone(request.generator, source, data=request.data)
    labels = labels_to_draw(request.labels, mixture.models[0])
    counts = dict.fromkeys(labels, request.count)
    plan = plan_alone(mixture, real, counts, batch_size=request.batch_size, seed=request.seed)
    job = _job(request, source, mixture, real, plan, labels)
    if not request.only_grid:
        refuse_other(job.folder, job.identity)
    return job


def load_alone(generator: str, source: Source, *, data: Path | None) -> tuple[Mixture, Dataset | None]:
    """One generator, as a mixture of itself alone, and the real images where it varies some.

    Raises: UnknownName, ConfigError, DataError, HubError.
    """

    def open_real(lead: LoadedModel[Generator] | None) -> Dataset | None:
        if lead is None or lead.needs_init_images:
            return find_data(data, lead, classes=None, skip_bad=False)
        if data is not None:
            raise ConfigError(f"'{generator}' varies no real images", "leave --data out")
        return None

    return load_mixture((generator,), source, open_real=open_real)


def labels_to_draw(wanted: Sequence[str], model: LoadedModel[Generator]) -> tuple[str, ...]:
    """The labels that `wanted` class names mean: themselves, or for a multi-label model the one that joins them.

    Every class of the model where none is wanted. Raises: UnknownName; DataError for what cannot be a folder's name.
    """
    classes = model.image.classes
    for label in wanted:
        if label not in classes:
            raise UnknownName("class", label, classes, f"(the classes of '{model.name}')")
    check_labels(wanted or classes)
    if wanted and model.image.multi_label:
        return (join_labels([name for name in classes if name in wanted]),)
    return tuple(dict.fromkeys(wanted)) or classes


def plan_alone(
    mixture: Mixture, real: Dataset | None, counts: Mapping[str, int], *, batch_size: int, seed: int
) -> Plan:
    """The plan by which one generator draws so many pictures of each label, in the labels' order.

    Raises: DataError for a generator that varies real images of a class without any.
    """
    plan = make_plan(counts, names=mixture.names, shares=mixture.shares, batch_size=batch_size, seed=seed)
    refuse_without_sources(mixture.models, plan, real)
    return plan


def draw_grid(job: Job, path: Path, *, progress: Progress) -> None:
    """Nothing; the job's pictures are drawn onto a grid at `path` and kept nowhere else. Raises: ResourceError."""
    drawn: dict[Picture, np.ndarray] = {}
    progress(0, job.plan.total)
    for batch in job.plan.batches():
        drawn.update(zip(batch, job.studio.draw(batch), strict=True))
        progress(len(drawn), job.plan.total)

    def look(picture: Picture) -> np.ndarray:
        pixels = drawn[picture]
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else pixels[0]

    write_sheet(path, job.studio, job.labels, look=look, tiles=job.tiles)


def _job(
    request: Request, source: Source, mixture: Mixture, real: Dataset | None, plan: Plan, labels: tuple[str, ...]
) -> Job:
    identity: Mapping[str, object] = {
        "job": "sample",
        "medzoo": __version__,
        "n": request.count,
        "labels": list(labels),
        "seed": request.seed,
        "batch_size": request.batch_size,
        "device": source.device.partition(":")[0],
        "data": {"fingerprint": real.fingerprint(), "listing": listing_digest(real)} if real is not None else None,
        "generators": mixture.describe(),
    }
    return Job(
        kind="sample",
        folder=request.out or Path(f"samples-{mixture.names[0]}"),
        plan=plan,
        studio=Studio(mixture.models, plan, real=real),
        labels=labels,
        identity=identity,
        plugins=source.plugins,
        device=source.device,
        sheet=request.grid,
        tiles=request.count,
        allow_upload=request.allow_upload,
        data={"path": str(real.path), "fingerprint": real.fingerprint()} if real is not None else {},
    )
