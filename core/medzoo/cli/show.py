"""`medzoo show`: one model, asset, or what a plugin provides, in full."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from medzoo import config as settings
from medzoo.cli.list import describe
from medzoo.cli.options import complete_models
from medzoo.cli.output import Json, count, megabytes, print_json, print_table, print_text
from medzoo.errors import MedzooError, PluginError, UnknownName
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, AssetEntry, ModelEntry, Registry, load_registry
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec, Spec
from medzoo.storage.files import read_json

logger = logging.getLogger(__name__)

_CARD_LINES = 12
_DEFAULT = "default"
# The facts of each kind of component, beside its name, summary, distribution and contract.
_FIELDS = {
    GENERATOR: ("multi_label", "trainable", "needs_init_images", "varies_images", "takes_unlabeled"),
    CLASSIFIER: ("multi_label",),
    "metric": ("unit", "higher_is_better", "ideal", "needs", "extractors", "min_samples", "baseline", "symmetric"),
    "extractor": ("version", "gives", "preprocessing", "assets"),
}


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A model (id@v1 for a version), asset, generator, classifier, metric, extractor or plugin.",
            autocompletion=complete_models,
        ),
    ],
    json: Json = False,
) -> None:
    """Show all facts of a model, an asset or what a plugin provides."""
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    assets = {entry.id: entry for entry in registry.assets}
    warning = ""
    if name.partition("@")[0] in registry.models:
        entry = registry.model(name)
        facts, warning = _model(entry, registry), entry.notice
    elif name in assets:
        facts = describe(assets[name]) | _origins(assets[name])
    else:
        facts = _component(name, plugins, registry)
    if not facts:
        plugins.check_usable(name)
        components = (*plugins.generators, *plugins.classifiers, *plugins.metrics, *plugins.extractors)
        raise UnknownName(
            "model, asset or plugin", name, {*registry.ids, *assets, *components}, plugins.unavailable_hint
        )
    if json:
        print_json(facts)
    else:
        _print(facts)
    if warning:
        logger.warning(warning)


def _model(entry: ModelEntry, registry: Registry) -> dict[str, Any]:
    """Return the entry, its training facts from config.json and the start of its card, empty while they are missing."""
    facts = describe(entry) | _origins(entry)
    versions = sorted(other.version for other in registry.entries if other.id == entry.id)
    facts["versions"] = [f"v{version}" for version in versions] if len(versions) > 1 else []
    folder = Path(facts["folder"]) if facts["folder"] else None
    facts["training"] = _training(folder / CONFIG) if folder else {}
    readme = folder / "README.md" if folder and (folder / "README.md").is_file() else None
    facts["card"] = str(readme) if readme else None
    lines = readme.read_text("utf-8", errors="replace").splitlines() if readme else []
    if lines and lines[0] == "---" and "---" in lines[1:]:  # the front matter
        lines = lines[lines.index("---", 1) + 1 :]
    facts["card_start"] = [line for line in lines if line.strip()][:_CARD_LINES]
    return facts


def _origins(entry: ModelEntry | AssetEntry) -> dict[str, Any]:
    """Return which keys each registry file gave, where more than one file describes the entry."""
    files = dict.fromkeys(entry.origins.values())
    if len(files) == 1:
        return {}
    return {"origins": {str(file): [key for key, by in entry.origins.items() if by == file] for file in files}}


def _training(path: Path) -> dict[str, Any]:
    """Return what config.json says about the training and its data, or {}."""
    try:
        description = read_json(path)
        data = description.get("data", {})
        facts = {f"data {key}": data[key] for key in ("name", "fingerprint", "counts") if key in data}
        if description.get("image", {}).get("multi_label"):
            facts["multi-label"] = True
        facts["medzoo"] = description.get("medzoo", "")
        return {**facts, **description.get("training", {}), **description.get("notes", {})}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _component(name: str, plugins: Plugins, registry: Registry) -> dict[str, Any]:
    """Return the facts of the component or plugin `name`; empty if there is none.

    "kid@inception" is the metric `kid`. Raises: PluginError for a model whose settings or presets cannot be read.
    """
    metric, _, extractor = name.partition("@")
    known = not extractor or extractor in {*plugins.extractors, *registry.ids}
    found: list[tuple[str, Spec | None]] = [
        (GENERATOR, plugins.generators.get(name)),
        (CLASSIFIER, plugins.classifiers.get(name)),
        ("metric", plugins.metrics.get(metric) if known else None),
        ("extractor", plugins.extractors.get(name)),
    ]
    for kind, spec in found:
        if spec is not None:
            row = plugins.plugin_of(kind, spec.name)
            distribution = f"{row.distribution} {row.version}".strip()
            facts = {kind: spec.name, "summary": spec.summary, "distribution": distribution, "contract": spec.contract}
            facts |= {field: getattr(spec, field) for field in _FIELDS[kind]}
            if isinstance(spec, GeneratorSpec | ClassifierSpec):
                try:
                    facts |= _presets_and_settings(spec)
                except MedzooError as error:
                    raise PluginError(f"{kind} '{spec.name}' of {distribution}: {error.message}", error.hint) from error
                own = [entry.id for entry in registry.entries if (entry.kind, entry.plugin) == (kind, spec.name)]
                facts["models"] = own
            return facts
    rows = [row for row in plugins.infos if name in (row.name, row.key) and row.state == "ok"]
    if len(rows) != 1:
        return {}
    (row,) = rows
    distribution = f"{row.distribution} {row.version}".strip()
    return {"plugin": row.name, "distribution": distribution, "module": row.module} | {
        "hooks": row.hooks,
        "provides": row.provides,
    }


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
        | {"min": each.min, "above": each.above, "max": each.max, "choices": each.choices, "help": each.help}
        for each in settings.settings_of(spec.config)
    ]
    return {"presets": presets, "settings": known}


def _print(facts: dict[str, Any]) -> None:
    """Print one line per fact, then files, tables of settings and presets, and the start of the card."""
    if "parameters" in facts:
        facts = {**facts, "parameters": count(facts["parameters"])}
    if "bytes" in facts:
        facts = {**facts, "bytes": f"{megabytes(facts['bytes'])} MB"}
    for key, value in facts.items():
        if key in ("files", "origins", "card_start", "settings", "presets") or value in ("", None, [], (), {}):
            continue
        for inner, fact in value.items() if isinstance(value, dict) else [("", value)]:
            print_text(f"{f'{key} {inner}'.strip().replace('_', ' '):<24} {_text(fact)}")
    for file in facts.get("files", []):
        print_text(f"{'file ' + file['name']:<24} {megabytes(file['bytes'])} MB, sha256 {file['sha256']}")
    for path, keys in facts.get("origins", {}).items():
        print_text(f"{'set by ' + path:<24} {', '.join(keys)}")
    if "settings" in facts:
        _print_settings(facts["settings"], facts["presets"])
    if facts.get("card_start"):
        print_text("", *facts["card_start"])


def _print_settings(known: list[dict[str, Any]], presets: dict[str, Any]) -> None:
    """Print a model's settings, its presets, and the values that those change."""
    print_text("")
    rows = [(each["key"], settings.shown(each["default"]), each["takes"], each["help"]) for each in known]
    print_table(("setting", "default", "takes", "meaning"), rows)
    print_text("")
    print_table(("preset", "what it is"), [(name, preset["about"]) for name, preset in presets.items()])
    changed = [each for each in known if any(each["key"] in preset["changes"] for preset in presets.values())]
    if changed:
        print_text("")
        values = [
            [preset["changes"].get(each["key"], each["default"]) for preset in presets.values()] for each in changed
        ]
        rows = [(each["key"], *map(settings.shown, own)) for each, own in zip(changed, values, strict=True)]
        print_table(("setting", *presets), rows)


def _text(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, dict):
        return ", ".join(f"{key} {_text(value)}" for key, value in fact.items())
    if isinstance(fact, float):
        return f"{fact:.6g}"
    return ", ".join(map(str, fact)) if isinstance(fact, list | tuple) else str(fact)
