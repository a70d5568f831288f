"""Discovery of plugins, one at a time, so that a broken one breaks nothing else; look-up of what they offer by name."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import textwrap
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from medzoo import hookspecs
from medzoo.errors import MedzooError, PluginError, UnknownName
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUP = "medzoo"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERBOSE = "see `medzoo plugin list --verbose`"
_SPECS: Mapping[str, type[Any]] = {
    "generator": GeneratorSpec,
    "classifier": ClassifierSpec,
    "metric": MetricSpec,
    "extractor": ExtractorSpec,
}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PluginRow:
    """A plugin as `medzoo plugin list` shows it; `state` is "ok", "conflict" (see `error`) or "broken"."""

    name: str
    distribution: str
    version: str
    module: str
    offers: tuple[str, ...] = ()
    state: str = "ok"
    error: str = ""
    traceback: str = ""

    def broken(self, error: BaseException) -> PluginRow:
        """This row with the failure `error` in it."""
        text = error.message if isinstance(error, MedzooError) else f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return replace(self, state="broken", error=textwrap.shorten(text, 300), traceback=trace)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A plugin that was asked: its row, the manager that holds it alone, and what it offers by kind."""

    row: PluginRow
    manager: pluggy.PluginManager
    specs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    registries: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """What the working plugins offer, by name; a name that two plugins claim is in none of the mappings."""

    found: tuple[_Found, ...]
    generators: Mapping[str, GeneratorSpec]
    classifiers: Mapping[str, ClassifierSpec]
    metrics: Mapping[str, MetricSpec]
    extractors: Mapping[str, ExtractorSpec]
    conflicts: Mapping[str, str]

    @property
    def rows(self) -> tuple[PluginRow, ...]:
        """One row a plugin, working or not."""
        return tuple(found.row for found in self.found)

    @property
    def registries(self) -> list[Path]:
        """Registry files the plugins bring."""
        return [path for found in self.found for path in found.registries]

    @property
    def broken_hint(self) -> str:
        """A sentence naming the broken plugins, or nothing."""
        broken = [row.name for row in self.rows if row.state == "broken"]
        return f"(broken plugins: {', '.join(broken)}; {_VERBOSE})" if broken else ""

    def generator(self, name: str) -> GeneratorSpec:
        """The generator called `name`. Raises: UnknownName; PluginError if its plugin is broken or contested."""
        return self._find("generator", name, self.generators)

    def classifier(self, name: str) -> ClassifierSpec:
        """The classifier called `name`. Raises: as `generator`."""
        return self._find("classifier", name, self.classifiers)

    def metric(self, name: str) -> MetricSpec:
        """The metric called `name`. Raises: as `generator`."""
        return self._find("metric", name, self.metrics)

    def extractor(self, name: str) -> ExtractorSpec:
        """The extractor called `name`. Raises: as `generator`."""
        return self._find("extractor", name, self.extractors)

    def row_of(self, kind: str, name: str) -> PluginRow:
        """The plugin that offers the `kind` ("generator", "classifier", "metric", "extractor") called `name`."""
        offer = f"{kind} {name}"
        for row in self.rows:
            if offer in row.offers:
                return row
        raise UnknownName(kind, name, [o.partition(" ")[2] for row in self.rows for o in row.offers])

    def refuse_unusable(self, name: str) -> None:
        """Nothing. Raises: PluginError if `name` belongs to two plugins or to a broken one."""
        if name in self.conflicts:
            raise PluginError(self.conflicts[name], f"uninstall one of them; {_VERBOSE}")
        for row in self.rows:
            if row.state == "broken" and row.name == name:
                raise PluginError(f"plugin '{name}' of {row.distribution} is broken: {row.error}", _VERBOSE)

    def commands(self, new_app: Callable[[], T]) -> tuple[Plugins, list[tuple[PluginRow, T]]]:
        """These plugins, those that fail to add commands marked as broken, and the app each of the others filled."""
        asked: list[_Found] = []
        apps: list[tuple[PluginRow, T]] = []
        for found in self.found:
            if found.row.state == "broken" or "register_commands" not in _hooks_of(found.manager):
                asked.append(found)
                continue
            app = new_app()
            try:
                found.manager.hook.register_commands(app=app)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - the plugin boundary
                asked.append(replace(found, row=found.row.broken(error)))
            else:
                asked.append(found)
                apps.append((found.row, app))
        return replace(self, found=tuple(asked)), apps

    def _find(self, kind: str, name: str, known: Mapping[str, T]) -> T:
        if name in known:
            return known[name]
        self.refuse_unusable(name)
        raise UnknownName(kind, name, known, self.broken_hint)


