"""Do items of work one by one in this process, or several at once in others: of this machine or of a Ray cluster.

This is the one place at which batches of images, cells of experiments and policies of a tuning are handed out.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from medzoo.errors import ConfigError, ResourceError
from medzoo.runs.interrupts import without_interrupts

ADDRESS = re.compile(r"local|auto|(?:ray://)?(?P<host>[^\s/:]+|\[[^\s/]+\]):(?P<port>\d+)")
"""Addresses of Ray clusters."""

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster to work on, at `address`: "local" (started here), "auto", "ray://host:port" or "host:port".

    Each task gets `gpus_per_task` GPUs, or a fraction of one. With `shared_out`, every node sees the folder of the
    results under the same path and writes there; without, results come back to this process, which writes them.
    """

    address: str
    gpus_per_task: float = 0.0
    shared_out: bool = False

    def __post_init__(self) -> None:
        if not ADDRESS.fullmatch(self.address):
            raise ConfigError(
                f"--ray '{self.address}' is not the address of a Ray cluster",
                "write --ray local, auto, ray://HOST:10001 or HOST:6379",
            )
        if not (0 <= self.gpus_per_task <= 1 or (math.isfinite(self.gpus_per_task) and self.gpus_per_task % 1 == 0)):
            raise ConfigError(
                f"--gpus-per-task {self.gpus_per_task:g} is neither a fraction of a GPU nor a number of GPUs",
                "write --gpus-per-task 0.5, 1 or 2",
            )
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("--ray needs Ray, which is not installed", "pip install 'medzoo[ray]'")


class Work(Protocol[T_contra, R_co]):
    """What is done with an item. It is sent to each other process once, and keeps there what it loads.

    Its paths, and those that it names below, are those of this machine; on another one they stand for copies. `ahead`
    is how many items a process on a cluster is given before the first is done, so that it need not wait for more.
    """

    ahead: ClassVar[int] = 0

    def __call__(self, item: T_contra, /) -> R_co:
        """Do one item."""

    def inputs(self) -> Iterable[Path]:
        """Return the files, and folders of files, that are read for any item."""
        return ()

    def needs(self, item: T_contra, /) -> Iterable[Path]:
        """Return the folders that earlier items have written and this one reads."""
        return ()

    def output(self, item: T_contra, /) -> Path | None:
        """Return the folder that an item writes; None if all that comes of it is what the call returns."""
        return None


class Workers(Protocol[T, R_co]):
    """Who does the work."""

    def run(self, take: Callable[[], T | None], done: Callable[[T, R_co], None]) -> None:
        """Do the items that `take` returns, and call `done` with each and its result, in the order they end.

        `take` returns None while no item can be begun; the end is when none is at work either.
        Raises: what the work raises; ResourceError if the processes die.
        """


@contextmanager
def open_workers(
    work: Work[T, R], *, jobs: int = 1, cluster: Cluster | None = None, folder: Path | None = None
) -> Iterator[Workers[T, R]]:
    """Yield workers that keep what `work` has loaded from one run to the next.

    With several `jobs`, these are processes that share the processor's cores. Results depend on their number only as
    much as on that of threads, by the rounding of sums. On a `cluster`, items use as many threads as here, and `folder`
    is that of the results.

    Raises:
        ConfigError: `jobs` is below 1; Ray is not installed.
        ResourceError: a process died; the cluster cannot be used.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "use 1 or more")
    if cluster is not None:
        from medzoo.distributed.ray_cluster import open_ray_workers

        with open_ray_workers(work, cluster, threads=_threads(jobs), folder=folder) as found:
            yield found
    elif jobs == 1:
        yield _ThisProcess(work)
    else:
        with _processes(work, jobs) as pool:
            yield pool


def _threads(jobs: int) -> int:
    """Return how many threads one of `jobs` processes uses on this machine."""
    import torch

    return torch.get_num_threads() if jobs == 1 else min(max(1, _cores() // jobs), torch.get_num_threads())


class _ThisProcess(Workers[T, R]):
    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work

    def run(self, take: Callable[[], T | None], done: Callable[[T, R], None]) -> None:
        while (item := take()) is not None:
            done(item, self._work(item))


class _Pool(Workers[T, R]):
    def __init__(self, pool: ProcessPoolExecutor, work: Callable[[T], R], jobs: int) -> None:
        self._pool, self._work, self._jobs = pool, work, jobs

    def run(self, take: Callable[[], T | None], done: Callable[[T, R], None]) -> None:
        running: dict[Future[R], T] = {}
        while True:
            while len(running) < self._jobs and (item := take()) is not None:
                with without_interrupts():
                    running[self._pool.submit(_call_in_process, self._work, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done(running.pop(future), future.result())


@contextmanager
def _processes(work: Callable[[T], R], jobs: int) -> Iterator[_Pool[T, R]]:
    pool = ProcessPoolExecutor(
        max_workers=jobs,
        # A forked process would inherit torch's threads and locks in whatever state they are.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        # Small, because starting a process waits until it has read them, forever if it dies before that.
        initargs=(max(1, _cores() // jobs),),
    )
    with pool:
        try:
            yield _Pool(pool, work, jobs)
        except BrokenProcessPool as error:
            raise ResourceError(
                "a worker process died, possibly out of memory",
                "run the same command with fewer --jobs; finished work is kept",
            ) from error
        except BaseException:
            # Waiting for the others would take as long as their tasks do; checkpoints let them resume another time.
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_work: list[Callable[[Any], Any]] = []  # of this process of a pool: it keeps what it has loaded from item to item


def _start_process(threads: int) -> None:
    """Prepare a process of the pool."""
    import torch

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(min(threads, torch.get_num_threads()))


def _exit_with_parent() -> NoReturn:
    """End this process when its parent ends; it would wait for work forever if the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by the pool
    connection.wait([parent.sentinel])
    os._exit(1)


def _call_in_process(work: Callable[[T], R], item: T) -> R:
    if not _work:
        _work.append(work)
    result: R = _work[0](item)
    return result
