"""Run a plan into a folder: sample what is missing batch by batch; run.json, written last, marks it complete."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medzoo.data.content_credentials import ManifestSigner
from medzoo.data.dataset import Dataset
from medzoo.data.images import decode
from medzoo.data.marks import is_marked, with_mark
from medzoo.data.metadata import METADATA
from medzoo.distributed.workers import Cluster, Work, open_workers
from medzoo.errors import ResourceError
from medzoo.generation.batches import BatchWork, Drawn, RemoteBatchWork
from medzoo.generation.plan import PNG, Plan, PlannedImage, label_folder
from medzoo.generation.remote.consent import RequestPlan, check_upload, plan_requests, request_summary
from medzoo.generation.remote.requests import sample_remote
from medzoo.generation.sampler import Sampler
from medzoo.generation.writer import (
    ImageWriter,
    is_damaged_image,
    is_damaged_original,
    is_written,
    place_originals,
    recorded_hashes,
    write_metadata,
    write_sheet,
)
from medzoo.plugins.lookup import Plugins
from medzoo.runs.identity import lock_run_dir
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, RunRecord, check_finished
from medzoo.storage.files import disk_errors, remove_partial_files, sha256_file, write_file

if TYPE_CHECKING:
    from medzoo.generation.pool import PoolSelection

logger = logging.getLogger(__name__)

MODELS = "models"
"""In run.json: each model's folder by the generator's name in metadata.csv."""

SOURCES = "source_fingerprints"
"""In run.json: the fingerprint of each real image that was varied, by its name in metadata.csv."""


_SETS_SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that writes sampled images to `folder`.

    `identity` decides whether a run may resume another one; its "job" is that of run.json. `labels` are all classes in
    order; with `multi_label`, sets of them, of which the sheet shows the first. `originals` are the files in the folder
    that hold the real images, or empty to leave them out, and `how` is "link", "copy", "gray" or "omit". `sheet` is the
    path of the contact sheet, with up to `tiles` images a row. `data` and `facts` are added to run.json. `allow_upload`
    permits sending real images to the services of remote generators. `signer` signs PNGs. Images are sampled in this
    process, or on a `cluster`.
    With `selection`, a larger pool is drawn and the images are selected from it (`generation.pool.run_selected`); the
    sheet then shows `rejected` ones, by label.
    """

    folder: Path
    sampler: Sampler
    labels: tuple[str, ...]
    identity: Mapping[str, Any]
    plugins: Plugins
    device: str
    multi_label: bool = False
    originals: tuple[str, ...] = ()
    how: str = "omit"
    sheet: Path | None = None
    tiles: int = 8
    shard: tuple[int, int] = (1, 1)
    allow_upload: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    selection: PoolSelection | None = None
    rejected: Mapping[str, Sequence[Path]] | None = None
    signer: ManifestSigner | None = None
    cluster: Cluster | None = None

    @property
    def plan(self) -> Plan:
        """What is sampled."""
        return self.sampler.plan

    @property
    def real(self) -> Dataset | None:
        """The real images, if there are any."""
        return self.sampler.real

    def requests(self) -> list[RequestPlan]:
        """Plan the requests to the services of remote generators. Raises: DataError on a damaged ledger."""
        if self.selection is not None:
            return self.selection.pool.requests()
        return plan_requests(self.sampler, self.folder, self.shard, damaged=self.damaged)

    @cached_property
    def damaged(self) -> Set[str]:
        """The files in the folder that are not as they were written, originals included.

        They are compared with metadata.csv in a finished folder, at about 600 MB/s. Before, checksums inside the images
        tell, and originals are compared with the files they are from.
        """
        hashes = recorded_hashes(self.folder)
        sources = dict(zip(self.originals, self._sources(), strict=True))
        return {
            *(
                image.file
                for image in self.plan.images()
                if is_damaged_image(self.folder / image.file, hashes.get(image.file))
            ),
            *(
                name
                for name, source in sources.items()
                if is_damaged_original(self.folder / name, hashes.get(name), source)
            ),
        }

    def _sources(self) -> list[Path | None]:
        """Return the file that each original is a link to or a copy of; None for those encoded anew."""
        if self.real is None or self.how == "gray":
            return [None] * len(self.originals)
        return [self.real.file(index) for index in range(len(self.originals))]

    def remove_damaged(self) -> None:
        """Remove the damaged files, with a warning, so that they count as missing."""
        for name in self.damaged:
            with disk_errors(self.folder), suppress(FileNotFoundError):
                (self.folder / name).unlink()
        if self.damaged:
            many = f"{len(self.damaged)} files are" if len(self.damaged) > 1 else "1 file is"
            logger.warning(f"{self.folder}: {many} damaged, such as {min(self.damaged)}; writing what is damaged again")
        self.__dict__["damaged"] = frozenset()

    def mark_images(self) -> None:
        """Mark the PNGs in the folder that an earlier version of medzoo wrote, so that all are marked."""
        marked = 0
        for image in self.plan.images() if self.plan.suffix == PNG else ():
            path, mark = self.folder / image.file, self.sampler.mark(image)
            if is_written(path) and not is_marked(data := path.read_bytes(), mark):
                write_file(path, with_mark(data, mark))
                marked += 1
        if marked:
            many = f"{marked} images" if marked > 1 else "1 image"
            logger.warning(
                f"{self.folder}: {many} of an earlier version of medzoo had no mark; marked as synthetic now"
            )

    def warn_if_unmarked(self) -> None:
        """Log a warning for a finished folder of an earlier version, whose files are left as they are."""
        image = next((image for image in self.plan.images() if is_written(self.folder / image.file)), None)
        if (
            image is not None
            and image.suffix == PNG
            and not is_marked((self.folder / image.file).read_bytes(), self.sampler.mark(image))
        ):
            logger.warning(
                f"{self.folder} was finished by an earlier version of medzoo: its images are not marked as synthetic; "
                "another --out has the same images marked"
            )

    def has(self, name: str) -> bool:
        """Return whether a file is in the folder, undamaged."""
        return is_written(self.folder / name) and name not in self.damaged

    def written(self) -> Set[str]:
        """Return the files of images that are in the folder, undamaged.

        They are listed and not looked up one by one: beside threads that write, each look waits for the interpreter.
        """
        found: set[str] = set()
        for folder in {label_folder(cell.label) for cell in self.plan.cells}:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder / folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # a link to nothing, or removed meanwhile
                        if entry.stat().st_size > 0:
                            found.add(f"{folder}/{entry.name}")
        return found - self.damaged

    def missing(self) -> int:
        """Count the files that are not in the folder yet, originals included; of the pool, where one is drawn."""
        if self.selection is not None:
            return self.selection.pool.missing()
        written = self.written()
        images = sum(image.file not in written for image in self.plan.images())
        return images + sum(not self.has(name) for name in self.originals)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One class before a run: real images, images to sample by generator, those already `there`, seconds needed."""

    label: str
    real: int
    make: Mapping[str, int]
    there: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class after a run: its real and synthetic images, how many were sampled by this run, and in what time."""

    label: str
    real: int
    synthetic: int
    drawn: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AugmentationResult:
    """The result of a run. `missing` counts the images that other shards still owe; run.json is written at 0.

    `requests` maps each remote generator to the number of its requests and their cost. `selection` is what run.json
    says of images that were selected from a pool: `pool` and `folder`, the counts by class, and how; {} where they were
    not, or while other shards owe images of the pool.
    """

    folder: Path
    sheet: Path | None
    classes: tuple[ClassResult, ...]
    missing: int
    already_done: bool
    how: str
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)


