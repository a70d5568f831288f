"""Do work on the nodes of a Ray cluster: one actor for each task that fits on a node, started again where it dies.

Ray's own retries are off, because they are endless where memory runs out: an item whose process dies is given to
another one a few times, and then the run ends with an error.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medzoo import errors
from medzoo._version import __version__
from medzoo.distributed.node import PROBE, pack, read_files
from medzoo.distributed.workers import ADDRESS, Cluster, R, T, Work, Workers
from medzoo.errors import MedzooError, ResourceError
from medzoo.plugins.discovery import entry_points
from medzoo.runs.record import RUN
from medzoo.storage.files import write_file

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # for an item, and for the processes of a node
_LOOK = 5.0  # seconds between looks for nodes that have joined
_GONE = 60.0  # seconds without any node before a run ends
_BUSY = 30.0  # seconds without a free node before the user hears of it
_CONNECT = 10.0  # seconds
_PAUSE = 0.1  # seconds
# What marks a folder as complete is written after what it stands for.
_LAST = (RUN, "result.json")


@contextmanager
def open_ray_workers(
    work: Work[T, R], cluster: Cluster, *, threads: int, folder: Path | None
) -> Iterator[Workers[T, R]]:
    """Yield the workers of a cluster. Raises: as `open_workers`, which calls this."""
    with connected(cluster.address):
        import ray

        try:
            workers = RayWorkers(work, cluster, threads=threads, folder=folder)
            try:
                yield workers
            finally:
                workers.close()
        except ray.exceptions.RayTaskError:
            raise  # an error in medzoo, with its traceback
        except ray.exceptions.RayError as error:
            raise ResourceError(
                f"the Ray cluster at {cluster.address} failed: {_first_line(error)}",
                "run the same command again; finished work is kept",
            ) from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect this process to a cluster as long as the context lasts; inside another such context, do nothing.

    Raises: ResourceError if nothing answers there, or another version of Ray or Python.
    """
    # Read when Ray is imported: no reports to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        stated = ADDRESS.fullmatch(address)
        if stated and stated["host"]:
            socket.create_connection((stated["host"].strip("[]"), int(stated["port"])), timeout=_CONNECT).close()
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address.startswith("ray://"):
            ray.init(address, **quiet)
        elif address == "local":
            ray.init(address, include_dashboard=False, configure_logging=False, **quiet)
        else:
            ray.init(address, configure_logging=False, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError, TimeoutError, ray.exceptions.RayError) as error:
        start = "start one with `ray start --head`, or use --ray local"
        raise ResourceError(f"no Ray cluster can be used at {address}: {_first_line(error)}", start) from error
    # Ray prints what befalls other machines to stdout, where results go; what matters of it is logged here.
    private = ray._private.worker
    printing, private._worker_logs_enabled = getattr(private, "_worker_logs_enabled", True), False
    try:
        yield
    finally:
        ray.shutdown()
        private._worker_logs_enabled = printing


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


@dataclass(eq=False)
class _Slot:
    """One process of a node; `name` is the node's for messages."""

    node: str
    name: str
    actor: Any


