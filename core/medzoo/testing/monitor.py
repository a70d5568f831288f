"""What a plugin's code does while it runs (files, network, stdout, time, memory, random draws), and its limits."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import random
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import psutil
import rich.style  # noqa: F401 - older versions draw from Python's random state when imported, and fit may import it
import torch

from medzoo import config as settings
from medzoo.testing.suite import CPU, expect

GUIDE_SECONDS = 5.0
"""A guide for the processor time of one fit of the `tiny` preset, or of one call: reported, never failed."""

MAX_MEMORY = 1 << 30
"""Bytes beyond those held before, in any call."""

CUDA_MEMORY = 1 << 30
"""Bytes that CUDA's own libraries may take beside those, where they are loaded in the first call."""

LEARNING = "learning"
# The first build imports the model's libraries and draws weights, and learning may take what it needs.
_UNBOUNDED = {"build", LEARNING}
_INTERVAL = 0.005
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
# What Python and the system read on their own: source code for tracebacks, the state of processes and devices,
_HARMLESS = (".py", ".pyc"), ("/proc/", "/sys/", "/dev/")
# and where modules and the metadata of distributions are searched.
_IMPORTING = ("<frozen importlib", importlib.metadata.__file__)
_PROGRAMS = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"}
_HARMLESS_PROGRAMS = {"nvidia-smi"}  # accelerate asks it for the names of the GPUs


@dataclass
class Monitor:
    """What the monitored calls did: `files` opened and programs started, `hosts` contacted, texts `printed`.

    `times` holds each call's seconds of processor time, `memory` the most bytes that one of them allocated, `draws` the
    global random states that changed.
    """

    files: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    printed: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    memory: int = 0
    draws: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """The slowest call but the first, which imports what the code needs."""
        return max(self.times[1:] or self.times, default=0.0)


class Subject:
    """What is under test: every call to it is monitored by its kind in `seen`, and held to limits.

    `config` holds the settings of a model, else None.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.seen: defaultdict[str, Monitor] = defaultdict(Monitor)
        self.config: Any = None

    @contextlib.contextmanager
    def observed(self, call: str) -> Iterator[None]:
        """Monitor what happens inside the block, under the name `call`, in this thread and in threads started since.

        Modules imported inside may read their own files, and files opened by native code are not seen. Processor time
        is of this process; memory is the peak beyond what it held before, sampled every 5 ms.
        """
        _install_audit_hook()
        monitor, process = self.seen[call], psutil.Process()
        states = global_states(self.device)
        before, started = process.memory_info().rss, time.process_time()
        done = threading.Event()
        peaks = [before]

        def sample_memory() -> None:
            while not done.wait(_INTERVAL):
                peaks.append(max(peaks.pop(), process.memory_info().rss))

        sampling = threading.Thread(target=sample_memory, daemon=True)
        sampling.start()
        active = _Active(monitor, {thread.ident for thread in threading.enumerate()} - {threading.get_ident()})
        _active.append(active)
        stdout = io.StringIO()
        try:
            with contextlib.redirect_stdout(stdout):
                yield
        finally:
            _active.remove(active)
            if stdout.getvalue():
                monitor.printed.append(stdout.getvalue())
            monitor.times.append(time.process_time() - started)
            done.set()
            sampling.join()
            monitor.memory = max(monitor.memory, max(peaks[0], process.memory_info().rss) - before)
            monitor.draws |= {name for name, state in global_states(self.device).items() if states[name] != state}

    @property
    def limits(self) -> Mapping[str, Callable[[], str]]:
        """The checks of what no call may do, and of the time and memory it takes, over all calls made so far."""
        return {
            "files": self._check_files,
            "network": self._check_network,
            "stdout": self._check_stdout,
            "time": self._report_time,
            "memory": self._check_memory,
            "global random state": self._check_global_state,
        }

    def _check_files(self) -> str:
        """Check the files opened; those that a setting names are the user's choice."""
        values = settings.flatten(self.config).values() if self.config is not None else ()
        named = {Path(text).absolute() for text in values if isinstance(text, str) and text and os.path.exists(text)}

        def unnamed(monitor: Monitor) -> list[str]:
            return [file for file in sorted(monitor.files) if named.isdisjoint(_with_parents(file))]

        self._expect_none(unnamed, "expected no file to be opened, core does all reading and writing")
        return f"{self._calls()} opened no file" + (" but what settings name" if named else "")

    def _check_network(self) -> str:
        self._expect_none(lambda monitor: sorted(monitor.hosts), "expected no connection, weights are pulled by core")
        return f"{self._calls()} contacted no host"

    def _check_stdout(self) -> str:
        self._expect_none(
            lambda monitor: [repr(textwrap.shorten(text, 60)) for text in monitor.printed],
            "expected nothing printed to stdout, where results go",
        )
        return f"{self._calls()} printed nothing"

    def _report_time(self) -> str:
        """Report the slowest call of each kind; a slow or busy machine must not fail a plugin."""
        spent = ", ".join(f"{call} {monitor.seconds:.2f} s" for call, monitor in self._bounded().items())
        return f"{spent} of processor time (a guide: {GUIDE_SECONDS:g} s on a current CPU)"

    def _check_memory(self) -> str:
        held = {call: monitor.memory for call, monitor in self._bounded().items()}
        most_allowed = MAX_MEMORY + (CUDA_MEMORY if self.device.type == "cuda" else 0)
        large = [f"{call} {amount / 1e6:.0f} MB" for call, amount in held.items() if amount > most_allowed]
        allowed = f"{most_allowed / 1e6:.0f} MB"
        expect(not large, f"expected at most {allowed} more memory, {', '.join(large)}")
        call, most = max(held.items(), key=lambda entry: entry[1])
        return f"at most {most / 1e6:.0f} MB more, in {call} (allowed {allowed})"

    def _check_global_state(self) -> str:
        draws = {
            f"{name} in {call}" for call, monitor in self.seen.items() if call != "build" for name in monitor.draws
        }
        found = ", ".join(sorted(draws))
        expect(not draws, f"expected random draws from the seeds alone, but global state changed: {found}")
        return "torch's, numpy's and Python's global random states stay as they were"

    def _bounded(self) -> dict[str, Monitor]:
        return {call: monitor for call, monitor in self.seen.items() if call not in _UNBOUNDED}

    def _expect_none(self, found: Callable[[Monitor], list[str]], message: str) -> None:
        """Raise ContractError with `message` and the first few things `found` in each kind of call, if any."""
        named = {call: found(monitor)[:3] for call, monitor in self.seen.items()}
        lines = [f"{call}: {', '.join(names)}" for call, names in named.items() if names]
        expect(not lines, f"{message}: {'; '.join(lines)}")

    def _calls(self) -> str:
        calls = [call for call in self.seen if call != LEARNING]
        return f"{', '.join(calls[:-1])} and {calls[-1]}" if len(calls) > 1 else calls[0]


