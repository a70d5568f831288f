"""An experiment's folder with made-up predictions, for tests of what is read and reported of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.classification.predict import Predictions
from medzoo.classification.scores import classification_scores
from medzoo.data.dataset import Dataset
from medzoo.experiment.config import Arm, parse_arms
from medzoo.experiment.results import CellResult, Experiment, load_results, predictions_file
from medzoo.storage.files import write_atomic

CLASSES = ("benign", "malignant", "normal")
ARMS = parse_arms(
    ["ddpm-var", "ldm", "ldm=0.5+ddpm-var=0.5"],
    targets=[500],
    controls=True,
)
SKILL = {"real": 1.2, "weighted": 1.3, "duplicate": 1.4, "classic": 1.7}
"""How much higher the score of the right class is than that of another, by arm; 1.5 for others."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What to make up. `failed` and `missing` are (arm, classifier, fold or seed).

    `absent` classes have no test image in any fold, `rare` ones in the first alone.
    """

    name: str = "busi-small"
    classes: tuple[str, ...] = CLASSES
    arms: tuple[Arm, ...] = ARMS
    classifiers: tuple[str, ...] = ("cnn", "resnet18")
    folds: int = 5
    seeds: int = 1
    multi_label: bool = False
    failed: frozenset[tuple[str, str, int]] = frozenset()
    missing: frozenset[tuple[str, str, int]] = frozenset()
    absent: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()
    skill: Mapping[str, float] = field(default_factory=lambda: SKILL)
    baseline: str = "real"
    metric: str = "balanced_accuracy"
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = "ResourceError: the device ran out of memory at step 412"
    fingerprint: str = "3f" * 32
    steps: int = 200
    external: tuple[str, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether there is one test set, and seeds take the place of folds."""
        return self.folds == 0


def made_experiment(folder: Path, **given: Any) -> Experiment:
    """What `load_results` reads of the experiment that `Made(**given)` describes, written to `folder`."""
    made = Made(**given)
    entries = []
    for index, (arm, classifier, fold, seed) in enumerate(_grid(made)):
        names = {"arm": arm.name, "classifier": classifier, "fold": fold, "repeat": 0, "seed": seed}
        key = f"{index:020x}"
        entries.append({"key": key, **names, "steps": made.steps, "n_train_real": 500, "n_test": 36})
        place = (arm.name, classifier, seed if made.held_out else fold)
        if place in made.missing:
            continue
        if place in made.failed:
            result = CellResult(key=key, **names, status="failed", error=made.error, steps=made.steps)
        else:
            result = _cell(folder, made, arm, classifier, key, names)
        write_atomic(folder / "cells" / key / "result.json", json.dumps(result.to_dict()).encode())
    write_atomic(folder / "experiment.json", json.dumps(_description(made, entries)).encode())
    return load_results(folder)


def _grid(made: Made) -> list[tuple[Arm, str, int, int]]:
    return [
        (arm, classifier, fold, seed)
        for arm in made.arms
        for classifier in made.classifiers
        for fold in range(made.folds or 1)
        for seed in range(made.seeds)
    ]


def _cell(folder: Path, made: Made, arm: Arm, classifier: str, key: str, names: Mapping[str, Any]) -> CellResult:
    fold, seed = names["fold"], names["seed"]
    data = _test_images(made, fold)
    place = [made.arms.index(arm), made.classifiers.index(classifier), fold, seed]
    probabilities = _probabilities(made, data, arm, np.random.default_rng(place))
    scores = {}
    for number, name in enumerate(("", *made.external)):
        if name:
            data = _test_images(made, 0)
            probabilities = _probabilities(made, data, arm, np.random.default_rng([*place, number]))
        table = Predictions.of([(data, probabilities)], made.classes, multi_label=made.multi_label)
        write_atomic(folder / "cells" / key / predictions_file(name), table.to_csv().encode())
        scores[name] = classification_scores(data.labels, probabilities, made.classes, multi_label=made.multi_label)
    images = {"real": dict.fromkeys(made.classes, 40)}
    images |= {name: dict.fromkeys(made.classes, round(60 * share)) for name, share in arm.mixture.items()}
    total = sum(sum(counts.values()) for counts in images.values())
    return CellResult(
        key=key,
        **names,
        status="done",
        scores=scores.pop(""),
        external=scores,
        history=_history(made, arm, place),
        images=images,
        n_train=total,
        n_real=40 * len(made.classes),
        n_val=20,
        n_test=len(data),
        steps=made.steps,
        steps_done=made.steps,
        seconds=12.5,
        notes=_notes(arm, classifier),
    )