def forecast(job: Job) -> list[Forecast]:
    """Forecast a run class by class; the time is measured on a few images of each generator that has work.

    Of a run that selects its images, this is the pool. No request is sent to a service, so the time of remote
    generators is not included, nor is that of a cluster.
    """
    if job.selection is not None:
        job = job.selection.pool
    owed: Counter[tuple[int, str]] = Counter()
    there: Counter[str] = Counter()
    remote, written = {request.name for request in job.requests()}, job.written()
    for batch in job.plan.batches(job.shard):
        complete = all(image.file in written for image in batch)
        for image in batch:
            if complete or (image.generator_name in remote and image.file in written):
                there[image.label] += 1
            else:
                owed[image.generator, image.label] += 1
    pace = {
        generator: 0.0
        if job.plan.names[generator] in remote or job.cluster is not None
        else job.sampler.seconds_per_image(generator)
        for generator in {generator for generator, _ in owed}
    }
    real = job.real.counts() if job.real is not None else {}
    return [
        Forecast(
            label=label,
            real=real.get(label, 0),
            make={job.plan.names[cell.generator]: cell.count for cell in job.plan.cells if cell.label == label},
            there=there[label],
            seconds=sum(pace[generator] * count for (generator, own), count in owed.items() if own == label),
        )
        for label in job.labels
    ]