class RayWorkers(Workers[T, R]):
    """Actors on the nodes of the cluster that this process is connected to."""

    def __init__(self, work: Work[T, R], cluster: Cluster, *, threads: int, folder: Path | None) -> None:
        import ray

        self._ray, self._work, self._cluster, self._threads = ray, work, cluster, threads
        self._run = secrets.token_hex(8)
        self._shared = folder.absolute() if folder is not None and cluster.shared_out else None
        self._expected = expected_versions()
        self._nodes: dict[str, dict[str, Any]] = {}  # as Ray describes them
        self._slots: set[_Slot] = set()
        self._idle: deque[_Slot] = deque()  # each as often as it takes items
        self._starting: dict[Any, _Slot] = {}
        self._deaths: dict[str, int] = {}
        self._sent: dict[Path, list[Any]] = {}
        self._again: deque[tuple[T, int]] = deque()
        self._running: dict[Any, tuple[_Slot, T, int]] = {}
        self._looked = 0.0
        self._packed = ray.put(pack(work))
        self._files = [
            ray.put(chunk) for chunk in read_files(path for path in work.inputs() if not self._is_shared(path))
        ]
        if self._shared is not None:
            self._shared.mkdir(parents=True, exist_ok=True)
            write_file(self._shared / f"{PROBE}-{self._run}", self._run.encode())

    def run(self, take: Callable[[], T | None], done: Callable[[T, R], None]) -> None:
        """Do the items. Raises: what the work raises; ResourceError if processes die again and again."""
        self._again.clear()
        self._running.clear()
        busy, reported = time.monotonic(), False
        while self._assign(take):
            self._look()
            waiting = [*self._running, *self._starting]
            ready: list[Any] = []
            if waiting:
                ready, _ = self._ray.wait(waiting, num_returns=1, timeout=1.0)
            else:
                time.sleep(_PAUSE)
            if self._running or ready:
                busy = time.monotonic()
            for reference in ready:
                if (slot := self._starting.pop(reference, None)) is None:
                    self._collect(reference, done)
                elif self._begun(reference, slot):
                    self._idle.extend([slot] * (1 + self._work.ahead))
            since = time.monotonic() - busy
            if not self._slots and since > _GONE:
                raise ResourceError(
                    f"no node of the Ray cluster at {self._cluster.address} can take a task of {self._asks}",
                    "`ray status` shows the nodes; run the same command again, finished work is kept",
                )
            if self._slots and since > _BUSY and not reported:
                reported = True
                logger.info(f"waiting for the Ray cluster: no node has {self._asks} free")

    def _assign(self, take: Callable[[], T | None]) -> bool:
        """Give items to idle processes. Return whether any are at work or wait for one."""
        while self._idle or not (self._running or self._again):
            if self._again:
                item, tries = self._again.popleft()
            elif (taken := take()) is None:
                break
            else:
                item, tries = taken, 0
            if not self._idle:
                self._again.append((item, tries))
                break
            slot = self._idle.popleft()
            self._running[slot.actor.call.remote(item, self._needs(item))] = (slot, item, tries)
        return bool(self._running or self._again)

    def _collect(self, reference: Any, done: Callable[[T, R], None]) -> None:
        """Take the result of an item, or do it again if its process died."""
        slot, item, tries = self._running.pop(reference)
        try:
            outcome = self._ray.get(reference)
        except self._deadly as error:
            self._lose(slot, error, f"doing {_short(item)} again", tries)
            self._again.append((item, tries + 1))
            return
        self._deaths.pop(slot.node, None)
        self._idle.append(slot)
        done(item, self._result(item, outcome))

    def close(self) -> None:
        """End the processes, and remove what they unpacked."""
        one_a_node = {slot.node: slot for slot in self._idle}
        with suppress(self._ray.exceptions.RayError):
            cleaning = [slot.actor.clean.remote() for slot in one_a_node.values()]
            if cleaning:
                self._ray.wait(cleaning, num_returns=len(cleaning), timeout=_CONNECT)
        for slot in self._slots:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(slot.actor)
        for probe in self._shared.glob(f"{PROBE}-{self._run}*") if self._shared is not None else ():
            probe.unlink(missing_ok=True)

    # --- nodes and their processes

    @property
    def _deadly(self) -> tuple[type[Exception], ...]:
        """What Ray raises for the result of a process that died, or of a node that was lost with the result."""
        found = self._ray.exceptions
        return (
            found.RayActorError,
            found.ActorUnavailableError,
            found.WorkerCrashedError,
            found.NodeDiedError,
            found.OutOfMemoryError,
            found.ObjectLostError,
            found.ActorUnschedulableError,
        )

    @property
    def _asks(self) -> str:
        gpus = self._cluster.gpus_per_task
        return f"{gpus:g} GPU" if gpus else f"{self._threads} CPU" if self._threads == 1 else f"{self._threads} CPUs"

    def _look(self) -> None:
        """Start processes on nodes that have joined, and forget those that are gone."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        alive = {row["NodeID"]: row for row in self._ray.nodes() if row["Alive"]}
        for node in [*self._nodes]:
            if node not in alive:
                del self._nodes[node]
        if not self._nodes and not self._cluster.gpus_per_task:
            gpus = sum(row["Resources"].get("GPU", 0) for row in alive.values())
            if gpus:
                logger.info(f"the cluster has {gpus:g} GPUs, which --gpus-per-task 1 would use")
        for node, row in alive.items():
            if node not in self._nodes:
                self._nodes[node] = row
                for _ in range(self._tasks_on(node)):
                    self._start(node)

    def _cpus_of(self, node: str) -> int:
        return int(self._nodes[node]["Resources"].get("CPU", 0))

    def _tasks_on(self, node: str) -> int:
        """Return how many tasks fit on a node; one fits on a node with fewer CPUs than a task has threads."""
        cpus, gpus = self._cpus_of(node), self._cluster.gpus_per_task
        if cpus < 1:
            return 0
        if not gpus:
            return max(1, cpus // self._threads)
        of_node = int(self._nodes[node]["Resources"].get("GPU", 0))
        # Fractions are of one GPU each.
        return min(cpus, of_node * int(1 / gpus + 1e-9) if gpus < 1 else int(of_node // gpus))

    def _start(self, node: str) -> None:
        """Start a process on a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        gpus, cpus = self._cluster.gpus_per_task, self._cpus_of(node)
        # Of what a GPU computes, threads decide nothing.
        threads = max(1, cpus // self._tasks_on(node)) if gpus else self._threads
        actor = (
            self._ray.remote(actor_class())
            .options(
                num_cpus=1 if gpus else min(threads, cpus),
                num_gpus=gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote()
        )
        row = self._nodes[node]
        slot = _Slot(node, f"{row['NodeManagerHostname']} ({row['NodeManagerAddress']})", actor)
        self._slots.add(slot)
        shared = [] if self._shared is None else [str(self._shared)]
        settings = {"run": self._run, "node": node, "shared": shared, "threads": threads}
        self._starting[actor.start.remote(self._expected, settings, self._packed, self._files)] = slot

    def _begun(self, reference: Any, slot: _Slot) -> bool:
        """Return whether a process has started; check its versions and that it sees a shared folder."""
        try:
            outcome = self._ray.get(reference)
        except self._deadly as error:
            self._lose(slot, error, "", 0)
            return False
        if outcome[0] == "versions":
            raise _differs(slot.name, self._expected, outcome[1])
        if outcome[0] == "failed":
            raise _error(outcome)
        if self._shared is not None:
            answer = self._shared / f"{PROBE}-{self._run}-{slot.node}"
            try:
                seen = answer.read_text() == self._run
            except OSError:
                seen = False
            if not seen:
                raise ResourceError(
                    f"node {slot.name} does not share the folder {self._shared} with this machine",
                    "give an --out on a disk that all nodes have under the same path, or leave out --shared-out",
                )
        return True

    def _lose(self, slot: _Slot, error: Exception, doing: str, tries: int) -> None:
        """Forget a process that died, start another one in its place, and log it. Raises: ResourceError."""
        if slot not in self._slots:  # it had another item too
            return
        self._slots.discard(slot)
        self._idle = deque(each for each in self._idle if each is not slot)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(slot.actor)
        memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
        if memory:
            what = f"a worker process ran out of memory on node {slot.name}"
        else:  # Ray may learn of a lost node after its processes
            what = f"a worker process died on node {slot.name}, possibly out of memory or with its node"
        alive = any(row["NodeID"] == slot.node and row["Alive"] for row in self._ray.nodes())
        alive = alive and "node has died" not in str(error)  # which Ray may list for a while
        if not alive:
            what = f"node {slot.name} was lost"
            self._nodes.pop(slot.node, None)
        if tries + 1 >= _ATTEMPTS:
            raise ResourceError(
                f"{what}, {_ATTEMPTS} times for the same piece of work",
                "run the same command with a smaller --batch-size or model; finished work is kept",
            )
        logger.warning(what + (f"; {doing}" if doing else ""))
        if not alive:
            return
        self._deaths[slot.node] = self._deaths.get(slot.node, 0) + 1
        if self._deaths[slot.node] < _ATTEMPTS:
            self._start(slot.node)
        else:
            logger.warning(f"node {slot.name} is left out: {_ATTEMPTS} processes died there in a row")

    # --- items and their files

    def _is_shared(self, path: Path) -> bool:
        return self._shared is not None and path.absolute().is_relative_to(self._shared)

    def _needs(self, item: T) -> list[tuple[str, list[Any]]]:
        """Return the folders that an item needs, with references to their files, which are put once."""
        found = []
        for folder in self._work.needs(item):
            if self._is_shared(folder):
                continue
            if folder not in self._sent:
                self._sent[folder] = [self._ray.put(chunk) for chunk in read_files([folder])]
            found.append((folder.name, self._sent[folder]))
        return found

    def _result(self, item: T, outcome: Sequence[Any]) -> R:
        """Return the result of an item, and write the files that came with it. Raises: what the work raised."""
        if outcome[0] == "failed":
            raise _error(outcome)
        _, result, files = outcome
        output = self._work.output(item)
        for name, data in sorted(files, key=lambda each: each[0] in _LAST):
            assert output is not None
            write_file(output / name, data)
        found: R = result
        return found


def _short(item: object) -> str:
    """Name an item in a message."""
    text = f"a batch of {len(item)} images" if isinstance(item, list) else str(item)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _error(outcome: Sequence[Any]) -> MedzooError:
    """Return the error of medzoo that a process answered with."""
    _, kind, message, hint = outcome
    found: MedzooError = getattr(errors, kind)(message, hint)
    return found


def expected_versions() -> dict[str, str]:
    """Return the versions here of what decides which images are made: medzoo, torch, and packages of plugins."""
    found = {info.distribution: info.version for info in entry_points()}
    with suppress(PackageNotFoundError):
        found["torch"] = version("torch")
    return {**found, "medzoo": __version__}


def _differs(node: str, ours: dict[str, str], theirs: dict[str, str | None]) -> ResourceError:
    named = [
        f"{name} {theirs[name]}, this machine {ours[name]}" if theirs[name] else f"no {name}, this machine {ours[name]}"
        for name in theirs
    ]
    wanted = " ".join(f"{name}=={ours[name].partition('+')[0]}" for name in theirs)
    return ResourceError(f"node {node} has {'; '.join(named)}", f"on that node: pip install {wanted}")


def actor_class() -> type:
    """Return the class of a worker process. It is sent along, being local: a node may have no medzoo, or another."""

    class MedzooWorker:
        """Names and versions of this machine first; all else is medzoo's own, in `Node`."""

        def start(self, expected: dict[str, str], settings: dict[str, Any], work: bytes, files: list[Any]) -> Any:
            import importlib.metadata

            found: dict[str, str | None] = {}
            for name in expected:
                try:
                    found[name] = importlib.metadata.version(name)
                except importlib.metadata.PackageNotFoundError:
                    found[name] = None
            try:
                from medzoo._version import __version__ as own

                found["medzoo"] = own
            except ImportError:
                found["medzoo"] = None
            # Of torch, the same version may be built for a CPU here and for GPUs there; a plugin may be missing.
            other = {
                name: theirs
                for name, theirs in found.items()
                if (theirs or "").partition("+")[0] != expected[name].partition("+")[0]
                and (theirs is not None or name in ("medzoo", "torch"))
            }
            if other:
                return ("versions", other)
            import ray

            from medzoo.distributed.node import Node, Start, answer_probe, failed

            try:
                answer_probe(settings)
                self.node = Node(Start(work=work, files=files, get=ray.get, **settings))
            except Exception as error:  # noqa: BLE001 - what is no error of medzoo is raised by it
                return failed(error)
            return ("done",)

        def call(self, item: Any, needs: Any) -> Any:
            return self.node.call(item, needs)

        def clean(self) -> None:
            self.node.clean()

    return MedzooWorker
