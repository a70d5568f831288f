"""Progress of long jobs: a live bar on a terminal, else a log line now and then."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

logger = logging.getLogger(__name__)


class ProgressDisplay:
    """A `medzoo.runs.progress.Progress` as a context manager, which shows what it is called with.

    A count that restarts, as for the next file, is shown from its start. What plugins print inside the context
    goes to stderr, because stdout is for the result. With the unit "MB", what is counted are bytes. With the unit "",
    a job has stages: the note begins with what is counted in one, and the time left is that of the stage. The file that
    MEDZOO_PROGRESS_FILE names, if it does, holds the last count as JSON, for the program that started medzoo.
    """

    EVERY = 10.0
    EVERY_IN_FILE = 0.3

    def __init__(self, title: str, *, unit: str = "images") -> None:
        self.title = title
        self.unit = unit
        self.bar: tuple[Progress, TaskID] | None = None
        self.first = self.done = 0
        self.total = -1
        self.began = self.logged = self.written = 0.0
        self.file = Path(given) if (given := os.environ.get("MEDZOO_PROGRESS_FILE")) else None
        self.aside = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> Self:
        self.aside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.aside.__exit__(kind, error, trace)
        if self.bar is not None:
            self.bar[0].stop()

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show `done` of `total`, then the `note`, the pace and the time left."""
        now = time.monotonic()
        if total != self.total or done < self.done:
            self.first, self.total, self.began, self.logged = done, total, now, now
            if sys.stderr.isatty():
                self._show_bar()
        self.done = done
        if self.file is not None and (done in (self.first, total) or now - self.written >= self.EVERY_IN_FILE):
            self.written = now
            self._write(self.file, note)
        pace = (done - self.first) / max(now - self.began, 1e-9)
        amounts = "/".join(f"{amount / 1e6:.1f}" if self.unit == "MB" else str(amount) for amount in (done, total))
        rate = f"{pace / 1e6 if self.unit == 'MB' else pace:.1f} {self.unit}/s"
        text = ", ".join(filter(None, (f"{amounts} {self.unit}", note, rate))) if self.unit else f"{amounts} {note}"
        if self.bar is not None:
            bar, task = self.bar
            bar.update(task, completed=done, text=text)
        elif now - self.logged >= self.EVERY and pace > 0:
            self.logged = now
            where = "" if self.unit else " of this stage"
            logger.info(f"{self.title}: {text}, {duration((total - done) / pace)} left{where}")

    def _write(self, file: Path, note: str) -> None:
        """Write the count to the file, whole at any time; a job does not fail because of it."""
        values = {"title": self.title, "done": self.done, "total": self.total, "unit": self.unit, "note": note}
        temporary = file.with_name(f"{file.name}.part")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(values), "utf-8")
            temporary.replace(file)

    def _show_bar(self) -> None:
        """Show a bar from `first` on, that of the count before if there was one."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self.bar is None:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}  left")
            bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self.bar = bar, bar.add_task(self.title, text="")
            bar.start()
        bar, task = self.bar
        bar.reset(task, total=self.total, completed=self.first)


def duration(seconds: float) -> str:
    """Return seconds in words: 0.4 s, 25 s, 3.2 min, 1.5 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
