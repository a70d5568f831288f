"""Work for the processes of a pool, which has to be importable there."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from medzoo.distributed.workers import Work


@dataclass(frozen=True)
class WriteSignals(Work[str, None]):
    """Write a file of the signals that the process has blocked, and of its id; `payload` makes it large to send."""

    folder: Path
    payload: bytes = b""

    def __call__(self, name: str) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        (self.folder / name).write_text(f"{signal.SIGINT in blocked} {id(self)}")


@dataclass(frozen=True)
class Die(Work[str, None]):
    """End the process at once, as the system does where memory runs out; `payload` makes it large to send."""

    payload: bytes = b""

    def __call__(self, name: str) -> None:
        os._exit(1)
