"""What a plugin's code touches while it runs: files, network, processor time, memory."""

from __future__ import annotations

import contextlib
import importlib
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
_IMPORTING = ("<frozen importlib", os.path.dirname(importlib.__file__))


@dataclass
class Watch:
    """What was seen: `files` opened and `hosts` spoken to; seconds of processor time and bytes of memory at most."""

    files: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    seconds: float = 0.0
    memory: int = 0


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Nothing; `watch` then also knows what happened inside, its seconds and memory being those of the costliest use.

    Modules that are imported inside may read their own files. Seconds are of this process, over all its threads;
    memory is what the process held at most beyond what it held before, looked at every 5 ms.
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
    _active.append(watch)
    try:
        yield
    finally:
        _active.remove(watch)
        watch.seconds = max(watch.seconds, time.process_time() - started)
        done.set()
        looking.join()
        watch.memory = max(watch.memory, max(peaks[0], process.memory_info().rss) - before)


_active: list[Watch] = []
_listening: list[bool] = []


def _listen() -> None:
    """Nothing; from now on the active watches are told of events, by one hook, for it can never be taken away."""
    if not _listening:
        sys.addaudithook(_hear)
        _listening.append(True)


def _hear(event: str, details: tuple[Any, ...]) -> None:
    if not _active:
        return
    if event == "open" and _is_own(details[0]):
        for watch in _active:
            watch.files.add(os.fsdecode(details[0]))
    elif event in _NETWORK:
        host = details[1] if event in ("socket.connect", "socket.sendto") else details[0]
        # A tuple is an address of the network; a path is a socket of this machine, between processes of one program.
        if isinstance(host, tuple | str) and not str(host).startswith("/"):
            for watch in _active:
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
