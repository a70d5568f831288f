"""Which entries of the catalogue are asked for: by words, by facts, by classes and by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from medzoo.errors import UnknownName
from medzoo.hub.registry import CLASSIFIER, GENERATOR, AssetEntry, ModelEntry, Registry
from medzoo.plugins.lookup import Plugins

# What users call a field of a entry, where they call it otherwise.
_CALLED = {"license": "license", "classes": "class"}


class EntryKind(StrEnum):
    """The kinds of entry; a model is a generator or a classifier."""

    GENERATOR = "generator"
    CLASSIFIER = "classifier"
    MODEL = "model"
    ASSET = "asset"


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What the entries asked for must have, in lower case; `SearchQuery.create` takes it in any."""

    words: tuple[str, ...]
    facts: Mapping[str, str]
    classes: frozenset[str]
    kind: EntryKind | None

    @classmethod
    def create(
        cls,
        words: Iterable[str] = (),
        *,
        modality: str | None = None,
        plugin: str | None = None,
        dataset: str | None = None,
        license: str | None = None,
        classes: Iterable[str] = (),
        kind: EntryKind | None = None,
    ) -> Self:
        """Rows with all of these; what is None or empty is not asked for."""
        facts = {"modality": modality, "plugin": plugin, "dataset": dataset, "license": license}
        return cls(
            words=tuple(word.lower() for word in words),
            facts={fact: value.lower() for fact, value in facts.items() if value},
            classes=frozenset(name.lower() for name in classes),
            kind=kind,
        )

    def matches(self, entry: ModelEntry | AssetEntry) -> bool:
        """Whether the entry has all of it. An asset has fewer facts than a model, and no classes."""
        if self.kind and self.kind not in _kinds(entry):
            return False
        if not all(getattr(entry, fact, "").lower() == value for fact, value in self.facts.items()):
            return False
        if self.classes and not self.classes <= {name.lower() for name in getattr(entry, "classes", ())}:
            return False
        return not self.words or all(word in _text(entry) for word in self.words)

    def check_values(self, entries: Sequence[ModelEntry | AssetEntry]) -> None:
        """Nothing. Raises: UnknownName for a fact or class that none of `entries` has."""
        asked = [*self.facts.items(), *(("classes", name) for name in sorted(self.classes))]
        for fact, value in asked:
            had = [getattr(entry, fact, ()) for entry in entries]
            known = {name for names in had for name in ([names] if isinstance(names, str) else names)}
            if value not in {name.lower() for name in known}:
                raise UnknownName(_CALLED.get(fact, fact), value, known)


def without_models(plugins: Plugins, registry: Registry) -> dict[str, list[str]]:
    """By kind, the names of generators and classifiers that learn and of which the catalogue has no model."""
    published = {(entry.kind, entry.plugin) for entry in registry.entries}
    learning = {
        GENERATOR: [name for name, spec in plugins.generators.items() if spec.trainable],
        CLASSIFIER: list(plugins.classifiers),
    }
    return {kind: sorted(name for name in names if (kind, name) not in published) for kind, names in learning.items()}


def _kinds(entry: ModelEntry | AssetEntry) -> tuple[str, ...]:
    """What `SearchQuery.kind` may call the entry."""
    return (EntryKind.MODEL, entry.kind) if isinstance(entry, ModelEntry) else (EntryKind.ASSET,)


def _text(entry: ModelEntry | AssetEntry) -> str:
    """Everything words are looked for in."""
    facts = [entry.id, entry.summary, entry.license]
    if isinstance(entry, ModelEntry):
        facts += [entry.plugin, entry.modality, entry.dataset, *entry.classes]
    return " ".join(facts).lower()
