"""What a plugin's code touches while it runs: files, network, processor time, memory."""

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
# What Python and the system read for themselves: source code for a traceback, the state of processes and devices,
_HARMLESS = (".py", ".pyc"), ("/proc/", "/sys/", "/dev/")
# and whatever modules and the metadata of distributions are looked for in.
_IMPORTING = ("<frozen importlib", importlib.metadata.__file__)
_PROGRAMS = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"}


@dataclass
class Watch:
    """What was seen: `files` opened and programs started, `hosts` spoken to, texts `printed`.

    `times` are the uses' seconds of processor time, `memory` the most bytes that one of them held.
    """

    files: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    printed: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def seconds(self) -> float:
        """The costliest use but the first, which imports what the code needs."""
        return max(self.times[1:] or self.times, default=0.0)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Nothing; `watch` then also knows what happened inside, in this thread and those started since.

    Modules that are imported inside may read their own files, and what native code opens is not seen. Seconds are of
    this process; memory is what it held at most beyond what it held before, looked at every 5 ms.
    """
    _listen()
    process = psutil.Process()
    before, started = process.memory_info().rss, time.process_time()
    done = threading.Event()
    peaks = [before]

    def look() -> None:
        while not done.wait(_INTERVAL):
            peaks.append(max(peaks.pop(), process.memory_info().rss))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    hearing = _Hearing(watch, {thread.ident for thread in threading.enumerate()} - {threading.get_ident()})
    _active.append(hearing)
    stdout = io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout):
            yield
    finally:
        _active.remove(hearing)
        if stdout.getvalue():
            watch.printed.append(stdout.getvalue())
        watch.times.append(time.process_time() - started)
        done.set()
        looking.join()
        watch.memory = max(watch.memory, max(peaks[0], process.memory_info().rss) - before)


@dataclass(frozen=True)
class _Hearing:
    """A watch, and the threads that are not its business."""

    watch: Watch
    others: set[int | None]


_active: list[_Hearing] = []
_listening: list[bool] = []


def _listen() -> None:
    """Nothing; from now on the active watches are told of events, by one hook, for it can never be taken away."""
    if not _listening:
        sys.addaudithook(_hear)
        _listening.append(True)


def _hear(event: str, details: tuple[Any, ...]) -> None:
    watches = [one.watch for one in _active if threading.get_ident() not in one.others]
    if not watches:
        return
    if event == "open" and _is_own(details[0]):
        for watch in watches:
            watch.files.add(os.fsdecode(details[0]))
    elif event in _PROGRAMS:
        for watch in watches:
            watch.files.add(f"the program {details[0]}")
    elif event in _NETWORK:
        host = details[1] if event in ("socket.connect", "socket.sendto") else details[0]
        # A tuple is an address of the network; a path is a socket of this machine, between processes of one program.
        if isinstance(host, tuple | str) and not str(host).startswith("/"):
            for watch in watches:
                watch.hosts.add(str(host[0] if isinstance(host, tuple) else host))


def _is_own(path: object) -> bool:
    """Whether the plugin opened this itself: not an open file's number, no harmless file, and no import."""
    if not isinstance(path, str | bytes):
        return False
    name = os.fsdecode(path)
    if name.endswith(_HARMLESS[0]) or name.startswith(_HARMLESS[1]):
        return False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return False
        frame = frame.f_back
    return True