def run(job: Job, *, progress: Progress) -> AugmentationResult:
    """Complete the job's folder. A run that was killed resumes with the batches that are missing.

    Damaged files are made again, in a finished folder too.

    Raises:
        ConfigError: real images would be uploaded, and the job does not allow it.
        DataError: the folder holds another run or other files.
        ResourceError: a service fails or a cap on requests is reached, the disk is full or read-only, out of memory;
            the files written so far stay valid.
    """
    record = RunRecord(job=str(job.identity["job"]), folder=job.folder)
    remote = job.requests()
    check_upload(remote, allow_upload=job.allow_upload)
    lock_run_dir(job.folder, job.identity)
    remove_partial_files(job.folder, deep=True)
    job.remove_damaged()
    finished, lost = check_finished(job.folder)
    already_done = finished is not None and METADATA not in lost and not job.missing()
    drawn: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    how, missing = job.how, 0
    if already_done:
        job.warn_if_unmarked()
        if job.sheet is not None and (lost or not job.sheet.exists()):
            _write_sheet(job)
    else:
        with disk_errors(job.folder):
            (job.folder / RUN).unlink(missing_ok=True)
        job.mark_images()
        if job.originals and job.real is not None:
            how = place_originals(job.real, job.originals, job.folder, how=job.how)
        there, total = 0, sum(len(batch) for batch in job.plan.batches(job.shard))
        progress(0, total)

        def count(images: Sequence[PlannedImage], took: float | None = None) -> None:
            """Count images that were there before, or that this run sampled in `took` seconds."""
            nonlocal there
            if took is not None:
                for image in images:
                    drawn[image.label] += 1
                    seconds[image.label] += took / len(images)
            there += len(images)
            progress(there, total)

        _sample_local(job, count, skip={request.name for request in remote})
        _sample_remote(remote, count)
        missing = job.missing()
    requests = request_summary(job.folder, remote)
    if not (already_done or missing):
        remove_partial_files(job.folder, deep=True)
        _finish(job, record, how=how, seconds=sum(seconds.values()), requests=requests)
    real = job.real.counts() if job.originals and job.real is not None else {}
    return AugmentationResult(
        folder=job.folder,
        sheet=job.sheet if job.sheet is not None and job.sheet.exists() else None,
        classes=tuple(
            ClassResult(
                label=label,
                real=real.get(label, 0),
                synthetic=job.plan.count(label),
                drawn=drawn[label],
                seconds=seconds[label],
            )
            for label in job.labels
        ),
        missing=missing,
        already_done=already_done,
        how=how,
        requests=requests,
    )


class _Count(Protocol):
    def __call__(self, images: Sequence[PlannedImage], took: float | None = None) -> None: ...


