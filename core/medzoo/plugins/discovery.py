"""Plugins asked what they offer, one at a time, each within a time limit and unable to disturb any other."""

from __future__ import annotations

import contextlib
import functools
import logging
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
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

import pluggy

from medzoo import hookspecs
from medzoo.errors import ConfigError, PluginError
from medzoo.plugins.disabled import read_disabled
from medzoo.plugins.foreign_errors import failure, is_library
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

if TYPE_CHECKING:
    from importlib.metadata import Distribution

logger = logging.getLogger(__name__)

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
# Stdout is one for all threads, and plugins are asked once.
_ONE_AT_A_TIME = threading.RLock()
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
        trace = "".join(traceback.format_exception(error))
        return replace(self, state="broken", error=failure(error), traceback=trace)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin that was asked: its row, the manager that holds it alone, and what it offers by kind."""

    row: PluginRow
    manager: pluggy.PluginManager
    specs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    registries: Sequence[Path] = ()


def installed() -> tuple[Found, ...]:
    """The plugins of the entry-point group `medzoo`, asked once a process; those that are disabled are not imported."""
    with _ONE_AT_A_TIME:
        return _installed()


def forget_installed() -> None:
    """Nothing; the next look at what is installed asks all plugins again."""
    _installed.cache_clear()


@functools.cache
def _installed() -> tuple[Found, ...]:
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
            facts[id(point.dist)] = _name_and_version(point.dist)
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
        except KeyboardInterrupt as error:  # a user's arrives in the thread that waits
            errors.append(PluginError(f"it raised {failure(error)}"))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name=f"medzoo plugin {name}", daemon=True)
    with _ONE_AT_A_TIME, _printing(thread) as printed:
        thread.start()
        thread.join(min(_PATIENCE, seconds))
        if thread.is_alive() and seconds > _PATIENCE:
            logger.warning(f"waiting for plugin '{name}', {seconds:g} s at most")
            thread.join(seconds - _PATIENCE)
    if thread.is_alive():
        raise _too_slow(name, seconds, thread)
    if errors:
        raise errors[0]
    if text := "".join(printed):
        raise PluginError(
            f"it printed to stdout, where results go: {textwrap.shorten(text, 80)!r}",
            "print nothing while a plugin is imported and asked, or print to stderr",
        )
    return answers[0]


@contextlib.contextmanager
def _printing(thread: threading.Thread) -> Iterator[list[str]]:
    """What `thread` prints to stdout inside. What other threads print meanwhile goes where it went before."""
    stdout = sys.stdout
    heard: list[str] = []
    stand_in = cast("TextIO", _StdoutOfOthers(thread, stdout, heard))
    sys.stdout = stand_in
    try:
        yield heard
    finally:
        if sys.stdout is stand_in:
            sys.stdout = stdout


class _StdoutOfOthers:
    """A stdout that keeps what one thread writes to it, and is the real one in everything else."""

    def __init__(self, thread: threading.Thread, stdout: TextIO | None, heard: list[str]) -> None:
        self._thread, self._stdout, self._heard = thread, stdout, heard

    def write(self, text: str) -> int:
        """The number of characters of `text`, which is kept or handed on."""
        if threading.current_thread() is self._thread:
            self._heard.append(text)
        elif self._stdout is not None:  # as in a program without a console
            self._stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing; what was handed on is out."""
        if self._stdout is not None and threading.current_thread() is not self._thread:
            self._stdout.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


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
    frames = [] if frame is None else [own for own, _ in traceback.walk_stack(frame)]  # it may just have ended
    foreign = [own for own in frames if not is_library(own)]
    place = f" (at {foreign[0].f_code.co_filename}:{foreign[0].f_lineno})" if foreign else ""
    error = PluginError(
        f"it did not answer within {seconds:g} s{place}",
        f"`medzoo plugin disable {name}` leaves it out; {TIMEOUT}=SECONDS waits longer",
    )
    if frame is not None:
        error.add_note("It was here:\n" + "".join(traceback.format_stack(frame)))
    return error


def _asked(row: PluginRow, load: Callable[[], object], manager: pluggy.PluginManager) -> Found:
    manager.register(load(), name=row.name)
    _check_hooks(manager)
    if not (hooks := hooks_of(manager)):
        raise PluginError("it implements no hook of medzoo (is @medzoo.hookimpl missing?)")
    specs = {kind: _answer(manager, f"register_{kind}s", cls, hooks) for kind, cls in SPECS.items()}
    for kind, offered in specs.items():
        _check_names(kind, [spec.name for spec in offered])
    registries = _answer(manager, "register_registries", Path, hooks)
    offers = tuple(f"{kind} {spec.name}" for kind, offered in specs.items() for spec in offered)
    row = replace(row, hooks=tuple(sorted(hooks)), offers=offers)
    return Found(row=row, manager=manager, specs=specs, registries=registries)


def _check_hooks(manager: pluggy.PluginManager) -> None:
    """Nothing. Raises: PluginError for a hook there is not."""
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(name for name in vars(hookspecs) if name.startswith("register_"))
        raise PluginError(str(error).partition(" in plugin")[0], f"medzoo's hooks: {known}") from error


def _new_manager() -> pluggy.PluginManager:
    """A manager for one plugin: what it does stays its own."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _name_and_version(distribution: Distribution | None) -> tuple[str, str]:
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
