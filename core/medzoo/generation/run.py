"""The filling job: draws what its plan lacks, batch by batch, into a folder that is complete once run.json is there."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data.images import decode
from medzoo.generation.job import Job
from medzoo.generation.metadata import write_metadata, write_sheet
from medzoo.generation.plan import Picture
from medzoo.generation.remote.consent import Quote, quotes, refuse_upload, spent
from medzoo.generation.remote.requests import Failure, draw_remote, refuse_failures
from medzoo.generation.writer import PictureWriter, is_there, place_originals, sweep
from medzoo.runs.identity import claim
from medzoo.runs.progress import Progress
from medzoo.runs.record import RUN, RunRecord, read_run
from medzoo.storage.files import disk_errors, sha256_file

MODELS = "models"
"""In run.json: each model's folder by the generator's name in metadata.csv."""


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class after the job: images there, pictures drawn just now, and the seconds that took."""

    label: str
    real: int
    synthetic: int
    drawn: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AugmentationResult:
    """What a job left; `missing` counts the pictures other shards still owe, and only without any is there a record.

    `requests` says, for each generator that asked a service, how many it sent and what they cost.
    """

    folder: Path
    sheet: Path | None
    classes: tuple[ClassResult, ...]
    missing: int
    already_done: bool
    how: str
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def run(job: Job, *, progress: Progress) -> AugmentationResult:
    """The folder of the finished job; a job that was killed goes on with the batches it lacks.

    Raises:
        ConfigError: real images would be uploaded, and the job does not allow it.
        DataError: the folder holds another job or other files.
        ResourceError: a service fails or a cap on requests is reached, the disk is full or read-only, memory runs out;
            what was written stays good.
    """
    record = RunRecord(job=job.kind, folder=job.folder)
    started = time.time()
    asked = quotes(job)
    refuse_upload(job, asked)
    claim(job.folder, job.identity)
    if read_run(job.folder) is not None and not _lacking(job):
        if job.sheet is not None and not job.sheet.exists():
            _draw_sheet(job)
        return _outcome(job, how=job.how, missing=0, already_done=True, requests=spent(job.folder, asked))
    with disk_errors(job.folder):
        (job.folder / RUN).unlink(missing_ok=True)
    how = job.how
    if job.originals and job.real is not None:
        how = place_originals(job.real, job.originals, job.folder, how=job.how)
    made = _Made(total=sum(len(batch) for batch in job.plan.batches(job.shard)), progress=progress)
    _draw_batches(job, made, but={quote.name for quote in asked})
    _draw_requests(job, asked, made)
    missing = _lacking(job)
    requests = spent(job.folder, asked)
    if not missing:
        sweep(job.folder, before=started)
        _conclude(job, record, how=how, seconds=made.seconds, requests=requests)
    return _outcome(job, how=how, missing=missing, already_done=False, made=made, requests=requests)


class _Made:
    """What there is of a job, and by class the pictures drawn just now and the seconds that took."""

    def __init__(self, *, total: int, progress: Progress) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.drawn: Counter[str] = Counter()
        self._there, self._total, self._progress = 0, total, progress
        progress(0, total)

    def found(self, count: int) -> None:
        """So many pictures were there before."""
        self._there += count
        self._progress(self._there, self._total)

    def drew(self, pictures: Sequence[Picture], seconds: float) -> None:
        """These pictures were drawn in `seconds`."""
        for picture in pictures:
            self.seconds[picture.label] += seconds / len(pictures)
            self.drawn[picture.label] += 1
        self.found(len(pictures))


def _draw_batches(job: Job, made: _Made, *, but: Set[str]) -> None:
    """Nothing; the pictures of this machine's generators, all `but` those named, are there."""
    with PictureWriter(waiting=2 * job.plan.batch_size) as writer:
        for batch in job.plan.batches(job.shard):
            if batch[0].generator_name in but:
                continue
            if is_complete(job, batch):
                made.found(len(batch))
                continue
            started = time.perf_counter()
            # Drawn whole even if only one file is missing: rounding depends on the company in a batch.
            for picture, pixels in zip(batch, job.studio.draw(batch), strict=True):
                if not is_there(job.folder / picture.file):
                    writer.write(job.folder / picture.file, pixels)
            made.drew(batch, time.perf_counter() - started)