def _sample_local(job: Job, count: _Count, *, skip: Set[str]) -> None:
    """Write the missing images of all generators but those in `skip`, here or on a cluster."""
    batches, written = job.plan.batches(job.shard), job.written()

    def take() -> list[PlannedImage] | None:
        for batch in batches:
            if batch[0].generator_name in skip:
                continue
            if not all(image.file in written for image in batch):
                return batch
            count(batch)
        return None

    first = take()
    if first is None:  # so that no cluster is asked for nothing
        return
    todo = itertools.chain([first], iter(take, None))

    def write(batch: list[PlannedImage], drawn: Drawn) -> None:
        # The whole batch even if only one file is missing: rounding depends on the batch.
        for image, made in zip(batch, drawn.images, strict=True):
            if made is not None and image.file not in written:
                is_marked_file = isinstance(made, bytes) and job.signer is None
                writer.write(job.folder / image.file, made, None if is_marked_file else job.sampler.mark(image))
        count(batch, drawn.seconds)

    work: Work[list[PlannedImage], Drawn] = BatchWork(job.sampler)
    if job.cluster is not None:
        # A key that signs stays on this machine, so it writes what is signed.
        shared = job.folder.absolute() if job.cluster.shared_out and job.signer is None else None
        work = RemoteBatchWork.of(job.sampler, device=job.device, folder=shared)
    with (
        ImageWriter(max_pending=2 * job.plan.batch_size, signer=job.signer) as writer,
        open_workers(work, cluster=job.cluster, folder=job.folder) as workers,
    ):
        workers.run(lambda: next(todo, None), write)


def _sample_remote(remote: Sequence[RequestPlan], count: _Count) -> None:
    """Write the images of services. Raises: as `sample_remote`; ResourceError naming the images that failed."""
    failures: list[tuple[str, str]] = []
    for request in remote:
        count(request.there)
        last = time.perf_counter()

        def done(image: PlannedImage) -> None:
            nonlocal last
            now = time.perf_counter()
            count([image], now - last)
            last = now

        failures += sample_remote(request, done=done)
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for name, reason in failures:
        by_reason[reason].append(name)
    if failures:
        raise ResourceError(
            f"{len(failures)} of {sum(len(request.images) for request in remote)} images could not be made: "
            + "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()),
            "the others are in the folder; run the same command again to request the missing ones only",
        )


def _write_sheet(job: Job) -> None:
    if job.sheet is not None:
        remove_partial_files(job.sheet.parent, of=job.sheet)
        write_sheet(
            job.sheet,
            job.sampler,
            job.labels[:_SETS_SHOWN] if job.multi_label else job.labels,
            look=lambda image: decode(job.folder / image.file),
            tiles=job.tiles,
            rejected=job.rejected,
        )


def _sources(job: Job) -> dict[str, dict[str, str]]:
    """Return what run.json says of the real images that were varied: two data sets may use the same names."""
    varied = {source for image in job.plan.images() if (source := job.sampler.source(image)) is not None}
    if job.real is None or not varied:
        return {}
    digests = job.real.fingerprints()
    return {SOURCES: {job.real.names[index]: digests[index] for index in sorted(varied)}}


def _finish(
    job: Job, record: RunRecord, *, how: str, seconds: float, requests: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the contact sheet, metadata.csv and, last, run.json."""
    _write_sheet(job)
    record.add_outputs([write_metadata(job.folder, job.sampler, job.originals, multi_label=job.multi_label)])
    if job.sheet is not None and job.sheet.exists():
        file = os.path.relpath(job.sheet, job.folder)
        record.outputs.append({"file": Path(file).as_posix(), "sha256": sha256_file(job.sheet)})
    models = dict(zip(job.plan.names, job.sampler.models, strict=True))
    config: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, model in models.items():
        config |= {f"{name}.{key}": value for key, value in model.config.flat().items()}
        origins |= {f"{name}.{key}": origin for key, origin in model.config.origins.items()}
    record.config, record.origins = config, origins
    record.weights = {name: model.weights_sha256 for name, model in models.items() if model.weights_sha256 is not None}
    used = {job.plugins.plugin_of("generator", model.spec.name).name for model in job.sampler.models}
    record.plugins = [row for row in job.plugins.infos if row.name in used]
    record.seeds = {"seed": job.plan.seed}
    record.device = job.device
    real = job.real.counts() if job.real is not None else {}
    record.extra = {
        "plan": dict(job.identity),
        MODELS: {name: str(model.folder.resolve()) for name, model in models.items() if model.folder is not None},
        "counts": {label: {"real": real.get(label, 0), "synthetic": job.plan.count(label)} for label in job.labels},
        "originals": how,
        "drawing_seconds": round(seconds, 3),
        **_sources(job),
        "requests": requests,
        **job.facts,
    }
    record.data = job.data
    record.finish()
