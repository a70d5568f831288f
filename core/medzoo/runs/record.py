"""run.json: what was run, on what, with what, and what came of it."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.errors import DataError
from medzoo.plugins.lookup import PluginInfo
from medzoo.storage.files import read_json, sha256_file, write_json_atomic

logger = logging.getLogger(__name__)

RUN = "run.json"
TRAINING_JOBS: Mapping[str, str] = {"generator": "train", "classifier": "classify train"}
"""By kind of model, the name of the job that trains one."""
_LIBRARIES = ("torch", "torchvision", "diffusers", "accelerate", "safetensors", "numpy", "pillow")


def library_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries that results depend on, None for those not installed."""
    return {"python": platform.python_version(), **package_versions(_LIBRARIES)}


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of packages, None for those not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout medzoo runs from, with "-dirty" if files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


@dataclass(kw_only=True)
class RunRecord:
    """The record of one job, filled while it runs; `finish` writes it, and only then is the job's folder complete.

    `config` and `origins` are the resolved settings and where each came from; `seeds`, `scores` and `extra` are the
    job's own. Everything must be plain JSON values.
    """

    job: str
    folder: Path
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))
    config: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    plugins: Sequence[PluginInfo] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    outputs: list[dict[str, str]] = field(default_factory=list)
    scores: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic, repr=False)

    def add_outputs(self, paths: Iterable[Path]) -> None:
        """Record files of the run's folder by relative path and SHA-256."""
        for path in paths:
            self.outputs.append({"file": path.relative_to(self.folder).as_posix(), "sha256": sha256_file(path)})

    def to_dict(self) -> dict[str, Any]:
        """Return the record with the present time as its end."""
        return {
            "job": self.job,
            "command": list(self.command),
            "medzoo": __version__,
            "git_commit": git_commit(),
            "plugins": {row.name: {"distribution": row.distribution, "version": row.version} for row in self.plugins},
            "libraries": library_versions(),
            "config": dict(self.config),
            "origins": dict(self.origins),
            "weights": dict(self.weights),
            "data": dict(self.data),
            "seeds": dict(self.seeds),
            "device": self.device,
            "machine": {"system": platform.platform(), "processor": platform.machine()},
            "started": self.started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 3),
            "outputs": self.outputs,
            "scores": dict(self.scores),
            **self.extra,
        }

    def finish(self) -> Path:
        """Write run.json atomically, as the last step of the job, and return its path. Raises: ResourceError."""
        path = self.folder / RUN
        write_json_atomic(path, self.to_dict())
        return path


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read a finished run's record; None if the folder holds none. Raises: DataError if it is not JSON."""
    path = folder / RUN
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is not a run's record: {error}", "move the folder away") from None
    if not isinstance(record, dict):
        raise DataError(f"{path} is not a run's record", "move the folder away")
    return record


def check_finished(folder: Path, *, editable: Container[str] = ()) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the record of a finished run, and which of the files it lists are missing or not as they were written.

    Of the files `editable`, others may have changed the content. The record is None if there is none, or if it is
    damaged (logged): such a run is to be finished again.
    """
    try:
        record = read_run(folder)
        outputs = [] if record is None else [(str(row["file"]), str(row["sha256"])) for row in record["outputs"]]
    except (DataError, KeyError, TypeError):
        logger.warning(f"{folder / RUN} is damaged; finishing the run again")
        return None, []
    return record, [
        name
        for name, digest in outputs
        if not (folder / name).is_file() or (name not in editable and sha256_file(folder / name) != digest)
    ]
