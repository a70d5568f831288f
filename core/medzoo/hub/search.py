"""Which rows of the catalogue are asked for: by words, by facts, by classes and by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from medzoo.errors import UnknownName
from medzoo.hub.registry import CLASSIFIER, GENERATOR, AssetRow, Registry, Row
from medzoo.plugins.lookup import Plugins

# What users call a field of a row, where they call it otherwise.
_CALLED = {"license": "licence", "classes": "class"}


class Kind(StrEnum):
    """The kinds of row; a model is a generator or a classifier."""

    GENERATOR = "generator"
    CLASSIFIER = "classifier"
    MODEL = "model"
    ASSET = "asset"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the rows asked for must have, in lower case; `Wanted.of` takes it in any."""

    words: tuple[str, ...]
    facts: Mapping[str, str]
    classes: frozenset[str]
    kind: Kind | None

    @classmethod
    def of(
        cls,
        words: Iterable[str] = (),
        *,
        modality: str | None = None,
        plugin: str | None = None,
        dataset: str | None = None,
        license: str | None = None,
        classes: Iterable[str] = (),
        kind: Kind | None = None,
    ) -> Self:
        """Rows with all of these; what is None or empty is not asked for."""
        facts = {"modality": modality, "plugin": plugin, "dataset": dataset, "license": license}
        return cls(
            words=tuple(word.lower() for word in words),
            facts={fact: value.lower() for fact, value in facts.items() if value},
            classes=frozenset(name.lower() for name in classes),
            kind=kind,
        )

    def takes(self, row: Row | AssetRow) -> bool:
        """Whether the row has all of it. An asset has fewer facts than a model, and no classes."""
        if self.kind and self.kind not in _kinds(row):
            return False
        if not all(getattr(row, fact, "").lower() == value for fact, value in self.facts.items()):
            return False
        if self.classes and not self.classes <= {name.lower() for name in getattr(row, "classes", ())}:
            return False
        return not self.words or all(word in _text(row) for word in self.words)

    def refuse_unknown(self, rows: Sequence[Row | AssetRow]) -> None:
        """Nothing. Raises: UnknownName for a fact or class that none of `rows` has."""
        asked = [*self.facts.items(), *(("classes", name) for name in sorted(self.classes))]
        for fact, value in asked:
            had = [getattr(row, fact, ()) for row in rows]
            known = {name for names in had for name in ([names] if isinstance(names, str) else names)}
            if value not in {name.lower() for name in known}:
                raise UnknownName(_CALLED.get(fact, fact), value, known)


def unpublished(plugins: Plugins, registry: Registry) -> dict[str, list[str]]:
    """By kind, the names of generators and classifiers that learn and of which the catalogue has no model."""
    published = {(row.kind, row.plugin) for row in registry.rows}
    learning = {
        GENERATOR: [name for name, spec in plugins.generators.items() if spec.trainable],
        CLASSIFIER: list(plugins.classifiers),
    }
    return {kind: sorted(name for name in names if (kind, name) not in published) for kind, names in learning.items()}


def _kinds(row: Row | AssetRow) -> tuple[str, ...]:
    """What `Wanted.kind` may call the row."""
    return (Kind.MODEL, row.kind) if isinstance(row, Row) else (Kind.ASSET,)


def _text(row: Row | AssetRow) -> str:
    """Everything words are looked for in."""
    facts = [row.id, row.summary, row.license]
    if isinstance(row, Row):
        facts += [row.plugin, row.modality, row.dataset, *row.classes]
    return " ".join(facts).lower()
