"""Look up the components of installed plugins by name; a name that two plugins provide belongs to neither."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from medzoo.errors import ConfigError, PluginError, UnknownName
from medzoo.plugins.disabled import read_disabled, write_disabled
from medzoo.plugins.discovery import (
    LoadedPlugin,
    PluginInfo,
    call_plugin,
    entry_points,
    forget_installed,
    hooks_of,
    installed,
    load_plugin,
    time_limit,
)
from medzoo.plugins.guard import guard_process
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec

__all__ = ["PluginInfo", "Plugins", "load_plugins", "set_enabled"]

_OWN = "medzoo"
_VERBOSE = "see `medzoo plugin list --verbose`"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """The components of working plugins by name; one that two plugins provide is only in `conflicts`, with an error."""

    loaded: tuple[LoadedPlugin, ...]
    generators: Mapping[str, GeneratorSpec]
    classifiers: Mapping[str, ClassifierSpec]
    metrics: Mapping[str, MetricSpec]
    extractors: Mapping[str, ExtractorSpec]
    conflicts: Mapping[tuple[str, str], str]

    @property
    def infos(self) -> tuple[PluginInfo, ...]:
        """One for each plugin, working or not."""
        return tuple(plugin.info for plugin in self.loaded)

    @property
    def registries(self) -> list[Path]:
        """Registry files of the plugins."""
        return [path for plugin in self.loaded for path in plugin.registries]

    @property
    def broken_hint(self) -> str:
        """A remark that names the broken plugins, "" if there are none."""
        broken = [info.name for info in self.infos if info.state == "broken"]
        return f"(broken plugins: {', '.join(broken)}; {_VERBOSE})" if broken else ""

    @property
    def unavailable_hint(self) -> str:
        """A remark that names the broken and the disabled plugins, "" if there are none."""
        names = [info.name for info in self.infos if info.state == "disabled"]
        disabled = f"(disabled plugins: {', '.join(names)}; see `medzoo plugin enable`)" if names else ""
        return f"{self.broken_hint} {disabled}".strip()

    def generator(self, name: str) -> GeneratorSpec:
        """Return the generator called `name`.

        Raises: UnknownName; PluginError if its plugin is broken or disabled, or if two plugins provide it.
        """
        return self._find("generator", name, self.generators)

    def classifier(self, name: str) -> ClassifierSpec:
        """Return the classifier called `name`. Raises: as `generator`."""
        return self._find("classifier", name, self.classifiers)

    def metric(self, name: str) -> MetricSpec:
        """Return the metric called `name`. Raises: as `generator`."""
        return self._find("metric", name, self.metrics)

    def extractor(self, name: str) -> ExtractorSpec:
        """Return the extractor called `name`. Raises: as `generator`."""
        return self._find("extractor", name, self.extractors)

    def plugin_of(self, kind: str, name: str) -> PluginInfo:
        """Return the plugin of the `kind` ("generator", "classifier", "metric", "extractor") called `name`."""
        for info in self.infos:
            if f"{kind} {name}" in info.provides:
                return info
        raise UnknownName(kind, name, [each.partition(" ")[2] for info in self.infos for each in info.provides])

    def check_usable(self, name: str, *, kind: str | None = None) -> None:
        """Raise PluginError if two plugins provide `name`, of this or any kind, or if its plugin is unusable."""
        for (its_kind, its_name), error in self.conflicts.items():
            if its_name == name and kind in (None, its_kind):
                raise PluginError(error, "disable one of them with `medzoo plugin disable`")
        for info in self.infos:
            if info.state == "broken" and info.name == name:
                raise PluginError(f"plugin '{name}' of {info.distribution} is broken: {info.error}", _VERBOSE)
            if info.state == "disabled" and info.name == name:
                raise PluginError(f"plugin '{name}' of {info.distribution} is disabled", f"medzoo plugin enable {name}")

    def commands(self, new_app: Callable[[], T]) -> tuple[Plugins, list[tuple[PluginInfo, T]]]:
        """Let each plugin add its commands to a new app, and return these; plugins that fail become broken."""
        seconds = time_limit()
        loaded: list[LoadedPlugin] = []
        apps: list[tuple[PluginInfo, T]] = []
        for plugin in self.loaded:
            info = plugin.info
            if "register_commands" in hooks_of(plugin.manager) and info.state != "broken":
                app = new_app()
                register = functools.partial(plugin.manager.hook.register_commands, app=app)
                try:
                    call_plugin(info.name, register, seconds=seconds)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - the plugin boundary
                    info = info.broken(error)
                else:
                    apps.append((info, app))
            loaded.append(replace(plugin, info=info))
        return replace(self, loaded=tuple(loaded)), apps

    def _find(self, kind: str, name: str, known: Mapping[str, T]) -> T:
        if name in known:
            return known[name]
        self.check_usable(name, kind=kind)
        raise UnknownName(kind, name, known, self.unavailable_hint)


def load_plugins(*, extra: Iterable[tuple[str, object]] = ()) -> Plugins:
    """Load the installed plugins (entry-point group `medzoo`) and `extra` objects by name; raise for none of them."""
    guard_process()
    return _index(_without_clashes((*installed(), *(_load_object(name, plugin) for name, plugin in extra))))


def set_enabled(name: str, *, enabled: bool) -> PluginInfo:
    """Enable or disable the plugin `name` ("ddpm", or "medzoo/ddpm" where two distributions have one).

    It is imported only if it is enabled. A plugin that is no longer installed can be enabled, which forgets it.

    Raises: UnknownName; ConfigError where the name means two plugins; ResourceError.
    """
    known = entry_points()
    meant = [info for info in known if name in (info.name, info.key)]
    disabled = read_disabled()
    if not meant and enabled and name in disabled:
        write_disabled(disabled - {name})
        distribution, _, short = name.rpartition("/")
        return PluginInfo(name=short, distribution=distribution, version="", module="", state="not installed")
    if not meant:
        raise UnknownName("plugin", name, [info.name for info in known])
    if len(meant) > 1:
        raise ConfigError(f"two plugins are called '{name}'", f"name one: {' or '.join(info.key for info in meant)}")
    (info,) = meant
    write_disabled(disabled - {info.key} if enabled else disabled | {info.key})
    forget_installed()
    if not enabled:
        return replace(info, state="disabled")
    return next(loaded for loaded in load_plugins().infos if loaded.key == info.key)


def _load_object(name: str, plugin: object) -> LoadedPlugin:
    module = getattr(plugin, "__name__", type(plugin).__qualname__)
    return load_plugin(PluginInfo(name=name, distribution=name, version="", module=str(module)), lambda: plugin)


def _providers(plugins: Iterable[LoadedPlugin]) -> dict[tuple[str, str], list[PluginInfo]]:
    """Map each kind and name to the plugins that provide it."""
    providers: dict[tuple[str, str], list[PluginInfo]] = defaultdict(list)
    for plugin in plugins:
        for kind, specs in plugin.specs.items():
            for spec in specs:
                providers[kind, spec.name].append(plugin.info)
    return providers


def _without_clashes(plugins: tuple[LoadedPlugin, ...]) -> tuple[LoadedPlugin, ...]:
    """Mark each plugin that provides a name of medzoo's own as broken, whatever else it provides."""
    errors: dict[str, PluginError] = {}
    for (kind, name), infos in _providers(plugins).items():
        for own in (info for info in infos if info.distribution == _OWN):
            error = PluginError(
                f"the {kind} name '{name}' is taken by {_OWN} ({own.module})",
                f"rename it, or disable medzoo's: medzoo plugin disable {own.key}",
            )
            errors |= {info.key: error for info in infos if info.distribution != _OWN}
    return tuple(
        LoadedPlugin(info=replace(plugin.info, provides=()).broken(errors[plugin.info.key]), manager=plugin.manager)
        if plugin.info.key in errors
        else plugin
        for plugin in plugins
    )


def _index(plugins: tuple[LoadedPlugin, ...]) -> Plugins:
    """Index the plugins' components by name, and mark plugins of which two provide the same as in conflict."""
    conflicts: dict[tuple[str, str], str] = {}
    errors: dict[str, str] = {}
    for (kind, name), infos in _providers(plugins).items():
        if len(infos) > 1:
            who = " and ".join(f"{info.distribution} ({info.module})" for info in infos)
            conflicts[kind, name] = f"the {kind} name '{name}' is provided by {who}"
            errors |= {info.key: conflicts[kind, name] for info in infos}

    def marked(plugin: LoadedPlugin) -> LoadedPlugin:
        error = errors.get(plugin.info.key)
        return plugin if error is None else replace(plugin, info=replace(plugin.info, state="conflict", error=error))

    def usable(kind: str) -> dict[str, Any]:
        specs = [spec for plugin in plugins for spec in plugin.specs.get(kind, ())]
        return {spec.name: spec for spec in specs if (kind, spec.name) not in conflicts}

    return Plugins(
        loaded=tuple(map(marked, plugins)),
        generators=usable("generator"),
        classifiers=usable("classifier"),
        metrics=usable("metric"),
        extractors=usable("extractor"),
        conflicts=conflicts,
    )
