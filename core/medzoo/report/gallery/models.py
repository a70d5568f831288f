"""What a gallery says of a model: its registry entry, and of the files at hand the settings, scores and card."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medzoo.errors import DataError
from medzoo.hub.entries import CONFIG, README, SAMPLES, ModelEntry
from medzoo.hub.registry import CLASSIFIER, GENERATOR
from medzoo.hub.sources import AT_HAND, locate
from medzoo.report.gallery.card import render_card
from medzoo.report.gallery.data import EvaluationPage, mapping
from medzoo.report.gallery.images import Samples, card_samples
from medzoo.storage.files import read_json

logger = logging.getLogger(__name__)

COPY_CHECK = "copy_check"
"""The note of a memorization check, as `evaluation.memorization` writes it."""

_SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1": "F1", "auc": "ROC area"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Scores on one set of images: each with its name, value, and floor, which is what guessing gets, or None."""

    title: str
    scores: tuple[tuple[str, float, float | None], ...]


@dataclass(frozen=True, kw_only=True)
class ModelPage:
    """A model and what its page shows. `card` is None where its files are not on this machine (`remote`)."""

    entry: ModelEntry
    remote: bool
    card: Markup | None = None
    samples: Samples = Samples()
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False
    failed_copy_check: bool = False
    evaluations: tuple[EvaluationPage, ...] = ()

    @property
    def name(self) -> str:
        """What the user writes for it."""
        return self.entry.name

    @property
    def file(self) -> str:
        """The page's path in the gallery."""
        return f"models/{self.name}.html"

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """What one may want of the model, and the command that does it."""
        name = self.name
        pull = ("Download it into the cache", self.entry.fetch_command)
        if self.entry.kind == CLASSIFIER:
            return (
                pull,
                ("Predict classes", f"medzoo classify predict {name} --data YOUR_IMAGES --out predictions.csv"),
                ("Compare images", f"medzoo evaluate --real YOUR_IMAGES --fake SYNTHETIC --metric fid@{name}"),
            )
        label = f" --label {self.entry.classes[0]}" if self.multi_label else ""
        return (
            pull,
            ("Sample images", f"medzoo sample {name}{label} --n 8 --grid grid.png"),
            ("Fill up your own images", f"medzoo augment --gen {name} --data YOUR_IMAGES --to 500"),
        )


def model_page(entry: ModelEntry) -> ModelPage:
    """Read what is on this machine of a model. Nothing is downloaded; files that are not the registry's are left out.

    The hashes of the small files are compared, not those of weights.
    """
    state, folder = locate(entry)
    if state not in AT_HAND or folder is None:
        return ModelPage(entry=entry, remote=True)
    paths = dict(_intact(entry, folder))
    values: dict[str, Any] = {}
    if README in paths:
        values["card"] = render_card(paths[README].read_text("utf-8", errors="replace"))
    if SAMPLES in paths and entry.kind == GENERATOR:
        try:
            values["samples"] = card_samples(paths[SAMPLES], entry)
        except DataError as error:
            logger.warning(f"{entry.name}: {error.message}; its samples are left out")
    if CONFIG in paths:
        values |= _described(paths[CONFIG], entry)
    return ModelPage(entry=entry, remote=False, **values)


def _intact(entry: ModelEntry, folder: Path) -> Iterator[tuple[str, Path]]:
    for file in entry.files:
        path = folder / file.name
        if file.name not in (README, CONFIG, SAMPLES):
            continue
        if file.matches(path):
            yield file.name, path
        else:
            logger.warning(f"{path} is not the file that the registry names; left out ({entry.fetch_command})")


def _described(path: Path, entry: ModelEntry) -> dict[str, Any]:
    """Return what config.json says, as far as it is of the right types: strangers write it too."""
    try:
        content = read_json(path)
    except ValueError as error:
        logger.warning(f"{path} is not JSON: {error}; left out")
        return {}
    config, data, image, notes = (mapping(mapping(content).get(key)) for key in ("config", "data", "image", "notes"))
    multi_label = image.get("multi_label") is True
    measured = () if multi_label or entry.kind != CLASSIFIER else tuple(_measured(notes, entry))
    shown = {COPY_CHECK, *(key for key in notes if measured and key.startswith("held_out"))}
    return {
        "settings": config,
        "counts": mapping(data.get("counts")),
        "multi_label": multi_label,
        "measured": measured,
        "notes": {key: value for key, value in notes.items() if key not in shown and value},
        "failed_copy_check": mapping(notes.get(COPY_CHECK)).get("verdict") == "failed",
    }


def _measured(notes: Mapping[str, Any], entry: ModelEntry) -> Iterator[Measured]:
    """Yield the held-out scores of a classifier, one label per image."""
    for topic, facts in notes.items():
        if not (topic.startswith("held_out") and isinstance(facts, Mapping) and isinstance(facts.get("images"), int)):
            continue
        support = {
            name: count for name, count in mapping(notes.get(f"{topic}_by_class")).items() if isinstance(count, int)
        }
        floors = {"balanced_accuracy": 1 / max(1, len(entry.classes)), "auc": 0.5}
        if sum(support.values()) == facts["images"]:
            floors["accuracy"] = max(support.values()) / facts["images"]
        scores = []
        for name, value in facts.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or name == "images":
                continue
            label = name.removeprefix("recall ")
            number = f", {support[label]} images" if label != name and label in support else ""
            scores.append((f"{_SCORES.get(name, name)}{number}", float(value), floors.get(name)))
        yield Measured(title=f"{facts['images']} {facts.get('of', 'images')}", scores=tuple(scores))