def load_plugins(*, extra: Iterable[tuple[str, object]] = ()) -> Plugins:
    """The installed plugins (entry-point group `medzoo`), and `extra` objects by name; never raises for a bad one."""
    return _gather((*_installed(), *(_ask_object(name, plugin) for name, plugin in extra)))


@functools.cache
def _installed() -> tuple[_Found, ...]:
    from importlib.metadata import entry_points

    facts: dict[int, tuple[str, str]] = {}
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        name, version = facts.setdefault(id(point.dist), _facts(point.dist))
        row = PluginRow(name=point.name, distribution=name, version=version, module=point.value)
        # What a stranger's module prints must not stand in the middle of a result that a program reads.
        with contextlib.redirect_stdout(sys.stderr):
            found.append(_ask(row, point.load))
    return tuple(found)


def _facts(distribution: Distribution | None) -> tuple[str, str]:
    """Name and version, read from the metadata once."""
    if distribution is None:
        return "unknown", "unknown"
    metadata = distribution.metadata
    return metadata["Name"] or "unknown", metadata["Version"] or "unknown"


def _ask_object(name: str, plugin: object) -> _Found:
    module = getattr(plugin, "__name__", type(plugin).__qualname__)
    return _ask(PluginRow(name=name, distribution=name, version="", module=str(module)), lambda: plugin)


def _ask(row: PluginRow, load: Callable[[], object]) -> _Found:
    """The plugin with its answers, or a broken row; a manager of its own keeps what it does from the others."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(load(), name=row.name)
        manager.check_pending()
        if not (hooks := _hooks_of(manager)):
            raise PluginError("it implements no hook of medzoo (is @medzoo.hookimpl missing?)")
        specs = {kind: _answer(manager, f"register_{kind}s", cls, hooks) for kind, cls in _SPECS.items()}
        for kind, offered in specs.items():
            _check_names(kind, [spec.name for spec in offered])
        registries = _answer(manager, "register_registries", Path, hooks)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the plugin boundary: whatever it raises is its own row's matter
        return _Found(row=row.broken(error), manager=manager)
    offers = tuple(f"{kind} {spec.name}" for kind, offered in specs.items() for spec in offered)
    return _Found(row=replace(row, offers=offers), manager=manager, specs=specs, registries=registries)


def _hooks_of(manager: pluggy.PluginManager) -> set[str]:
    """Names of the hooks the manager's one plugin implements."""
    return {caller.name for plugin in manager.get_plugins() for caller in manager.get_hookcallers(plugin) or ()}


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


def _gather(found: tuple[_Found, ...]) -> Plugins:
    """The plugins' offers by name, contested names set apart and marked in their rows."""
    claims: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, plugin in enumerate(found):
        for kind, specs in plugin.specs.items():
            for spec in specs:
                claims[kind, spec.name].append(index)
    conflicts: dict[str, str] = {}
    marked = list(found)
    for (kind, name), owners in claims.items():
        if len(owners) > 1:
            who = " and ".join(f"{found[i].row.distribution} ({found[i].row.module})" for i in owners)
            conflicts[name] = f"the {kind} name '{name}' is claimed by {who}"
            for i in owners:
                marked[i] = replace(found[i], row=replace(found[i].row, state="conflict", error=conflicts[name]))

    def usable(kind: str) -> dict[str, Any]:
        offered = [spec for plugin in found for spec in plugin.specs.get(kind, ())]
        return {spec.name: spec for spec in offered if len(claims[kind, spec.name]) == 1}

    return Plugins(
        found=tuple(marked),
        generators=usable("generator"),
        classifiers=usable("classifier"),
        metrics=usable("metric"),
        extractors=usable("extractor"),
        conflicts=conflicts,
    )
