"""A model card folder from a training run: what is published, and the registry row that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medzoo.errors import DataError
from medzoo.hub.registry import CLASSIFIER, GENERATOR
from medzoo.hub.registry_file import entry_toml
from medzoo.models.classifiers import LoadedClassifier, load_classifier_folder
from medzoo.models.folder import number_of_weights, read_description
from medzoo.models.generators import LoadedModel, load_model
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.about import About
from medzoo.publishing.card_text import FORMS
from medzoo.publishing.classifier_card import write_classifier_card
from medzoo.publishing.generator_card import write_generator_card
from medzoo.runs.record import read_run
from medzoo.storage.files import make_folder, sha256_file
from medzoo.training.train_classifier import JOB

TRAININGS: Mapping[str, str] = {"train": GENERATOR, JOB: CLASSIFIER}
"""The jobs whose runs get a card, and the kind of model each makes."""


def write_card(run: Path, out: Path, about: About, *, plugins: Plugins, overrides: tuple[str, ...] = ()) -> str:
    """The registry row (TOML) of the card written to `out`: README.md, config.json, model.safetensors (fp16), samples.

    The samples are drawn from the weights as published; a classifier's card has none. `overrides` change the settings
    of sampling, or of prediction, that the card ships with.

    Raises:
        DataError: `run` is no finished training run, a classifier's lacks held-out scores, or `out` holds more than a
            card.
    """
    record = read_run(run)
    kind = TRAININGS.get(record.get("job", "")) if record is not None else None
    if record is None or kind is None:
        raise DataError(f"{run} is no finished training run", "run its training command again to finish it")
    _refuse_other_files(out, FORMS[kind].files)
    make_folder(out)
    write = write_classifier_card if kind == CLASSIFIER else write_generator_card
    return registry_row(about, write(run, out, about, record, plugins=plugins, overrides=overrides), out)


def _refuse_other_files(out: Path, files: tuple[str, ...]) -> None:
    """Nothing. Raises: DataError if `out` is a file or holds what is no part of a card, as a run's own folder does."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    found = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    others = [name for name in found if name not in files and not name.startswith(".")]
    if others:
        raise DataError(f"{out} holds other files than a card's: {others[0]}", "choose another --out")


def load_published(folder: Path, *, plugins: Plugins) -> LoadedModel | LoadedClassifier:
    """The model of either kind in a card folder. Raises: as `load_model`."""
    if read_description(folder).get("kind", GENERATOR) == CLASSIFIER:
        return load_classifier_folder(folder, plugins=plugins, device="cpu")
    return load_model(folder, plugins=plugins, device="cpu")


def registry_row(about: About, model: LoadedModel | LoadedClassifier, folder: Path) -> str:
    """The row of registry.toml for a card folder."""
    return entry_toml(row_values(about, model, folder))


def row_values(about: About, model: LoadedModel | LoadedClassifier, folder: Path) -> dict[str, Any]:
    """The values of the row, by key; the kind of a generator goes without saying."""
    kind = CLASSIFIER if isinstance(model, LoadedClassifier) else GENERATOR
    return {
        "id": about.id,
        "kind": kind if kind != GENERATOR else "",
        "plugin": model.spec.name,
        "summary": about.summary,
        "repo": about.repo,
        "modality": about.modality,
        "dataset": about.dataset,
        "classes": list(model.image.classes),
        "size": model.image.size,
        "channels": model.image.channels,
        "license": about.license,
        "parameters": parameters(model),
        "default": about.default,
        "files": [
            {"name": name, "sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
            for name in FORMS[kind].files
        ],
    }


def parameters(model: LoadedModel | LoadedClassifier) -> int:
    """How many numbers the weights hold."""
    return number_of_weights(model.classifier if isinstance(model, LoadedClassifier) else model.generator)
