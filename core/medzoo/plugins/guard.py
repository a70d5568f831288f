"""Keep plugins from ending the program, and from changing the folder and the environment that all of it shares."""

from __future__ import annotations

import functools
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from medzoo.errors import PluginError
from medzoo.plugins.discovery import PluginInfo, entry_points
from medzoo.plugins.foreign_errors import is_library, is_of_python, place_of, raised_at

_OWN = "medzoo"
_AUTHOR = "report it to the plugin's author"


def plugin_at_fault(error: BaseException) -> PluginInfo | None:
    """Return the installed plugin, not medzoo's own, whose code the error went through last, or None."""
    infos = _foreign_plugins()
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if info := infos.get(_package_of(frame)):
            return info
    return None


def exit_error(error: SystemExit) -> PluginError | None:
    """Return the error that names the plugin whose code raised `error`, or None if no plugin's did."""
    if (info := plugin_at_fault(error)) is None:
        return None
    code = "" if error.code is None else repr(error.code)
    return PluginError(f"{_named(info)} called sys.exit({code}) ({raised_at(error)})", _AUTHOR)


@contextmanager
def exits_as_errors() -> Iterator[None]:
    """Raise a PluginError in place of a SystemExit of a plugin, which would silently end the caller's program."""
    try:
        yield
    except SystemExit as error:
        if (stopped := exit_error(error)) is None:
            raise
        raise stopped from error


@functools.cache
def guard_process() -> None:
    """Refuse, from now on, what a plugin does to the current folder and to environment variables.

    The call in the plugin raises a PluginError. Paths relative to the folder, and libraries and processes that read the
    environment later, would silently mean something else.
    """
    sys.addaudithook(_refuse_changes)


def _refuse_changes(event: str, given: tuple[Any, ...]) -> None:
    if event not in ("os.chdir", "os.putenv", "os.unsetenv"):
        return
    found = _calling_plugin(sys._getframe(1), through_libraries=event == "os.chdir")
    if found is None:
        return
    info, place = found
    if event == "os.chdir":
        raise PluginError(f"{_named(info)} changed the current folder to {given[0]} ({place})", _AUTHOR)
    name, value = os.fsdecode(given[0]), os.fsdecode(given[1]) if event == "os.putenv" else None
    if os.environ.get(name) != value:
        raise PluginError(f"{_named(info)} changed the environment variable {name} ({place})", _AUTHOR)


def _calling_plugin(frame: FrameType | None, *, through_libraries: bool) -> tuple[PluginInfo, str] | None:
    """Return the plugin whose code made a call, and where; a library it called is not to blame for the environment."""
    infos = _foreign_plugins()
    while frame is not None:
        if info := infos.get(_package_of(frame)):
            return info, place_of(frame, frame.f_lineno)
        if not is_of_python(frame) and (is_library(frame) or not through_libraries):
            return None
        frame = frame.f_back
    return None


def _foreign_plugins() -> dict[str, PluginInfo]:
    return {re.split("[.:]", info.module)[0]: info for info in entry_points() if info.distribution != _OWN}


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _named(info: PluginInfo) -> str:
    return f"plugin '{info.name}' of {info.distribution}"