def _draw_requests(job: Job, asked: Sequence[Quote], made: _Made) -> None:
    """Nothing; the pictures of services are there. Raises: as `draw_remote`; ResourceError for those that failed."""
    failures: list[Failure] = []
    for quote in asked:
        made.found(quote.there)
        last = time.perf_counter()

        def done(picture: Picture) -> None:
            nonlocal last
            now = time.perf_counter()
            made.drew([picture], now - last)
            last = now

        failures += draw_remote(job, quote, done=done)
    refuse_failures(failures, of=sum(len(quote.pictures) for quote in asked))


def is_complete(job: Job, batch: Sequence[Picture]) -> bool:
    """Whether all of a batch is there, so that it need not be drawn."""
    return all(is_there(job.folder / picture.file) for picture in batch)


def _lacking(job: Job) -> int:
    """Files that are not there yet, originals included."""
    pictures = sum(not is_there(job.folder / picture.file) for picture in job.plan.pictures())
    return pictures + sum(not is_there(job.folder / name) for name in job.originals)


def _draw_sheet(job: Job) -> None:
    def look(picture: Picture) -> np.ndarray:
        return decode(job.folder / picture.file)

    if job.sheet is not None:
        write_sheet(job.sheet, job.studio, job.labels, look=look, tiles=job.tiles)


def _conclude(
    job: Job, record: RunRecord, *, how: str, seconds: Mapping[str, float], requests: Mapping[str, Mapping[str, Any]]
) -> None:
    """Nothing; the contact sheet, metadata.csv and, last, run.json are there."""
    _draw_sheet(job)
    record.add_outputs([write_metadata(job.folder, job.studio, job.originals)])
    if job.sheet is not None and job.sheet.exists():
        file = os.path.relpath(job.sheet, job.folder)
        record.outputs.append({"file": Path(file).as_posix(), "sha256": sha256_file(job.sheet)})
    config: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for model, name in zip(job.studio.models, job.plan.names, strict=True):
        config |= {f"{name}.{key}": value for key, value in model.config.flat().items()}
        origins |= {f"{name}.{key}": origin for key, origin in model.config.origins.items()}
    record.config, record.origins = config, origins
    weights = ((name, model.weights_sha256) for name, model in zip(job.plan.names, job.studio.models, strict=True))
    record.weights = {name: digest for name, digest in weights if digest is not None}
    folders = ((name, model.folder) for name, model in zip(job.plan.names, job.studio.models, strict=True))
    used = {job.plugins.plugin_of("generator", model.spec.name).name for model in job.studio.models}
    record.plugins = [row for row in job.plugins.infos if row.name in used]
    record.seeds = {"seed": job.plan.seed}
    record.device = job.device
    real = job.real.counts() if job.real is not None else {}
    record.extra = {
        "plan": dict(job.identity),
        MODELS: {name: str(folder.resolve()) for name, folder in folders if folder is not None},
        "counts": {label: {"real": real.get(label, 0), "synthetic": job.plan.count(label)} for label in job.labels},
        "originals": how,
        "drawing_seconds": round(sum(seconds.values()), 3),
        "requests": requests,
        **job.facts,
    }
    record.data = job.data
    record.finish()


def _outcome(
    job: Job,
    *,
    how: str,
    missing: int,
    already_done: bool,
    requests: Mapping[str, Mapping[str, Any]],
    made: _Made | None = None,
) -> AugmentationResult:
    real = job.real.counts() if job.originals and job.real is not None else {}
    classes = tuple(
        ClassResult(
            label=label,
            real=real.get(label, 0),
            synthetic=job.plan.count(label),
            drawn=made.drawn[label] if made else 0,
            seconds=made.seconds[label] if made else 0.0,
        )
        for label in job.labels
    )
    return AugmentationResult(
        folder=job.folder,
        sheet=job.sheet if job.sheet is not None and job.sheet.exists() else None,
        classes=classes,
        missing=missing,
        already_done=already_done,
        how=how,
        requests=requests,
    )
