"""What no call to a plugin's code may do, and the time and memory it takes, over all calls a suite has made."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from medzoo import config as settings
from medzoo.testing.contract import expect
from medzoo.testing.monitor import Monitor

GUIDE_SECONDS = 5.0
"""A guide for the processor time of one fit of the `tiny` preset, or of one call: reported, never failed."""

MAX_MEMORY = 1 << 30
"""Bytes beyond those held before, in any call."""

LEARNING = "learning"
# The first build imports the model's libraries, and learning may take what it needs.
_UNBOUNDED = {"build", LEARNING}


class Monitored(Protocol):
    """What a suite has tested: a monitor for each kind of call, and the global random states that changed."""

    @property
    def seen(self) -> Mapping[str, Monitor]:
        """By the kind of call, what it did."""

    @property
    def touched(self) -> set[str]:
        """The global random states that changed."""

    @property
    def config(self) -> Any:
        """The settings of the model, or None."""


def files(subject: Monitored) -> str:
    """Check the files opened; those that a setting names are the user's choice."""
    values = settings.flatten(subject.config).values() if subject.config is not None else ()
    named = {Path(text).absolute() for text in values if isinstance(text, str) and text and os.path.exists(text)}

    def own(monitor: Monitor) -> Iterable[str]:
        opened = sorted(monitor.files)
        return (file for file in opened if named.isdisjoint({Path(file).absolute(), *Path(file).absolute().parents}))

    opened = _by_call(subject, own)
    expect(not opened, f"expected no file to be opened, core does all reading and writing: {'; '.join(opened)}")
    return f"{_calls(subject)} opened no file" + (" but what settings name" if named else "")


def network(subject: Monitored) -> str:
    """Check the hosts contacted."""
    hosts = _by_call(subject, lambda monitor: sorted(monitor.hosts))
    expect(not hosts, f"expected no connection, weights are pulled by core: {'; '.join(hosts)}")
    return f"{_calls(subject)} contacted no host"


def stdout(subject: Monitored) -> str:
    """Check what is printed."""
    printed = _by_call(subject, lambda monitor: [repr(textwrap.shorten(text, 60)) for text in monitor.printed])
    expect(not printed, f"expected nothing printed to stdout, where results go: {'; '.join(printed)}")
    return f"{_calls(subject)} printed nothing"


def time(subject: Monitored) -> str:
    """Report the processor time of the slowest call of each kind; a slow or busy machine must not fail a plugin."""
    spent = ", ".join(f"{call} {monitor.seconds:.2f} s" for call, monitor in _bounded(subject).items())
    return f"{spent} of processor time (a guide: {GUIDE_SECONDS:g} s on a current CPU)"


def memory(subject: Monitored) -> str:
    """Check the memory of the largest call of each kind."""
    held = {call: monitor.memory for call, monitor in _bounded(subject).items()}
    large = [f"{call} {amount / 1e6:.0f} MB" for call, amount in held.items() if amount > MAX_MEMORY]
    allowed = f"{MAX_MEMORY / 1e6:.0f} MB"
    expect(not large, f"expected at most {allowed} more memory, {', '.join(large)}")
    call, most = max(held.items(), key=lambda entry: entry[1])
    return f"at most {most / 1e6:.0f} MB more, in {call} (allowed {allowed})"


def global_state(subject: Monitored) -> str:
    """Check the global random states."""
    touched = ", ".join(sorted(subject.touched))
    expect(not touched, f"expected random draws from the seeds alone, but global state changed: {touched}")
    return "torch's, numpy's and Python's global random states stay as they were"


BOUNDS: Mapping[str, Callable[[Monitored], str]] = {
    "files": files,
    "network": network,
    "stdout": stdout,
    "time": time,
    "memory": memory,
    "global random state": global_state,
}
"""The checks of this module, in order."""


def _bounded(subject: Monitored) -> dict[str, Monitor]:
    return {call: monitor for call, monitor in subject.seen.items() if call not in _UNBOUNDED}


def _by_call(subject: Monitored, found: Callable[[Monitor], Iterable[str]]) -> list[str]:
    """Return, for each call with any findings, the first few of them."""
    named = ((call, list(found(monitor))[:3]) for call, monitor in subject.seen.items())
    return [f"{call}: {', '.join(names)}" for call, names in named if names]


def _calls(subject: Monitored) -> str:
    calls = [call for call in subject.seen if call != LEARNING]
    return f"{', '.join(calls[:-1])} and {calls[-1]}" if len(calls) > 1 else calls[0]
