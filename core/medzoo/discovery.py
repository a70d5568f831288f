"""Plugins asked what they offer, one at a time, each within a time limit and unable to disturb any other."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import pluggy

from medzoo import hookspecs
from medzoo.disabled import read_disabled
from medzoo.errors import ConfigError, MedzooError, PluginError
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUP = "medzoo"
TIMEOUT = "MEDZOO_PLUGIN_TIMEOUT"
SPECS: Mapping[str, type[Any]] = {
    "generator": GeneratorSpec,
    "classifier": ClassifierSpec,
    "metric": MetricSpec,
    "extractor": ExtractorSpec,
}
_SECONDS = 20.0
_PATIENCE = 3.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PluginRow:
    """A plugin as `medzoo plugin list` shows it.

    `state` is "ok"; "conflict" or "broken", and then `error` says why; or "disabled" by the user. `hooks` are those it
    implements, `offers` kind and name of what it registers.
    """

    name: str
    distribution: str
    version: str
    module: str
    hooks: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    state: str = "ok"
    error: str = ""
    traceback: str = ""

    @property
    def key(self) -> str:
        """What tells it from a plugin of the same name in another distribution."""
        return f"{self.distribution}/{self.name}"

    def broken(self, error: BaseException) -> PluginRow:
        """This row with the failure `error` in it."""
        text = str(error) if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return replace(self, state="broken", error=textwrap.shorten(text, 300), traceback=trace)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin that was asked: its row, the manager that holds it alone, and what it offers by kind."""

    row: PluginRow
    manager: pluggy.PluginManager
    specs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    registries: Sequence[Path] = ()


@functools.cache
def installed() -> tuple[Found, ...]:
    """The plugins of the entry-point group `medzoo`, asked once a process; those that are disabled are not imported."""
    off = read_disabled()
    return tuple(
        Found(row=replace(row, state="disabled"), manager=_new_manager()) if row.key in off else ask(row, load)
        for row, load in entries()
    )


