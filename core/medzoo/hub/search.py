"""Search the registry: by words, facts, classes and kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from medzoo.errors import UnknownName
from medzoo.hub.entries import CLASSIFIER, GENERATOR, Entry, ModelEntry
from medzoo.hub.registry import Registry
from medzoo.plugins.lookup import Plugins


class EntryKind(StrEnum):
    """The kinds of entry; a model is a generator or a classifier."""

    GENERATOR = "generator"
    CLASSIFIER = "classifier"
    MODEL = "model"
    ASSET = "asset"


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What entries must match, in lower case; `create` accepts any case."""

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
        """Search for entries that match all of these; None and empty values match every entry."""
        facts = {"modality": modality, "plugin": plugin, "dataset": dataset, "license": license}
        return cls(
            words=tuple(word.lower() for word in words),
            facts={fact: value.lower() for fact, value in facts.items() if value},
            classes=frozenset(name.lower() for name in classes),
            kind=kind,
        )

    def matches(self, entry: Entry) -> bool:
        """Return whether the entry matches. An asset has fewer facts than a model, and no classes."""
        kinds = (EntryKind.MODEL, entry.kind) if isinstance(entry, ModelEntry) else (EntryKind.ASSET,)
        names = ("id", "summary", "license", "plugin", "modality", "dataset")
        classes = [name.lower() for name in getattr(entry, "classes", ())]
        text = " ".join([*(getattr(entry, name, "").lower() for name in names), *classes])
        return (
            (self.kind is None or self.kind in kinds)
            and all(getattr(entry, fact, "").lower() == value for fact, value in self.facts.items())
            and self.classes.issubset(classes)
            and all(word in text for word in self.words)
        )

    def check_values(self, entries: Sequence[Entry]) -> None:
        """Check that some entry has each fact and class asked for. Raises: UnknownName."""
        for fact, value in [*self.facts.items(), *(("classes", name) for name in sorted(self.classes))]:
            held = [getattr(entry, fact, ()) for entry in entries]
            known = {name for names in held for name in ([names] if isinstance(names, str) else names)}
            if value not in {name.lower() for name in known}:
                raise UnknownName("class" if fact == "classes" else fact, value, known)


def without_models(plugins: Plugins, registry: Registry) -> dict[str, list[str]]:
    """List, by kind, the trainable generators and classifiers of which the registry has no model."""
    published = {(entry.kind, entry.plugin) for entry in registry.entries}
    trainable = {
        GENERATOR: [name for name, spec in plugins.generators.items() if spec.trainable],
        CLASSIFIER: list(plugins.classifiers),
    }
    return {kind: sorted(name for name in names if (kind, name) not in published) for kind, names in trainable.items()}
