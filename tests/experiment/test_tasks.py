"""Tasks in several processes: none waits forever, and Ctrl-C is for the process that started them."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest
from helpers.pool import Die, WriteSignals

from medzoo.errors import ResourceError
from medzoo.experiment.folds import Fold
from medzoo.experiment.tasks import Task, run_tasks

LARGE = bytes(1 << 20)  # more than a pipe holds
FOLD = Fold(fold=0, repeat=0, train=(), val=(), test=())


def test_run_tasks_in_processes(tmp_path: Path) -> None:
    tasks = [Task(key=str(number), fold=FOLD) for number in range(4)]
    done: list[str] = []
    run_tasks(tasks, WriteSignals(tmp_path, LARGE), jobs=2, on_done=lambda task, failure: done.append(task.key))
    assert sorted(done) == ["0", "1", "2", "3"]
    found = [(tmp_path / task.key).read_text().split() for task in tasks]
    assert {blocked for blocked, _ in found} == {"True"}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not multiprocessing.active_children()


def test_run_tasks_whose_process_dies() -> None:
    tasks = [Task(key=str(number), fold=FOLD) for number in range(4)]
    with pytest.raises(ResourceError, match="a worker process died, possibly out of memory"):
        run_tasks(tasks, Die(LARGE), jobs=2, on_done=lambda *_: None)
    assert not multiprocessing.active_children()
