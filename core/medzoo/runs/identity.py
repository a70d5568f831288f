"""The identity of a run: written to its folder first, so that the same job can resume and another is rejected."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medzoo.config import renamed
from medzoo.errors import DataError
from medzoo.storage.files import check_empty, make_folder, read_json, write_json_atomic

logger = logging.getLogger(__name__)

# Hidden, so that readers of image folders skip them.
PLAN = ".medzoo-plan.json"
LOCK = ".medzoo-lock"

# Settings that a folder may lack, and the value that is the same as none.
NEUTRAL: Mapping[str, Any] = {
    ".sampling.strength": 1.0,
    ".sampling.remove_pattern": 1,
    ".sampling.spectrum_gain": [],
    ".sampling.guidance_interval": [],
    ".image.window": "",
    ".diffusion.sigma_data": 0.5,
    ".diffusion.timestep_sampling": "uniform",
    ".diffusion.noise_mean": -1.2,
    ".diffusion.noise_std": 1.2,
    ".loss.snr_gamma": 0.0,
    ".augmentation.probability": 0.0,
}


@contextmanager
def exclusive_run(folder: Path) -> Iterator[None]:
    """Keep other processes that do the job of `folder` waiting, as long as the disk has locks. Raises: ResourceError.

    The lock is in the folder, because those who share it need not share a cache. It ends with the process.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(make_folder(folder) / LOCK)
    try:
        lock.acquire(timeout=1.0)
    except Timeout:
        logger.info(f"waiting for another process that writes to {folder}")
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # a finished folder may be on a read-only disk
        logger.debug(f"{folder} cannot be locked: {error}")
    try:
        yield
    finally:
        lock.release()


def lock_run_dir(folder: Path, identity: Mapping[str, Any]) -> None:
    """Record in `folder` that it belongs to the job that `identity` describes.

    Raises: as `check_same_run`; ResourceError.
    """
    check_same_run(folder, identity)
    if not (folder / PLAN).is_file():
        make_folder(folder)
        write_json_atomic(folder / PLAN, identity)


def check_same_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise DataError if `folder` belongs to another job than `identity` describes, or holds other files."""
    path = folder / PLAN
    try:
        # Checked before the plan, because another shard may write its plan and first pictures between the two.
        check_empty(folder)
    except DataError:
        if not path.is_file():
            raise
    if not path.is_file():
        return
    ours = _flat(json.loads(json.dumps(identity)))
    try:
        theirs = _flat(read_json(path))
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a job's plan: {error}", "choose another --out") from error
    for key in theirs:
        if new := renamed(key, ours):
            raise DataError(
                f"{folder} was started with an earlier version of medzoo: its {key} was renamed to {new}",
                "choose another --out, or finish it with that version",
            )
    for key in differing(ours, theirs):
        its, own = _short(theirs.get(key)), _short(ours.get(key))
        raise DataError(
            f"{folder} holds another job: its {key} is {its}, this one's is {own}",
            "choose another --out, or repeat the first command to resume that job",
        )


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted keys whose values differ, one that `theirs` lacks in `NEUTRAL` being as it says there."""
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        if ours.get(key) != theirs.get(key, _neutral(key)):
            yield key


def without_neutral(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is as in `NEUTRAL`, so that what is made of the rest is as before medzoo had those settings."""
    missing = object()
    return {key: value for key, value in settings.items() if _neutral(key, missing) != _plain(value)}


def _neutral(key: str, otherwise: object = None) -> object:
    return next((value for end, value in NEUTRAL.items() if f".{key}".endswith(end)), otherwise)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _short(value: object) -> str:
    """Shorten a value for a message: the start of a hash distinguishes it from another."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
