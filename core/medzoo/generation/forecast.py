"""What a filling job will do, told before it does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from medzoo.generation.job import Job
from medzoo.generation.plan import Cell, Plan
from medzoo.generation.remote.consent import quotes
from medzoo.generation.run import is_complete
from medzoo.generation.writer import is_there


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One class before the job: images there, pictures to make by generator, and the seconds this run needs."""

    label: str
    real: int
    make: Mapping[str, int]
    there: int
    seconds: float


def forecast(job: Job) -> list[Forecast]:
    """What the job will do, class by class; the time is measured on a few images of each generator that has work.

    Generators whose images come from a service are asked for none, so their time is left out.
    """
    owed: Counter[tuple[int, str]] = Counter()
    there: Counter[str] = Counter()
    asked = {quote.name for quote in quotes(job)}
    for batch in job.plan.batches(job.shard):
        complete = is_complete(job, batch)
        for picture in batch:
            if complete or (picture.generator_name in asked and is_there(job.folder / picture.file)):
                there[picture.label] += 1
            else:
                owed[picture.generator, picture.label] += 1
    pace = {
        generator: 0.0 if job.plan.names[generator] in asked else job.studio.seconds_an_image(generator)
        for generator in {generator for generator, _ in owed}
    }
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
