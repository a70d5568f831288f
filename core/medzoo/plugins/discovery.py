"""Find and load installed plugins; one that is broken or hangs affects no other."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from medzoo import hookspecs
from medzoo.errors import ConfigError, PluginError
from medzoo.plugins.disabled import read_disabled
from medzoo.plugins.foreign_errors import failure, is_library
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

logger = logging.getLogger(__name__)

GROUP = "medzoo"
TIMEOUT = "MEDZOO_PLUGIN_TIMEOUT"
SPECS: Mapping[str, type[Any]] = {
    "generator": GeneratorSpec,
    "classifier": ClassifierSpec,
    "metric": MetricSpec,
    "extractor": ExtractorSpec,
}
_DEFAULT_TIMEOUT = 20.0
_SECONDS_UNTIL_LOGGED = 3.0
# Loading replaces sys.stdout, and plugins are loaded once.
_LOCK = threading.RLock()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """A plugin as `medzoo plugin list` shows it.

    `state` is "ok", "disabled", or "conflict" or "broken" with the reason in `error`. `hooks` are those it implements,
    `provides` the kind and name of each component, as in "generator ddpm".
    """

    name: str
    distribution: str
    version: str
    module: str
    hooks: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    state: str = "ok"
    error: str = ""
    traceback: str = ""

    @property
    def key(self) -> str:
        """Its distribution and name, which no other plugin has."""
        return f"{self.distribution}/{self.name}"

    def broken(self, error: BaseException) -> PluginInfo:
        """Return a copy that records the failure `error`."""
        trace = "".join(traceback.format_exception(error))
        return replace(self, state="broken", error=failure(error), traceback=trace)


@dataclass(frozen=True, kw_only=True)
class LoadedPlugin:
    """A plugin, the manager it alone is registered with, its specs by kind and its registry files."""

    info: PluginInfo
    manager: pluggy.PluginManager
    specs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    registries: Sequence[Path] = ()


def installed() -> tuple[LoadedPlugin, ...]:
    """Load the plugins of the entry-point group `medzoo` once a process; disabled ones are not imported."""
    with _LOCK:
        return _installed()


def forget_installed() -> None:
    """Let the next call of `installed` load the plugins again."""
    _installed.cache_clear()
    _entry_points_on.cache_clear()


@functools.cache
def _installed() -> tuple[LoadedPlugin, ...]:
    disabled = read_disabled()
    return tuple(
        LoadedPlugin(info=replace(info, state="disabled"), manager=_new_manager())
        if info.key in disabled
        else load_plugin(info, functools.partial(import_entry_point, info.module))
        for info in entry_points()
    )


def entry_points() -> tuple[PluginInfo, ...]:
    """List the plugins of the entry-point group `medzoo` by name, without importing them; read once for a sys.path."""
    return _entry_points_on(tuple(sys.path))


@functools.cache
def _entry_points_on(paths: tuple[str, ...]) -> tuple[PluginInfo, ...]:
    """List the plugins of the distributions on these paths.

    Only entry_points.txt of the distributions on sys.path is read: `importlib.metadata` alone would take a quarter of
    the time of `medzoo list`.
    """
    found: dict[str, list[PluginInfo]] = {}
    for path in paths:
        try:
            folders = sorted(os.listdir(path or "."))
        except OSError:  # not a folder, or one that may not be listed
            continue
        for folder in folders:
            if folder.endswith((".dist-info", ".egg-info")):
                distribution = re.sub(r"[-_.]+", "-", folder.partition("-")[0]).lower()
                if distribution not in found:  # of two that are installed, the first on the path is imported
                    found[distribution] = list(_entry_points(Path(path, folder)))
    infos = (info for own in found.values() for info in own)
    return tuple(sorted(infos, key=lambda info: (info.name, info.module)))


def _entry_points(metadata: Path) -> Iterator[PluginInfo]:
    try:
        text = (metadata / "entry_points.txt").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    _, header, section = text.partition(f"[{GROUP}]\n")
    if not header:
        return
    distribution, version = _name_and_version(metadata)
    for line in section.partition("\n[")[0].splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            module = value.partition("[")[0].strip()  # behind it, extras
            yield PluginInfo(name=name.strip(), distribution=distribution, version=version, module=module)


def _name_and_version(metadata: Path) -> tuple[str, str]:
    """Read name and version of a distribution from its headers; its README, which follows, is not read."""
    file = metadata / ("METADATA" if metadata.suffix == ".dist-info" else "PKG-INFO")
    headers: dict[str, str] = {}
    with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                break
            key, _, value = line.partition(":")
            headers.setdefault(key, value.strip())
    return headers.get("Name", "unknown"), headers.get("Version", "unknown")


def import_entry_point(entry_point: str) -> object:
    """Import what an entry point names, as in "package.module" or "package.module:attribute"."""
    name, _, attributes = entry_point.partition(":")
    module = importlib.import_module(name.strip())
    return functools.reduce(getattr, filter(None, attributes.strip().split(".")), module)


def load_plugin(info: PluginInfo, load: Callable[[], object]) -> LoadedPlugin:
    """Register what `load` imports and collect its specs; on a failure, return it as broken.

    Raises: ConfigError for an invalid time limit.
    """
    manager, seconds = _new_manager(), time_limit()
    try:
        return call_plugin(info.name, lambda: _register(info, load, manager), seconds=seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the plugin boundary: a plugin may raise anything
        return LoadedPlugin(info=info.broken(error), manager=manager)


def hooks_of(manager: pluggy.PluginManager) -> set[str]:
    """Return the names of the hooks that the manager's one plugin implements."""
    return {caller.name for plugin in manager.get_plugins() for caller in manager.get_hookcallers(plugin) or ()}


