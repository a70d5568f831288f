"""Search the registry: by words, facts, classes and kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from medzoo.errors import UnknownName
from medzoo.hub.entries import CLASSIFIER, GENERATOR, AssetEntry, Entry, ModelEntry
from medzoo.hub.registry import Registry
from medzoo.plugins.lookup import Plugins

E = TypeVar("E", bound=ModelEntry | AssetEntry)

_FACTS = ("license", "plugin", "modality", "dataset")


class EntryKind(StrEnum):
    """The kinds of entry; a model is a generator or a classifier."""

    GENERATOR = "generator"
    CLASSIFIER = "classifier"
    MODEL = "model"
    ASSET = "asset"


def search(
    entries: Sequence[E],
    words: Iterable[str] = (),
    *,
    modality: str | None = None,
    plugin: str | None = None,
    dataset: str | None = None,
    license: str | None = None,
    classes: Iterable[str] = (),
    kind: EntryKind | None = None,
) -> list[E]:
    """Return the entries that match all of these, in any case; None and empty values match every entry.

    An asset has fewer facts than a model, and no classes. Raises: UnknownName for a fact or class that no entry has.
    """
    given = {"modality": modality, "plugin": plugin, "dataset": dataset, "license": license}
    facts = [(fact, value.lower()) for fact, value in given.items() if value]
    facts += [("class", name.lower()) for name in classes]
    for fact, value in facts:
        known = {known for entry in entries for known in _values(entry, fact)}
        if value not in {name.lower() for name in known}:
            raise UnknownName(fact, value, known)
    lower = [word.lower() for word in words]
    return [
        entry
        for entry in entries
        if (kind is None or kind in _kinds(entry))
        and all(value in (name.lower() for name in _values(entry, fact)) for fact, value in facts)
        and all(word in _text(entry) for word in lower)
    ]


def _kinds(entry: Entry) -> tuple[str, ...]:
    return (EntryKind.MODEL, entry.kind) if isinstance(entry, ModelEntry) else (EntryKind.ASSET,)


def _values(entry: Entry, fact: str) -> tuple[str, ...]:
    if fact == "class":
        return entry.classes if isinstance(entry, ModelEntry) else ()
    return (getattr(entry, fact),) if hasattr(entry, fact) else ()


def _text(entry: Entry) -> str:
    values = [value for fact in (*_FACTS, "class") for value in _values(entry, fact)]
    return " ".join([entry.id, entry.summary, *values]).lower()


def without_models(plugins: Plugins, registry: Registry) -> dict[str, list[str]]:
    """List, by kind, the trainable generators and classifiers of which the registry has no model."""
    published = {(entry.kind, entry.plugin) for entry in registry.entries}
    trainable = {
        GENERATOR: [name for name, spec in plugins.generators.items() if spec.trainable],
        CLASSIFIER: list(plugins.classifiers),
    }
    return {kind: sorted(name for name in names if (kind, name) not in published) for kind, names in trainable.items()}
