"""`medzoo show`: one model, asset, or what a plugin provides, in full."""

import json as json_lib
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from medzoo.cli.components import TABLES, find_component, print_tables
from medzoo.cli.list import describe
from medzoo.cli.output import Json, count, megabytes, print_json, print_text
from medzoo.errors import UnknownName
from medzoo.hub.registry import CONFIG, AssetEntry, ModelEntry, Registry, load_registry
from medzoo.plugins.lookup import load_plugins

logger = logging.getLogger(__name__)


_CARD_LINES = 12


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A model (id@v1 for a version), asset, generator, classifier, metric, extractor or plugin.",
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
        facts = find_component(name, plugins, registry)
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
    folder = facts["folder"]
    facts["training"] = _training(Path(folder) / CONFIG) if folder else {}
    readme = Path(folder) / "README.md" if folder else None
    facts["card"] = str(readme) if readme is not None and readme.is_file() else None
    facts["card_start"] = _card_start(readme) if readme is not None and readme.is_file() else []
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
        description = json_lib.loads(path.read_text("utf-8"))
        data, training = description.get("data", {}), description.get("training", {})
        facts = {f"data {key}": data[key] for key in ("name", "fingerprint", "counts") if key in data}
        multi_label = {"multi-label": True} if description.get("image", {}).get("multi_label") else {}
        return {
            **facts,
            **multi_label,
            "medzoo": description.get("medzoo", ""),
            **training,
            **description.get("notes", {}),
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _card_start(path: Path) -> list[str]:
    """Return the first lines of a card's text, after its front matter."""
    lines = path.read_text("utf-8").splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        lines = lines[lines.index("---", 1) + 1 :]
    return [line for line in lines if line.strip()][:_CARD_LINES]


def _print(facts: dict[str, Any]) -> None:
    """Print one line per fact, then the files and the start of the card."""
    if "parameters" in facts:
        facts = {**facts, "parameters": count(facts["parameters"])}
    if "bytes" in facts:
        facts = {**facts, "bytes": f"{megabytes(facts['bytes'])} MB"}
    for key, value in facts.items():
        if key in ("files", "origins", "card_start", *TABLES) or value in ("", None, [], {}):
            continue
        for inner, fact in value.items() if isinstance(value, dict) else [("", value)]:
            print_text(f"{f'{key} {inner}'.strip().replace('_', ' '):<24} {_text(fact)}")
    for file in facts.get("files", []):
        print_text(f"{'file ' + file['name']:<24} {megabytes(file['bytes'])} MB, sha256 {file['sha256']}")
    for path, keys in facts.get("origins", {}).items():
        print_text(f"{'set by ' + path:<24} {', '.join(keys)}")
    if "settings" in facts:
        print_tables(facts)
    if facts.get("card_start"):
        print_text("\n" + "\n".join(facts["card_start"]))


def _text(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, dict):
        return ", ".join(f"{key} {_text(value)}" for key, value in fact.items())
    if isinstance(fact, float):
        return f"{fact:.6g}"
    return ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact)
