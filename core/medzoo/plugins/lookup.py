"""What the installed plugins offer, looked up by name; a name that two of them claim belongs to neither."""

from __future__ import annotations

import functools
import re
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from medzoo.errors import ConfigError, PluginError, UnknownName
from medzoo.plugins.disabled import read_disabled, write_disabled
from medzoo.plugins.discovery import (
    Found,
    PluginRow,
    ask,
    entries,
    forget_installed,
    hooks_of,
    installed,
    time_limit,
    within_bounds,
)
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

__all__ = ["PluginRow", "Plugins", "load_plugins", "set_enabled"]

_OWN = "medzoo"
_VERBOSE = "see `medzoo plugin list --verbose`"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """What the working plugins offer, by name; a name that two plugins claim is in none of the mappings."""

    found: tuple[Found, ...]
    generators: Mapping[str, GeneratorSpec]
    classifiers: Mapping[str, ClassifierSpec]
    metrics: Mapping[str, MetricSpec]
    extractors: Mapping[str, ExtractorSpec]
    conflicts: Mapping[tuple[str, str], str]

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

    @property
    def absent_hint(self) -> str:
        """A sentence naming the broken and the disabled plugins, or nothing."""
        disabled = [row.name for row in self.rows if row.state == "disabled"]
        told = f"(disabled plugins: {', '.join(disabled)}; see `medzoo plugin enable`)" if disabled else ""
        return f"{self.broken_hint} {told}".strip()

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

    def refuse_unusable(self, name: str, *, kind: str | None = None) -> None:
        """Nothing.

        Raises: PluginError if `name`, of this or any kind, belongs to two plugins, or is a broken or a disabled one's.
        """
        for (contested, claimed), error in self.conflicts.items():
            if claimed == name and kind in (None, contested):
                raise PluginError(error, "`medzoo plugin disable` leaves one of them out")
        for row in self.rows:
            if row.state == "broken" and row.name == name:
                raise PluginError(f"plugin '{name}' of {row.distribution} is broken: {row.error}", _VERBOSE)
            if row.state == "disabled" and row.name == name:
                raise PluginError(f"plugin '{name}' of {row.distribution} is disabled", f"medzoo plugin enable {name}")

    def commands(self, new_app: Callable[[], T]) -> tuple[Plugins, list[tuple[PluginRow, T]]]:
        """These plugins, those that fail to add commands marked as broken, and the app each of the others filled."""
        seconds = time_limit()
        asked: list[Found] = []
        apps: list[tuple[PluginRow, T]] = []
        for found in self.found:
            if "register_commands" not in hooks_of(found.manager) or found.row.state == "broken":
                asked.append(found)
                continue
            app = new_app()
            try:
                fill = functools.partial(found.manager.hook.register_commands, app=app)
                within_bounds(found.row.name, fill, seconds=seconds)
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
        self.refuse_unusable(name, kind=kind)
        raise UnknownName(kind, name, known, self.absent_hint)


def load_plugins(*, extra: Iterable[tuple[str, object]] = ()) -> Plugins:
    """The installed plugins (entry-point group `medzoo`), and `extra` objects by name; never raises for a bad one."""
    return _gather(_refuse_taken((*installed(), *(_ask_object(name, plugin) for name, plugin in extra))))


def set_enabled(name: str, *, enabled: bool) -> PluginRow:
    """The row of the plugin `name` ("ddpm", or "medzoo/ddpm" where two distributions have one), as it is from now on.

    It is imported only if it is enabled. A plugin that is no longer installed can be enabled, which forgets it.

    Raises: UnknownName; ConfigError where the name means two plugins; ResourceError.
    """
    known = [row for row, _ in entries()]
    meant = [row for row in known if name in (row.name, row.key)]
    off = read_disabled()
    if not meant and enabled and name in off:
        write_disabled(off - {name})
        distribution, _, short = name.rpartition("/")
        return PluginRow(name=short, distribution=distribution, version="", module="", state="not installed")
    if not meant:
        raise UnknownName("plugin", name, [row.name for row in known])
    if len(meant) > 1:
        raise ConfigError(f"two plugins are called '{name}'", f"name one: {' or '.join(row.key for row in meant)}")
    (row,) = meant
    write_disabled(off - {row.key} if enabled else off | {row.key})
    forget_installed()
    if not enabled:
        return replace(row, state="disabled")
    return next(found for found in load_plugins().rows if found.key == row.key)


def to_blame(error: BaseException) -> PluginRow | None:
    """The installed plugin, not medzoo's own, whose code the error went through last; None for none."""
    rows = {re.split("[.:]", row.module)[0]: row for row, _ in entries() if row.distribution != _OWN}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if row := rows.get(str(frame.f_globals.get("__name__", "")).partition(".")[0]):
            return row
    return None


def _ask_object(name: str, plugin: object) -> Found:
    module = getattr(plugin, "__name__", type(plugin).__qualname__)
    return ask(PluginRow(name=name, distribution=name, version="", module=str(module)), lambda: plugin)


def _claims(found: Iterable[Found]) -> Iterator[tuple[str, str, Found]]:
    """Each kind and name that is offered, and the plugin that offers it."""
    for plugin in found:
        for kind, specs in plugin.specs.items():
            for spec in specs:
                yield kind, spec.name, plugin


def _refuse_taken(found: tuple[Found, ...]) -> tuple[Found, ...]:
    """The plugins, those that claim a name of medzoo's own marked as broken, whatever else they offer."""
    own = {(kind, name): plugin.row for kind, name, plugin in _claims(found) if plugin.row.distribution == _OWN}
    taken = {
        plugin.row.key: PluginError(
            f"the {kind} name '{name}' is taken by {_OWN} ({own[kind, name].module})",
            f"rename it, or leave medzoo's out: medzoo plugin disable {own[kind, name].key}",
        )
        for kind, name, plugin in _claims(found)
        if (kind, name) in own and plugin.row.distribution != _OWN
    }
    return tuple(
        Found(row=replace(plugin.row, offers=()).broken(taken[plugin.row.key]), manager=plugin.manager)
        if plugin.row.key in taken
        else plugin
        for plugin in found
    )


def _gather(found: tuple[Found, ...]) -> Plugins:
    """The plugins' offers by name, contested names set apart and marked in their rows."""
    claims: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for kind, name, plugin in _claims(found):
        claims[kind, name].append(plugin)
    conflicts: dict[tuple[str, str], str] = {}
    errors: dict[str, str] = {}
    for (kind, name), owners in claims.items():
        if len(owners) > 1:
            who = " and ".join(f"{owner.row.distribution} ({owner.row.module})" for owner in owners)
            conflicts[kind, name] = f"the {kind} name '{name}' is claimed by {who}"
            errors |= dict.fromkeys((owner.row.key for owner in owners), conflicts[kind, name])

    def marked(plugin: Found) -> Found:
        error = errors.get(plugin.row.key)
        return plugin if error is None else replace(plugin, row=replace(plugin.row, state="conflict", error=error))

    def usable(kind: str) -> dict[str, Any]:
        offered = [spec for plugin in found for spec in plugin.specs.get(kind, ())]
        return {spec.name: spec for spec in offered if len(claims[kind, spec.name]) == 1}

    return Plugins(
        found=tuple(map(marked, found)),
        generators=usable("generator"),
        classifiers=usable("classifier"),
        metrics=usable("metric"),
        extractors=usable("extractor"),
        conflicts=conflicts,
    )
