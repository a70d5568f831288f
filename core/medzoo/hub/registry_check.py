"""Check registry files: the schema of each entry, its files, card, license, plugin and successor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from medzoo.errors import ConfigError, escape_control
from medzoo.hub.entries import CLASSIFIER, GENERATOR, Entry, Issue, ModelEntry, table_issues, table_name
from medzoo.hub.front_matter import parse_card
from medzoo.hub.registry import (
    Overlays,
    Registry,
    bundled_file,
    conflicts,
    make_registry,
    read_tables,
    user_files,
)
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import Plugins

_CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong in a registry file, with which entry ("" for the file itself), and a hint how to fix it."""

    file: Path
    entry: str
    message: str
    hint: str = ""


def check_registry(files: Sequence[Path], plugins: Plugins) -> tuple[Registry, list[Problem]]:
    """Check every entry of the bundled registry overlaid by `files`, or by those of plugins and the user without any.

    Returns the registry of the valid entries, and all problems.
    """
    overlays = Overlays()
    problems: list[Problem] = []
    for path in dict.fromkeys([bundled_file(), *(files or [*plugins.registries, *user_files()])]):
        problems += _add(overlays, path)
    entries: list[Entry] = []
    for _, entry_id, origin, entry, issues in overlays.entries():
        problems += [Problem(file=origin, entry=entry_id, message=message, hint=hint) for message, hint in issues]
        entries += [entry] if entry is not None else []
    registry = make_registry(entries)
    found: list[tuple[Entry, Issue]] = list(conflicts(registry))
    for model in registry.entries:
        found += [(model, issue) for issue in _issues(model, registry, plugins)]
    everything: list[Entry] = [*registry.entries, *registry.assets]
    found += [(each, issue) for each in everything for issue in _control_issues(each)]
    problems += [Problem(file=e.origin, entry=e.name, message=message, hint=hint) for e, (message, hint) in found]
    return registry, problems


def _add(overlays: Overlays, path: Path) -> Iterator[Problem]:
    """Overlay the valid tables of a file; yield what is wrong with the file and the others."""
    try:
        valid = []
        for section, number, table in read_tables(path):
            issues = list(table_issues(section, table))
            name = table_name(section, number, table)
            yield from (Problem(file=path, entry=name, message=message, hint=hint) for message, hint in issues)
            valid += [] if issues else [(section, number, table)]
        overlays.add(path, valid)
    except ConfigError as error:
        yield Problem(file=path, entry="", message=error.message.removeprefix(f"{path}: "), hint=error.hint)


def _issues(entry: ModelEntry, registry: Registry, plugins: Plugins) -> Iterator[Issue]:
    """Find values of the right type that no model has, or that contradict its plugin, successor or card."""
    empty = [key for key in ("plugin", "summary", "modality", "dataset", "license") if not getattr(entry, key).strip()]
    if empty:
        yield f"{', '.join(empty)} must not be empty", ""
    if len(set(entry.classes)) != len(entry.classes) or not entry.classes:
        yield "classes must be a list of distinct names", ""
    if entry.size < 1 or entry.parameters < 1 or entry.channels not in (1, 3):
        yield "size and parameters must be 1 or more, channels 1 or 3", ""
    if entry.plugin not in (plugins.classifiers if entry.kind == CLASSIFIER else plugins.generators):
        yield f"no installed plugin provides the {entry.kind} '{entry.plugin}'", "see `medzoo plugin list`"
    elif entry.kind == GENERATOR and not plugins.generators[entry.plugin].trainable:
        yield f"'{entry.plugin}' has no weights", ""
    if entry.successor:
        yield from _successor_issues(entry, registry)
    yield from _card_issues(entry)


def _control_issues(entry: Entry) -> Iterator[Issue]:
    """Find control characters, which could rewrite what a terminal shows."""
    for field in fields(entry):
        values = getattr(entry, field.name)
        for text in values if isinstance(values, tuple) else (values,):
            if isinstance(text, str) and (shown := escape_control(text)) != text:
                yield f"{field.name} contains control characters: {shown}", "remove them"


def _successor_issues(entry: ModelEntry, registry: Registry) -> Iterator[Issue]:
    successor = registry.models.get(entry.successor)
    if successor is None:
        yield f"its successor '{entry.successor}' is in no registry", ""
    elif successor.kind != entry.kind:
        yield f"its successor '{entry.successor}' is a {successor.kind}", f"name a {entry.kind}"
    elif successor.deprecated:
        yield f"its successor '{entry.successor}' is deprecated too", "name the model to use in the end"


def _card_issues(entry: ModelEntry) -> Iterator[Issue]:
    """Compare the entry with its card, a folder in cards/ beside the registry file that lists its files."""
    card = entry.origins["files"].parent / "cards" / entry.folder
    if _CARD not in {file.name for file in entry.files}:
        yield f"its files lack {_CARD}, the card", ""
    if not card.is_dir():
        if locate(entry)[0] == "missing":
            yield f"there is no {card}, and it is in no mirror and no repo", f"medzoo push {entry.id}"
        return
    for file in entry.files:
        path = card / file.name
        if not path.is_file():
            yield f"{path} is missing", ""
        elif not file.matches(path):
            yield f"the size or sha256 of {path} is not that of the entry", f"medzoo push {entry.id} --update-registry"
    readme = card / _CARD
    if readme.is_file():
        try:
            stated = parse_card(readme.read_text("utf-8")).data.get("license")
        except ValueError as error:
            yield f"the front matter of {readme} cannot be read: {error}", ""
            return
        if stated != entry.license:
            yield f"the license is {entry.license} in the entry, {stated or 'none'} in its card", "make them agree"
