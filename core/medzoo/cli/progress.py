"""How jobs that draw images show where they are: a live bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from medzoo.cli.output import notice

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class DrawingDisplay:
    """A context; called with how many images of how many are there, the first time before any is drawn."""

    EVERY = 10.0

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.first = 0
        self.began = self.told = -1.0

    def __enter__(self) -> DrawingDisplay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self.began < 0:
            self._start(done, total)
        pace = (done - self.first) / max(time.monotonic() - self.began, 1e-9)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, pace=pace)
        elif time.monotonic() - self.told >= self.EVERY and pace > 0:
            self.told = time.monotonic()
            left = duration((total - done) / pace)
            notice(f"{self.title}: {done}/{total} images, {pace:.1f} images/s, {left} left")

    def _start(self, done: int, total: int) -> None:
        self.first, self.began = done, time.monotonic()
        self.told = self.began
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]:.1f} images/s  left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(self.title, total=total, completed=done, pace=0.0)
        self.bar.start()


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 25 s, 3.2 min, 1.5 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