def _test_images(made: Made, fold: int) -> Dataset:
    """Some images a class, without pixels."""
    given = [
        (k, 0 if name in made.absent or (name in made.rare and fold) else 16 - 4 * min(k, 2))
        for k, name in enumerate(made.classes)
    ]
    labels = np.repeat(*map(np.array, zip(*given, strict=True))).astype(np.int64)
    names = tuple(f"{made.classes[k]}/{fold}-{index}.png" for index, k in enumerate(labels))
    if made.multi_label:
        hot = np.eye(len(made.classes), dtype=np.float32)[labels]
        hot[::3] = np.maximum(hot[::3], np.roll(hot[::3], 1, axis=1))
        hot[:, [name in made.absent for name in made.classes]] = 0
        labels = hot
    pixels = np.zeros((len(labels), 1, 1), np.uint8)
    return Dataset(path=Path("scans"), classes=made.classes, labels=labels, names=names, array=pixels)


def _probabilities(made: Made, data: Dataset, arm: Arm, rng: np.random.Generator) -> np.ndarray:
    skill = made.skill.get(arm.name, 1.5)
    scores = skill * data.hot() + rng.normal(size=(len(data), len(made.classes)))
    if made.multi_label:
        return np.asarray(1 / (1 + np.exp(skill / 2 - scores)), np.float32)
    powers = np.exp(scores)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _history(made: Made, arm: Arm, place: Sequence[int]) -> tuple[Mapping[str, float], ...]:
    rng = np.random.default_rng(place)
    rows = []
    for step in range(made.steps // 10, made.steps + 1, made.steps // 10):
        row = {"step": step, "loss": float(np.exp(-step / made.steps) + 0.05 * rng.random()), "learning_rate": 1e-3}
        row |= {"validation_loss": row["loss"] + 0.2, "balanced_accuracy": 0.5 + 0.3 * step / made.steps}
        rows.append({**row, "phase": 1.0 + (2 * step > made.steps)} if arm.pretrain else row)
    return tuple(rows)


def _notes(arm: Arm, classifier: str) -> dict[str, dict[str, float | str]]:
    source = "imagenet (timm/resnet18.a1_in1k)" if classifier.startswith("resnet") else "scratch"
    notes: dict[str, dict[str, float | str]] = {"weights": {"source": source}}
    for name in arm.mixture:
        if name == "ldm-busi":
            notes[f"lineage of {name}"] = {"trained on test images": 0, "trained on val images": 0}
        elif name not in ("duplicate", "classic"):
            notes[f"lineage of {name}"] = {"trained on": "this fold's training images", "run": "0a" * 10}
    return notes


def _description(made: Made, entries: list[dict[str, Any]]) -> dict[str, Any]:
    settings = {
        "classifiers": list(made.classifiers),
        "arms": ["ddpm-var", "ldm"],
        "target": sorted({arm.target for arm in made.arms if arm.target}),
        "folds": made.folds,
        "repeats": 1,
        "seeds": made.seeds,
        "epochs": 10,
        "baseline": made.baseline,
        "metric": made.metric,
        "validation": 0.1,
        "redraw": False,
        "seed": 0,
        "classifier.resnet18.image.size": 64,
        **made.settings,
    }
    return {
        "name": made.name,
        "held_out": made.held_out,
        "settings": settings,
        "origins": {key: "default" if key == "seed" else "grid.toml" for key in settings},
        "classes": list(made.classes),
        "multi_label": made.multi_label,
        "baseline": made.baseline,
        "metric": made.metric,
        "test_sets": list(made.external),
        "arms": [asdict(arm) for arm in made.arms],
        "classifiers": list(made.classifiers),
        "warnings": list(made.warnings),
        "provenance": _provenance(made),
        "cells": entries,
    }


def _provenance(made: Made) -> dict[str, Any]:
    folds = made.folds or 1
    data = _test_images(made, 0)
    counts = (folds * data.hot().sum(axis=0)).tolist()
    return {
        "medzoo": "0.1.0",
        "git_commit": "0a1b2c3",
        "device": "cpu",
        "hardware": "a processor, 2 threads",
        "data": {
            "path": "data/scans",
            "fingerprint": made.fingerprint,
            "size": folds * len(data),
            "counts": dict(zip(made.classes, counts, strict=True)),
            "parts": [{"train": 500, "val": 56, "test": len(data)}] * folds,
            "external": {
                name: {"path": f"data/{name}", "fingerprint": "0b" * 32, "counts": data.counts(), "near": 0}
                for name in made.external
            },
        },
        "reference": "an epoch is as many images as the largest filled training set has, in every arm",
        "generators": {name: _generator(name) for arm in made.arms for name in arm.mixture},
    }


def _generator(name: str) -> dict[str, Any]:
    if name in ("duplicate", "classic"):
        return {"kind": "weightless", "plugin": name, "config": {"image.size": 64}}
    if name == "ldm-busi":
        return {"kind": "published", "plugin": "ldm", "weights_sha256": "77" * 32, "overrides": []}
    return {"kind": "trained", "plugin": name, "config": {"image.size": 64, "training.epochs": 50}}
