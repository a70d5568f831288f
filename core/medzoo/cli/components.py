"""What plugins provide, as `medzoo show` prints it: models with settings and presets, metrics, extractors."""

from typing import Any

from medzoo import config as settings
from medzoo.cli.output import print_table, print_text
from medzoo.errors import MedzooError, PluginError
from medzoo.hub.registry import CLASSIFIER, GENERATOR, Registry
from medzoo.plugins.lookup import PluginInfo, Plugins
from medzoo.specs import ClassifierSpec, ExtractorSpec, GeneratorSpec, MetricSpec, Spec

_DEFAULT = "default"
TABLES = ("settings", "presets")
"""Facts of a model that `print_tables` prints."""


def find_component(name: str, plugins: Plugins, registry: Registry) -> dict[str, Any]:
    """Return the facts of the component or plugin `name`; empty if there is none.

    "kid@inception" is the metric `kid`. Raises: PluginError for a model whose settings or presets cannot be read.
    """
    if name in plugins.generators:
        spec = plugins.generators[name]
        needs = {"trainable": spec.trainable, "needs_init_images": spec.needs_init_images}
        return _model(GENERATOR, spec, plugins, registry, needs)
    if name in plugins.classifiers:
        return _model(CLASSIFIER, plugins.classifiers[name], plugins, registry, {})
    metric, _, extractor = name.partition("@")
    if metric in plugins.metrics and (not extractor or extractor in {*plugins.extractors, *registry.ids}):
        return _metric(plugins.metrics[metric], plugins)
    if name in plugins.extractors:
        return _extractor(plugins.extractors[name], plugins)
    rows = [row for row in plugins.infos if name in (row.name, row.key) and row.state == "ok"]
    return _plugin(rows[0]) if len(rows) == 1 else {}


def print_tables(facts: dict[str, Any]) -> None:
    """Print a model's settings, its presets, and the values that those change."""
    presets = facts["presets"]
    print_text("")
    rows = [(each["key"], settings.shown(each["default"]), each["takes"], each["help"]) for each in facts["settings"]]
    print_table(("setting", "default", "takes", "meaning"), rows)
    print_text("")
    print_table(("preset", "what it is"), [(name, preset["about"]) for name, preset in presets.items()])
    changed = {key for preset in presets.values() for key in preset["changes"]}
    if not changed:
        return
    defaults = {each["key"]: each["default"] for each in facts["settings"]}
    print_text("")
    rows = [
        (key, *(settings.shown(preset["changes"].get(key, default)) for preset in presets.values()))
        for key, default in defaults.items()
        if key in changed
    ]
    print_table(("setting", *presets), rows)


def _common(kind: str, spec: Spec, plugins: Plugins) -> dict[str, Any]:
    """Return the facts that every component has."""
    row = plugins.plugin_of(kind, spec.name)
    distribution = f"{row.distribution} {row.version}".strip()
    return {kind: spec.name, "summary": spec.summary, "distribution": distribution, "contract": spec.contract}


def _model(
    kind: str, spec: GeneratorSpec | ClassifierSpec, plugins: Plugins, registry: Registry, needs: dict[str, Any]
) -> dict[str, Any]:
    facts = _common(kind, spec, plugins) | {"multi_label": spec.multi_label} | needs
    try:
        facts |= _presets_and_settings(spec)
    except MedzooError as error:
        raise PluginError(f"{kind} '{spec.name}' of {facts['distribution']}: {error.message}", error.hint) from error
    return facts | {"models": [row.id for row in registry.entries if row.kind == kind and row.plugin == spec.name]}


def _presets_and_settings(spec: GeneratorSpec | ClassifierSpec) -> dict[str, Any]:
    """Return each preset with the settings that differ from the preset `default`, and all settings."""
    defaults = settings.resolve(spec.config, presets=spec.presets, preset=_DEFAULT).flat()
    presets = {}
    for name in sorted(settings.preset_names(spec.presets), key=lambda name: (name != _DEFAULT, name)):
        flat = settings.resolve(spec.config, presets=spec.presets, preset=name).flat()
        changes = {key: value for key, value in flat.items() if value != defaults[key]}
        presets[name] = {"about": settings.preset_about(spec.presets, name), "changes": changes}
    known = [
        {"key": each.key, "default": defaults[each.key], "takes": each.takes}
        | {"min": each.min, "max": each.max, "choices": each.choices, "help": each.help}
        for each in settings.settings_of(spec.config)
    ]
    return {"presets": presets, "settings": known}


def _metric(spec: MetricSpec, plugins: Plugins) -> dict[str, Any]:
    return _common("metric", spec, plugins) | {
        "unit": spec.unit,
        "higher_is_better": spec.higher_is_better,
        "needs": spec.needs,
        "extractors": list(spec.extractors),
        "min_samples": spec.min_samples,
        "baseline": spec.baseline,
        "symmetric": spec.symmetric,
    }


def _extractor(spec: ExtractorSpec, plugins: Plugins) -> dict[str, Any]:
    return _common("extractor", spec, plugins) | {
        "version": spec.version,
        "gives": spec.gives,
        "preprocessing": spec.preprocessing,
        "assets": list(spec.assets),
    }


def _plugin(row: PluginInfo) -> dict[str, Any]:
    facts = {"distribution": f"{row.distribution} {row.version}".strip(), "module": row.module}
    return {"plugin": row.name} | facts | {"hooks": list(row.hooks), "provides": list(row.provides)}
