"""Monitor what a plugin's code does while it runs: files, network, stdout, processor time, memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import psutil

_INTERVAL = 0.005
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
# What Python and the system read on their own: source code for tracebacks, the state of processes and devices,
_HARMLESS = (".py", ".pyc"), ("/proc/", "/sys/", "/dev/")
# and where modules and the metadata of distributions are searched.
_IMPORTING = ("<frozen importlib", importlib.metadata.__file__)
_PROGRAMS = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"}


@dataclass
class Monitor:
    """What the monitored calls did: `files` opened and programs started, `hosts` contacted, texts `printed`.

    `times` holds each call's seconds of processor time, `memory` the most bytes that one of them allocated.
    """

    files: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    printed: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def seconds(self) -> float:
        """The slowest call but the first, which imports what the code needs."""
        return max(self.times[1:] or self.times, default=0.0)


@contextlib.contextmanager
def monitored(monitor: Monitor) -> Iterator[None]:
    """Record in `monitor` what happens inside the block, in this thread and in threads started since.

    Modules imported inside may read their own files, and files opened by native code are not seen. Processor time is
    of this process; memory is the peak beyond what it held before, sampled every 5 ms.
    """
    _install_audit_hook()
    process = psutil.Process()
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
    elif event in _PROGRAMS and not _is_importing():
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