@dataclass(frozen=True)
class _Active:
    """A monitor in use, and the threads it ignores."""

    monitor: Monitor
    other_threads: set[int | None]


_active: list[_Active] = []
_installed: list[bool] = []


def _install_audit_hook() -> None:
    """Install the one audit hook that feeds all active monitors; Python cannot remove it again."""
    if not _installed:
        sys.addaudithook(_audit)
        _installed.append(True)


def _audit(event: str, details: tuple[Any, ...]) -> None:
    monitors = [one.monitor for one in _active if threading.get_ident() not in one.other_threads]
    if not monitors:
        return
    if event == "open" and _is_own(details[0]):
        for monitor in monitors:
            monitor.files.add(os.fsdecode(details[0]))
    elif event in _PROGRAMS and details[0] not in _HARMLESS_PROGRAMS and not _is_importing():
        for monitor in monitors:
            monitor.files.add(f"the program {details[0]}")
    elif event in _NETWORK:
        host = details[1] if event in ("socket.connect", "socket.sendto") else details[0]
        # A tuple is a network address; a path is a socket of this machine, between processes of one program.
        if isinstance(host, tuple | str) and not str(host).startswith("/"):
            for monitor in monitors:
                monitor.hosts.add(str(host[0] if isinstance(host, tuple) else host))


def _is_own(path: object) -> bool:
    """Return whether the plugin opened this itself: no open file's number, no harmless file, and no import."""
    if not isinstance(path, str | bytes):
        return False
    name = os.fsdecode(path)
    return not (name.endswith(_HARMLESS[0]) or name.startswith(_HARMLESS[1]) or _is_importing())


def _is_importing() -> bool:
    """Return whether an import is under way in this thread."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False


def _with_parents(file: str) -> set[Path]:
    path = Path(file).absolute()
    return {path, *path.parents}


def global_states(device: torch.device) -> dict[str, object]:
    """Return the global random states for comparison."""
    name, words, *rest = np.random.get_state(legacy=True)
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
