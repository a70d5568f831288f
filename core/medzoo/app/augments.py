"""Requests to augment a folder: the plan and the job, which are those of `medzoo augment`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medzoo.app.generators import DrawableModel
from medzoo.app.jobs import RUNNING, Job, Jobs
from medzoo.app.paths import as_argument, new_folder_path, open_data
from medzoo.errors import ConfigError
from medzoo.generation.selection import check_criteria
from medzoo.storage.files import check_outside, parse_json

AUGMENT, PLAN = "augment", "plan"
"""The kinds of these jobs."""
_MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class AugmentRequest:
    """What to fill: the folders `data` and `out` relative to the served one, and `to` how many images of each class."""

    generator: str
    to: int
    data: str
    out: str
    seed: int = 0
    strength: float | None = None
    select: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Return the arguments of `medzoo` that fill the folder."""
        gen = self.generator if self.strength is None else f"{self.generator}@{self.strength:g}"
        words = ["augment", "--gen", gen, "--to", str(self.to), "--data", self.data, "--out", self.out]
        words += ["--seed", str(self.seed)]
        for criterion in self.select:
            words += ["--select", criterion]
        return words


def start_augmenting(jobs: Jobs, model: DrawableModel, request: AugmentRequest, *, plan: bool = False) -> Job:
    """Start the job that a request describes, or with `plan` its dry run, which estimates the time.

    Raises: ConfigError, UnknownName, DataError for a request that cannot be taken; as `Jobs.start`.
    """
    if not request.data:
        raise ConfigError("no folder of real images is chosen", "choose one")
    if not request.out:
        raise ConfigError("no folder to fill is named", "name a new one")
    if not 1 <= request.to <= _MOST:
        raise ConfigError(f"{request.to} images of each class are too few or too many", f"choose 1 to {_MOST}")
    if request.strength is not None and not model.varies_images:
        raise ConfigError(f"'{model.name}' does not vary real images", "choose strength 1, or another model")
    check_criteria(request.select)
    data, out = open_data(jobs.root, request.data), new_folder_path(jobs.root, request.out)
    check_outside(out, data)
    for beside in out.parent.iterdir() if request.select and out.parent.is_dir() else ():
        if beside.name.startswith(out.name):  # as the pool of --select is called
            new_folder_path(jobs.root, beside.relative_to(jobs.root).as_posix())
    asked = AugmentRequest(
        **{**asdict(request), "data": as_argument(jobs.root, data), "out": as_argument(jobs.root, out)}
    )
    about = {"request": asdict(asked)}
    if plan:
        return jobs.start(PLAN, lambda _: [*asked.command(), "--dry-run", "--json"], about=about)
    return jobs.start(AUGMENT, lambda _: asked.command(), about=about)


def last_to_resume(jobs: Jobs) -> Job | None:
    """Return the last augmentation if it was stopped or failed; None if it is done or running."""
    found = jobs.all(AUGMENT)
    return found[-1] if found and found[-1].state in ("stopped", "failed") else None


def planned(job: Job) -> Mapping[str, Any] | None:
    """Return what a dry run printed; None while it runs, or if it failed."""
    if job.state == RUNNING:
        return None
    try:
        found = parse_json(job.output())
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("classes"), list) else None


def contact_sheet(root: Path, job: Job) -> Path | None:
    """Return the contact sheet of a job that is done; None if there is none, or if it is a link."""
    out = str(dict(job.about.get("request") or {}).get("out", ""))
    sheet = root / f"{out}.contact-sheet.png"
    return sheet if out and job.state == "done" and sheet.is_file() and not sheet.is_symlink() else None