def entries() -> Iterator[tuple[PluginRow, Callable[[], object]]]:
    """The plugins of the entry-point group `medzoo`, none of them imported, and what imports each."""
    from importlib.metadata import entry_points

    facts: dict[int, tuple[str, str]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        # Reading metadata parses all of a README: once a distribution, not once a plugin.
        if id(point.dist) not in facts:
            facts[id(point.dist)] = _facts(point.dist)
        name, version = facts[id(point.dist)]
        yield PluginRow(name=point.name, distribution=name, version=version, module=point.value), point.load


def ask(row: PluginRow, load: Callable[[], object]) -> Found:
    """The plugin that `load` imports with its answers, or a broken row. Raises: as `time_limit`."""
    manager, seconds = _new_manager(), time_limit()
    try:
        return within_bounds(row.name, lambda: _asked(row, load, manager), seconds=seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the plugin boundary: whatever it raises is its own row's matter
        return Found(row=row.broken(error), manager=manager)


def hooks_of(manager: pluggy.PluginManager) -> set[str]:
    """Names of the hooks the manager's one plugin implements."""
    return {caller.name for plugin in manager.get_plugins() for caller in manager.get_hookcallers(plugin) or ()}


def within_bounds(name: str, call: Callable[[], T], *, seconds: float) -> T:
    """What `call`, which runs code of the plugin `name`, returns.

    It runs in a thread of its own, so that one that never returns can be left behind.

    Raises: PluginError if it takes longer than `seconds` or prints to stdout; else what `call` raises.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name=f"medzoo plugin {name}", daemon=True)
    ear = _Ear(thread, sys.stdout)
    with contextlib.redirect_stdout(ear):
        thread.start()
        thread.join(min(_PATIENCE, seconds))
        if thread.is_alive() and seconds > _PATIENCE:
            print(f"waiting for plugin '{name}', {seconds:g} s at most", file=sys.stderr)  # noqa: T201 - a notice
            thread.join(seconds - _PATIENCE)
    if thread.is_alive():
        raise _too_slow(name, seconds, thread)
    if errors:
        raise errors[0]
    if text := "".join(ear.heard):
        raise PluginError(
            f"it printed to stdout, where results go: {textwrap.shorten(text, 80)!r}",
            "print nothing while a plugin is imported and asked, or print to stderr",
        )
    return answers[0]


class _Ear(io.TextIOBase):
    """A stdout that keeps what one thread prints, and hands on what the others do: a program may have more to say."""

    def __init__(self, thread: threading.Thread, stdout: TextIO | None) -> None:
        self.heard: list[str] = []
        self._thread, self._stdout = thread, stdout

    def write(self, text: str) -> int:
        """The number of characters of `text`, which is kept or handed on."""
        if threading.current_thread() is self._thread:
            self.heard.append(text)
        elif self._stdout is not None:  # as in a program without a console
            self._stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing; what was handed on is out."""
        if self._stdout is not None:
            self._stdout.flush()


def time_limit() -> float:
    """Seconds a plugin may take to be imported and to answer. Raises: ConfigError for a setting that is none."""
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given) if given else _SECONDS
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ConfigError(f"{TIMEOUT}={given} is no time limit", "give seconds, as in 60")
    return seconds


def _too_slow(name: str, seconds: float, thread: threading.Thread) -> PluginError:
    """The error that says where the thread is stuck."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = traceback.extract_stack(frame)
    foreign = [entry for entry in stack if not _is_python_s(entry.filename)]
    place = f" (at {foreign[-1].filename}:{foreign[-1].lineno})" if foreign else ""
    error = PluginError(
        f"it did not answer within {seconds:g} s{place}",
        f"`medzoo plugin disable {name}` leaves it out; {TIMEOUT}=SECONDS waits longer",
    )
    error.add_note("It was here:\n" + "".join(traceback.format_list(stack)))
    return error


def _is_python_s(filename: str) -> bool:
    """Whether a source file is of Python's own library."""
    return filename.startswith("<frozen") or Path(filename).parent == Path(os.__file__).parent


def _asked(row: PluginRow, load: Callable[[], object], manager: pluggy.PluginManager) -> Found:
    manager.register(load(), name=row.name)
    manager.check_pending()
    if not (hooks := hooks_of(manager)):
        raise PluginError("it implements no hook of medzoo (is @medzoo.hookimpl missing?)")
    specs = {kind: _answer(manager, f"register_{kind}s", cls, hooks) for kind, cls in SPECS.items()}
    for kind, offered in specs.items():
        _check_names(kind, [spec.name for spec in offered])
    registries = _answer(manager, "register_registries", Path, hooks)
    offers = tuple(f"{kind} {spec.name}" for kind, offered in specs.items() for spec in offered)
    row = replace(row, hooks=tuple(sorted(hooks)), offers=offers)
    return Found(row=row, manager=manager, specs=specs, registries=registries)


def _new_manager() -> pluggy.PluginManager:
    """A manager for one plugin: what it does stays its own."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _facts(distribution: Distribution | None) -> tuple[str, str]:
    """Name and version, as its metadata says."""
    if distribution is None:
        return "unknown", "unknown"
    metadata = distribution.metadata
    return metadata["Name"] or "unknown", metadata["Version"] or "unknown"


def _answer(manager: pluggy.PluginManager, hook: str, kind: type[Any], hooks: set[str]) -> list[Any]:
    """What the plugin answers to `hook`, a list of `kind`. Raises: PluginError, or what the plugin raises."""
    if hook not in hooks:
        return []
    answers = getattr(manager.hook, hook)()
    answer = answers[0] if answers else None
    if not isinstance(answer, list | tuple):
        raise PluginError(f"{hook} must return a list of {kind.__name__}, it returned {type(answer).__name__}")
    for item in answer:
        if not isinstance(item, kind):
            raise PluginError(f"{hook} must return a list of {kind.__name__}, it holds a {type(item).__name__}")
    return list(answer)


def _check_names(kind: str, names: list[str]) -> None:
    """Nothing. Raises: PluginError for a name the command line could not take, or one given twice."""
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"the {kind} name {name!r} must be letters, digits, '.', '_' and '-'")
        if names.count(name) > 1:
            raise PluginError(f"it offers two {kind}s called '{name}'")
