"""Sample images of chosen classes from one generator into a folder, onto a grid, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medzoo._version import __version__
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.mixture import Source, check_classes, load_mixture, open_signer
from medzoo.generation.plan import PlannedImage, check_format
from medzoo.generation.run import Job
from medzoo.generation.writer import listing_digest, write_sheet
from medzoo.models.labels import check_labels, join_labels
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.runs.identity import check_same_run
from medzoo.runs.progress import Progress
from medzoo.storage.files import check_outside


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Sampled images: the folder and the grid they are in, each None where it was not asked for.

    `counts` is the number of images by class. `requests` says, for each generator that asked a service, how many
    requests it sent and what they cost, and `data` what the real images' path was taken for. `already_done` is true
    if the folder was complete before.
    """

    folder: Path | None
    grid: Path | None
    counts: Mapping[str, int]
    seed: int
    device: str
    already_done: bool = False
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    generator: str,
    source: Source,
    *,
    labels: Sequence[str] = (),
    count: int = 16,
    out: Path | None = None,
    grid: Path | None = None,
    data: Path | None = None,
    masks: str = "ignore",
    reading: Reading = Reading(),
    seed: int = 0,
    batch_size: int = 32,
    allow_upload: bool = False,
    format: str = "png",
    c2pa: tuple[Path, Path] | None = None,
) -> Job:
    """Load the model, check everything and return the run; nothing is written yet.

    A multi-label model shows all `labels` together on each image. Without `out` and `grid`, images go into
    ./samples-<generator>. `data` is for generators that vary real images, and `allow_upload` permits sending those to
    services. Images are written as `format`, "png" or "dicom", and PNGs are signed with `c2pa`, a certificate chain
    and its key.

    Raises:
        UnknownName, ConfigError: an unknown generator, class or setting.
        DataError: no or unreadable real images for a generator that needs them.
        HubError: weights that are not available or damaged.
    """
    if count < 1 or batch_size < 1:
        raise ConfigError(f"--n {count} or --batch-size {batch_size} is too small", "use at least 1")
    check_format(format)
    if grid is not None and grid.suffix.lower() != ".png":
        raise ConfigError(f"--grid {grid} does not end in .png", "the grid is a PNG: --grid grid.png")
    mixture, real = load_mixture((generator,), source, data=data, always_open=False, masks=masks, reading=reading)
    folder = out or Path(f"samples-{mixture.names[0]}")
    for written in filter(None, (folder if out is not None or grid is None else None, grid)):
        check_outside(written, real.path if real is not None and real.files is not None else None)
    if real is not None and not labels:
        check_classes(mixture, real, [label for label, count in real.counts().items() if count])
    labels = labels_to_sample(labels, mixture.models[0])
    signer = open_signer(c2pa, mixture, format=format)
    identity = {
        "job": "sample",
        "medzoo": __version__,
        "n": count,
        "labels": list(labels),
        "seed": seed,
        "batch_size": batch_size,
        "device": source.device.partition(":")[0],
        "data": {"fingerprint": real.fingerprint(), "listing": listing_digest(real)} if real is not None else None,
        "generators": mixture.describe(),
        **({} if format == "png" else {"format": format}),
        **({} if signer is None else {"c2pa": signer.fingerprint}),
    }
    job = Job(
        folder=folder,
        sampler=mixture.sampler(
            dict.fromkeys(labels, count), real=real, batch_size=batch_size, seed=seed, format=format
        ),
        labels=labels,
        identity=identity,
        plugins=source.plugins,
        device=source.device,
        sheet=grid,
        tiles=count,
        allow_upload=allow_upload,
        signer=signer,
        data={"path": str(real.path), "fingerprint": real.fingerprint(), "summary": real.summary().to_dict()}
        if real is not None
        else {},
    )
    if out is not None or grid is None:  # otherwise, the grid is all that is written
        check_same_run(job.folder, job.identity)
    return job


def labels_to_sample(wanted: Sequence[str], model: LoadedModel[Generator]) -> tuple[str, ...]:
    """Return the labels to sample: `wanted` classes, or every class; of a multi-label model, one label that joins them.

    Raises: UnknownName; DataError for a class name that cannot be a folder's name.
    """
    classes = model.image.classes
    for label in wanted:
        if label not in classes:
            raise UnknownName("class", label, classes, f"(the classes of '{model.name}')")
    check_labels(wanted or classes)
    if wanted and model.image.multi_label:
        return (join_labels([name for name in classes if name in wanted]),)
    return tuple(dict.fromkeys(wanted)) or classes


def sample_grid(job: Job, path: Path, *, progress: Progress) -> None:
    """Sample the job's images onto a grid at `path` and nowhere else. Raises: ResourceError."""
    pixels = dict(zip(job.plan.images(), job.sampler.sample_all(progress=progress), strict=True))

    def look(image: PlannedImage) -> np.ndarray:
        own = pixels[image]
        return np.ascontiguousarray(own.transpose(1, 2, 0)) if len(own) == 3 else own[0]

    write_sheet(path, job.sampler, job.labels, look=look, tiles=job.tiles)
