"""Jobs of the workbench: a command of medzoo in a process of its own, one at a time, whose state is on disk.

A job goes on when the tab is closed and when the server ends; another server of the same folder shows it. While it
runs, its process holds the lock `STATE/lock`, so no number of a process that ended is ever taken for a running job.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medzoo.app.paths import STATE
from medzoo.errors import ConfigError, ResourceError
from medzoo.storage.files import disk_errors, make_folder, read_json, write_json_atomic

try:
    import fcntl
except ImportError:  # Windows, which `server.serve` refuses
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
"""Whether this system has the file locks that jobs need."""

JOB, RESULT, PROGRESS, OUTPUT, LOG = "job.json", "result.json", "progress.json", "output.txt", "log.txt"
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"

_INTERRUPTED = 130
_PATIENCE = 10.0  # seconds after which a second stop kills
_TAIL = 6000  # bytes of a log that are shown
_LAST = 60
_ID = re.compile(r"\d{6}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job: its `command` without "medzoo", what it is `about`, and how far it is.

    `state` is one of "running", "done", "failed" and "stopped"; a stopped job can be resumed, as its process may also
    have died. `done` and `total` count what `title` names; `total` is 0 before anything was counted. `messages` are the
    last lines of its log. `seconds` is its run time, of the last run where it was resumed.
    """

    id: str
    folder: Path
    kind: str
    command: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    state: str
    exit_code: int | None = None
    title: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    seconds: float = 0.0
    messages: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The command line, for a shell."""
        return shlex.join(["medzoo", *self.command])

    @property
    def seconds_left(self) -> float | None:
        """The time left in seconds by the pace so far; None before anything was done."""
        if self.state != RUNNING or not self.done:
            return None
        return self.seconds * (self.total - self.done) / self.done

    def output(self) -> str:
        """Return what the command printed to stdout."""
        try:
            return (self.folder / OUTPUT).read_text("utf-8", errors="replace")
        except OSError:
            return ""


class Jobs:
    """The jobs of the folder `root`, oldest first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = make_folder(root / STATE / "jobs")
        self._current = root / STATE / "current.json"
        self._lock_file = root / STATE / "lock"
        self._starting = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self, kind: str, command: Callable[[str], Sequence[str]], *, about: Mapping[str, Any] | None = None
    ) -> Job:
        """Start a command in the folder `root` and return its job.

        `command` is called with the job's own folder, relative to `root`, and returns the arguments of `medzoo`.
        Raises: ResourceError if another job is running, or the disk is full or read-only.
        """
        with self._starting:
            lock = self._lock(patience=0.3)
            try:
                number = max((int(name) for name in self._ids()), default=0) + 1
                folder = make_folder(self.folder / f"{number:06d}")
                values = {
                    "kind": kind,
                    "command": list(command(folder.relative_to(self.root).as_posix())),
                    "about": dict(about or {}),
                }
                write_json_atomic(folder / JOB, values)
                self._run(folder, lock)
            finally:
                os.close(lock)
        return self.find(folder.name)

    def resume(self, job_id: str) -> Job:
        """Start the command of a job that is not done again, which resumes it. Raises: as `start`; ConfigError."""
        job = self.find(job_id)
        if job.state in (RUNNING, DONE):
            raise ConfigError(f"job {job.id} is {job.state}", "only stopped and failed jobs can be resumed")
        with self._starting:
            lock = self._lock(patience=0.3)
            try:
                self._run(job.folder, lock)
            finally:
                os.close(lock)
        return self.find(job.id)

    def stop(self, job_id: str) -> None:
        """Interrupt a job as Ctrl-C does, or kill it where that was ten seconds ago; it can be resumed.

        Raises: ConfigError if there is no such job. A job that is not running is left alone.
        """
        job = self.find(job_id)
        current = self._running()
        if job.state != RUNNING or current is None or current["job"] != job.id:
            return
        asked = job.folder / "stop"
        hard = asked.exists() and time.time() - asked.stat().st_mtime > _PATIENCE
        with disk_errors(asked):
            if not asked.exists():
                asked.touch()
        try:
            os.killpg(int(current["pid"]), signal.SIGKILL if hard else signal.SIGINT)
        except ProcessLookupError:  # it has just ended
            return

    def running(self) -> Job | None:
        """Return the job that is running, None if there is none."""
        current = self._running()
        return self.find(current["job"]) if current is not None else None

    def all(self, kind: str = "") -> list[Job]:
        """Return the last 60 jobs, or those of one `kind` among them."""
        current = self._running()
        found = [self._read(name, current) for name in self._ids()[-_LAST:]]
        return [job for job in found if job is not None and kind in ("", job.kind)]

    def find(self, job_id: str) -> Job:
        """Return a job. Raises: ConfigError if there is none of this id."""
        job = self._read(job_id, self._running()) if _ID.fullmatch(job_id) else None
        if job is None:
            raise ConfigError(f"there is no job '{job_id}'", "reload the page")
        return job

    def _ids(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if _ID.fullmatch(path.name))

    def _lock(self, *, patience: float = 0.0) -> int:
        """Return a descriptor that holds the lock of running jobs. Raises: ResourceError.

        Other servers of the folder hold the lock for a moment to see whether it is free, hence the `patience`, seconds.
        """
        with disk_errors(self._lock_file):
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                message = "another job is running, and jobs run one at a time"
                hint = "wait until it is done, or stop it"
            except OSError as error:
                message = f"{self._lock_file} cannot be locked: {error.strerror}"
                hint = "serve a folder of a disk that has file locks"
            os.close(descriptor)
            raise ResourceError(message, hint)

    def _run(self, folder: Path, lock: int) -> None:
        """Start the process of a job; the lock goes to it, and ends with it."""
        for name in (RESULT, PROGRESS, "stop"):
            (folder / name).unlink(missing_ok=True)
        environment = {
            **os.environ,
            "MEDZOO_PROGRESS_FILE": str(folder / PROGRESS),
            "PYTHONUNBUFFERED": "1",
        }
        with disk_errors(folder), (folder / OUTPUT).open("wb") as output, (folder / LOG).open("ab") as log:
            self._child = subprocess.Popen(
                # -P: the served folder is not a place of Python modules.
                [sys.executable, "-P", "-m", "medzoo.app.worker", str(folder)],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # a Ctrl-C in the server's terminal is not for the job
            )
        write_json_atomic(self._current, {"job": folder.name, "pid": self._child.pid, "started": time.time()})

    def _running(self) -> dict[str, Any] | None:
        """Return what `current.json` says of the job whose process holds the lock, None if none does."""
        with self._starting:  # else the lock may be the server's own for a moment
            if self._child is not None and self._child.poll() is not None:
                self._child = None
            try:
                os.close(self._lock())
            except ResourceError:
                found = _mapping(self._current)
                return found if {"job", "pid", "started"} <= found.keys() else None
        return None

    def _read(self, job_id: str, current: Mapping[str, Any] | None) -> Job | None:
        folder = self.folder / job_id
        values, result, counted = (_mapping(folder / name) for name in (JOB, RESULT, PROGRESS))
        if not isinstance(values.get("command"), list):
            return None
        running = current is not None and current["job"] == job_id
        code = result.get("exit_code")
        if running:
            state, seconds = RUNNING, time.time() - float(current["started"]) if current else 0.0
        else:
            # Without a result, the process was killed, or the machine went down.
            state = DONE if code == 0 else STOPPED if code in (None, _INTERRUPTED) else FAILED
            seconds = float(result.get("seconds", 0.0))
        return Job(
            id=job_id,
            folder=folder,
            kind=str(values.get("kind", "")),
            command=tuple(map(str, values["command"])),
            about=values.get("about") or {},
            state=state,
            exit_code=code,
            title=str(counted.get("title", "")),
            done=int(counted.get("done", 0)),
            total=int(counted.get("total", 0)),
            note=str(counted.get("note", "")),
            seconds=seconds,
            messages=_tail(folder / LOG),
        )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tail(path: Path) -> tuple[str, ...]:
    """Return the last lines of a log, each whole."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    lines = text.splitlines()
    return tuple(lines[1:] if size > _TAIL else lines)[-20:]
