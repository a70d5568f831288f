"""Progress of long jobs: a live bar on a terminal, else a log line now and then."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

logger = logging.getLogger(__name__)


class Display:
    """A context manager to call with how many of how many are done, the first time before any is.

    What plugins print inside goes to stderr, because stdout is for the result.
    """

    EVERY = 10.0

    def __init__(self, title: str, *, unit: str = "images") -> None:
        self.title = title
        self.unit = unit
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.first = 0
        self.began = self.logged = -1.0
        self.aside = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> Self:
        self.aside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.aside.__exit__(kind, error, trace)
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int, *, note: str = "") -> None:
        """Show `done` of `total`, and a `note` after them."""
        if self.began < 0:
            self._start(done, total)
        pace = (done - self.first) / max(time.monotonic() - self.began, 1e-9)
        note = f"{note}, {pace:.1f} {self.unit}/s" if note else f"{pace:.1f} {self.unit}/s"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, note=note)
        elif time.monotonic() - self.logged >= self.EVERY and pace > 0:
            self.logged = time.monotonic()
            logger.info(f"{self.title}: {done}/{total} {self.unit}, {note}, {duration((total - done) / pace)} left")

    def _start(self, done: int, total: int) -> None:
        self.first, self.began = done, time.monotonic()
        self.logged = self.began
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}  left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(self.title, total=total, completed=done, note="")
        self.bar.start()


class TrainingDisplay(Display):
    """The display of a training run, with loss and learning rate."""

    EVERY = 30.0

    def __init__(self, title: str) -> None:
        super().__init__(title, unit="steps")

    def start(self, step: int, total: int) -> None:
        """Show that training begins after `step` of `total`."""
        if step:
            logger.info(f"resuming from step {step}")
        self(step, total)

    def update(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Show that step `step` of `total` is done with these losses."""
        shown = (("loss", ".4f"), ("adversary", ".4f"), ("learning_rate", ".1e"))
        self(step, total, note=", ".join(f"{name} {values[name]:{form}}" for name, form in shown if name in values))

    def warn(self, message: str) -> None:
        """Say that something looks wrong."""
        logger.warning(message)


class DownloadDisplay:
    """A context manager to call, from any thread, with a model, its file, and how many bytes of how many are there."""

    EVERY = 10.0

    def __init__(self) -> None:
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.logged: dict[str, float] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, model: str, file: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are there."""
        title = f"{model}/{file}"
        with self.lock:
            if sys.stderr.isatty():
                self._show(title, done, total)
            elif time.monotonic() - self.logged.setdefault(title, time.monotonic()) >= self.EVERY:
                self.logged[title] = time.monotonic()
                logger.info(f"{title}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def _show(self, title: str, done: int, total: int) -> None:
        if self.bars is None:
            self.bars = _download_bars()
            self.bars.start()
        if title not in self.tasks:
            self.tasks[title] = self.bars.add_task(title, total=total)
        self.bars.update(self.tasks[title], completed=done)


def _download_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def duration(seconds: float) -> str:
    """Return seconds in words: 0.4 s, 25 s, 3.2 min, 1.5 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
