"""Work for the processes of a pool, which has to be importable there."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from medzoo.experiment.tasks import Task


@dataclass(frozen=True)
class WriteSignals:
    """Write a file of the signals that the process has blocked, and of its id; `payload` makes it large to send."""

    folder: Path
    payload: bytes = b""

    def __call__(self, task: Task) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        (self.folder / task.key).write_text(f"{signal.SIGINT in blocked} {id(self)}")


@dataclass(frozen=True)
class Die:
    """End the process at once, as the system does where memory runs out; `payload` makes it large to send."""

    payload: bytes = b""

    def __call__(self, task: Task) -> None:
        os._exit(1)
