"""The filling job: draws what its plan lacks, batch by batch, into a folder that is complete once run.json is there."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data import Dataset
from medzoo.files import disk_errors, sha256_file
from medzoo.images import decode
from medzoo.pipelines.claims import claim
from medzoo.pipelines.drawing import Studio
from medzoo.pipelines.plan import Cell, Picture, Plan
from medzoo.pipelines.record import write_metadata, write_sheet
from medzoo.pipelines.writer import PictureWriter, is_there, place_originals, sweep
from medzoo.plugins import Plugins
from medzoo.provenance import RUN, RunRecord, read_run

Watch = Callable[[int, int], None]
"""Told how many pictures of how many are there, first before anything is drawn."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One filling job. `identity` says what makes two jobs the same; `labels` are all classes, in order.

    `originals` names where each real image goes in the folder; empty where they are left out. `sheet` is the contact
    sheet's path, with up to `tiles` images a row; `data` and `facts` go into run.json as they are.
    """

    kind: str
    folder: Path
    plan: Plan
    studio: Studio
    labels: tuple[str, ...]
    identity: Mapping[str, Any]
    plugins: Plugins
    device: str
    originals: tuple[str, ...] = ()
    how: str = "omit"
    sheet: Path | None = None
    tiles: int = 8
    shard: tuple[int, int] = (1, 1)
    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def real(self) -> Dataset | None:
        """The real images, where there are any."""
        return self.studio.real


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class after the job: images there, pictures drawn just now, and the seconds that took."""

    label: str
    real: int
    synthetic: int
    drawn: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job left; `missing` counts the pictures other shards still owe, and only without any is there a record."""

    folder: Path
    sheet: Path | None
    classes: tuple[ClassResult, ...]
    missing: int
    already_done: bool
    how: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One class before the job: images there, pictures to make by generator, and the seconds this run needs."""

    label: str
    real: int
    make: Mapping[str, int]
    there: int
    seconds: float


def forecast(job: Job) -> list[Forecast]:
    """What the job will do, class by class; the time is measured on a few images of each generator that has work."""
    owed: Counter[tuple[int, str]] = Counter()
    there: Counter[str] = Counter()
    for batch in job.plan.batches(job.shard):
        complete = _is_complete(job, batch)
        for picture in batch:
            if complete:
                there[picture.label] += 1
            else:
                owed[picture.generator, picture.label] += 1
    pace = {generator: job.studio.seconds_an_image(generator) for generator in {generator for generator, _ in owed}}
    real = job.real.counts() if job.real is not None else {}
    return [
        Forecast(
            label=label,
            real=real.get(label, 0),
            make={job.plan.names[cell.generator]: cell.count for cell in _cells(job.plan, label)},
            there=there[label],
            seconds=sum(pace[generator] * count for (generator, own), count in owed.items() if own == label),
        )
        for label in job.labels
    ]


def _cells(plan: Plan, label: str) -> list[Cell]:
    return [cell for cell in plan.cells if cell.label == label]


def run(job: Job, *, watch: Watch) -> Outcome:
    """The folder of the finished job; a job that was killed goes on with the batches it lacks.

    Raises:
        DataError: the folder holds another job or other files.
        ResourceError: the disk is full or read-only, or memory ran out; what was written stays good.
    """
    record = RunRecord(job=job.kind, folder=job.folder)
    started = time.time()
    claim(job.folder, job.identity)
    if read_run(job.folder) is not None and not _lacking(job):
        if job.sheet is not None and not job.sheet.exists():
            _draw_sheet(job)
        return _outcome(job, how=job.how, missing=0, already_done=True)
    with disk_errors(job.folder):
        (job.folder / RUN).unlink(missing_ok=True)
    how = job.how
    if job.originals and job.real is not None:
        how = place_originals(job.real, job.originals, job.folder, how=job.how)
    seconds, drawn = _draw_missing(job, watch)
    missing = _lacking(job)
    if not missing:
        sweep(job.folder, before=started)
        _conclude(job, record, how=how, seconds=seconds)
    return _outcome(job, how=how, missing=missing, already_done=False, seconds=seconds, drawn=drawn)


def _draw_missing(job: Job, watch: Watch) -> tuple[dict[str, float], Counter[str]]:
    """Seconds spent and pictures drawn, by class."""
    seconds: defaultdict[str, float] = defaultdict(float)
    drawn: Counter[str] = Counter()
    total = sum(len(batch) for batch in job.plan.batches(job.shard))
    there = 0
    watch(there, total)
    with PictureWriter(waiting=2 * job.plan.batch_size) as writer:
        for batch in job.plan.batches(job.shard):
            if not _is_complete(job, batch):
                started = time.perf_counter()
                # Drawn whole even if only one file is missing: rounding depends on the company in a batch.
                for picture, pixels in zip(batch, job.studio.draw(batch), strict=True):
                    if not is_there(job.folder / picture.file):
                        writer.write(job.folder / picture.file, pixels)
                spent = time.perf_counter() - started
                for picture in batch:
                    seconds[picture.label] += spent / len(batch)
                    drawn[picture.label] += 1
            there += len(batch)
            watch(there, total)
    return dict(seconds), drawn


def _is_complete(job: Job, batch: Sequence[Picture]) -> bool:
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


def _conclude(job: Job, record: RunRecord, *, how: str, seconds: Mapping[str, float]) -> None:
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
    used = {job.plugins.row_of("generator", model.spec.name).name for model in job.studio.models}
    record.plugins = [row for row in job.plugins.rows if row.name in used]
    record.seeds = {"seed": job.plan.seed}
    record.device = job.device
    real = job.real.counts() if job.real is not None else {}
    record.extra = {
        "plan": dict(job.identity),
        "counts": {label: {"real": real.get(label, 0), "synthetic": job.plan.count(label)} for label in job.labels},
        "originals": how,
        "drawing_seconds": round(sum(seconds.values()), 3),
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
    seconds: Mapping[str, float] | None = None,
    drawn: Mapping[str, int] | None = None,
) -> Outcome:
    real = job.real.counts() if job.originals and job.real is not None else {}
    classes = tuple(
        ClassResult(
            label=label,
            real=real.get(label, 0),
            synthetic=job.plan.count(label),
            drawn=(drawn or {}).get(label, 0),
            seconds=(seconds or {}).get(label, 0.0),
        )
        for label in job.labels
    )
    return Outcome(
        folder=job.folder,
        sheet=job.sheet if job.sheet is not None and job.sheet.exists() else None,
        classes=classes,
        missing=missing,
        already_done=already_done,
        how=how,
    )