def call_plugin(name: str, call: Callable[[], T], *, seconds: float) -> T:
    """Return the result of `call`, which runs code of the plugin `name`; what it prints goes to stderr.

    It runs in a daemon thread, which is abandoned if it does not return.

    Raises: PluginError if it takes longer than `seconds`; else what `call` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except KeyboardInterrupt as error:  # a user's arrives in the thread that waits
            errors.append(PluginError(f"it raised {failure(error)}"))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name=f"medzoo plugin {name}", daemon=True)
    with _LOCK, contextlib.redirect_stdout(sys.stderr):  # stdout is where results go
        thread.start()
        thread.join(min(_SECONDS_UNTIL_LOGGED, seconds))
        if thread.is_alive() and seconds > _SECONDS_UNTIL_LOGGED:
            logger.warning(f"waiting up to {seconds:g} s for plugin '{name}'")
            thread.join(seconds - _SECONDS_UNTIL_LOGGED)
    if thread.is_alive():
        raise _timeout(name, seconds, thread)
    if errors:
        raise errors[0]
    return results[0]


def time_limit() -> float:
    """Return the seconds a plugin may take to import and register. Raises: ConfigError for an invalid setting."""
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given) if given else _DEFAULT_TIMEOUT
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ConfigError(f"{TIMEOUT}={given} is not a time limit", "give seconds, as in 60")
    return seconds


def _timeout(name: str, seconds: float, thread: threading.Thread) -> PluginError:
    """Return the error that says where the thread hangs."""
    frame = sys._current_frames().get(thread.ident or 0)
    frames = [] if frame is None else [own for own, _ in traceback.walk_stack(frame)]  # it may just have ended
    foreign = [own for own in frames if not is_library(own)]
    place = f" (at {foreign[0].f_code.co_filename}:{foreign[0].f_lineno})" if foreign else ""
    error = PluginError(
        f"it did not return within {seconds:g} s{place}",
        f"`medzoo plugin disable {name}` disables it; {TIMEOUT}=SECONDS waits longer",
    )
    if frame is not None:
        error.add_note("It was here:\n" + "".join(traceback.format_stack(frame)))
    return error


def _register(info: PluginInfo, load: Callable[[], object], manager: pluggy.PluginManager) -> LoadedPlugin:
    manager.register(load(), name=info.name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(name for name in vars(hookspecs) if name.startswith("register_"))
        raise PluginError(str(error).partition(" in plugin")[0], f"medzoo's hooks: {known}") from error
    if not (hooks := hooks_of(manager)):
        raise PluginError("it implements no hook of medzoo (is @medzoo.hookimpl missing?)")
    specs = {kind: _call_hook(manager, f"register_{kind}s", cls) for kind, cls in SPECS.items()}
    for kind, listed in specs.items():
        _check_names(kind, [spec.name for spec in listed])
    registries = _call_hook(manager, "register_registries", Path)
    provides = tuple(f"{kind} {spec.name}" for kind, listed in specs.items() for spec in listed)
    info = replace(info, hooks=tuple(sorted(hooks)), provides=provides)
    return LoadedPlugin(info=info, manager=manager, specs=specs, registries=registries)


def _new_manager() -> pluggy.PluginManager:
    """Return a manager for one plugin."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _call_hook(manager: pluggy.PluginManager, hook: str, kind: type[Any]) -> list[Any]:
    """Return the plugin's result of `hook`, a list of `kind`. Raises: PluginError, or what the plugin raises."""
    if not (caller := getattr(manager.hook, hook)).get_hookimpls():
        return []
    results = caller()
    result = results[0] if results else None
    if not isinstance(result, list | tuple):
        raise PluginError(f"{hook} must return a list of {kind.__name__}, it returned {type(result).__name__}")
    for item in result:
        if not isinstance(item, kind):
            raise PluginError(f"{hook} must return a list of {kind.__name__}, it holds a {type(item).__name__}")
    return list(result)


def _check_names(kind: str, names: list[str]) -> None:
    """Raise PluginError for a name that the command line cannot take, or one given twice."""
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"the {kind} name {name!r} must be letters, digits, '.', '_' and '-'")
        if names.count(name) > 1:
            raise PluginError(f"it provides two {kind}s called '{name}'")
