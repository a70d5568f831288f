"""A tuning's folder with made-up trials, experiments and pools, for tests of its report."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from helpers.example_experiment import CLASSES, made_experiment
from medzoo.data.images import write_image
from medzoo.data.metadata import FIELDS
from medzoo.data.phantom import write_phantom
from medzoo.experiment.config import parse_arms
from medzoo.tuning.policy import Policy
from medzoo.tuning.results import FINALISTS, HELD_OUT, POOLS, PoolInfo, TrialResult, TuningResult

BASELINES = {"real": 0.742, "weighted": 0.75, "duplicate": 0.758, "classic": 0.771}


def made_tuning(folder: Path, *, trials: int = 40, augment: bool = True, **given: Any) -> TuningResult:
    """A finished tuning in `folder`; `given` replaces fields of the result."""
    pools = (_pool(folder, "ddpm-var-busi@0.3", strength=0.3), _pool(folder, "ldm-busi", strength=None))
    made = _trials(trials, [pool.name for pool in pools])
    best = max(made, key=lambda trial: trial.score, default=None)
    name = "ddpm-var-busi@0.3 to 1, weight 0.3"
    images = {pool.name: f"folder:{folder / POOLS / pool.name}" for pool in pools}
    tables = [
        {"images": images["ddpm-var-busi@0.3"], "name": name, "target": 300, "loss_weight": 0.3},
        {"images": images["ldm-busi"], "name": "ldm-busi to 75%, weight 0.6", "target": 225, "loss_weight": 0.6},
    ]
    skill = {"real": 1.2, "weighted": 1.25, name: 1.9 if augment else 1.2}
    both, one = (
        parse_arms([json.dumps(table) for table in own], targets=[300], controls=True) for own in (tables, tables[:1])
    )
    common: dict[str, Any] = {"classifiers": ("cnn",), "skill": skill}
    finalists = made_experiment(folder / FINALISTS, arms=both, folds=3, **common)
    held_out = made_experiment(folder / HELD_OUT, arms=one, folds=0, seeds=5, **common)
    verdict = (
        "Augment: on 36 held-out images, the policy helps 'cnn'"
        if augment
        else "Do not augment: in the inner folds no policy beat 'classic'"
    )
    policy = Policy(
        augment=augment,
        generator="ddpm-var-busi@0.3",
        settings={"sampling.guidance_scale": 2.0},
        weights_sha256="ab" * 32,
        plugin="ddpm-var",
        plugin_version="0.1.0",
        classes=CLASSES,
        loss_weight=0.3,
        verdict=verdict,
        tuned={"classifier": "cnn", "policies": trials, "seed": 0},
    )
    fields: dict[str, Any] = {
        "folder": folder,
        "settings": {
            "trials": trials, "folds": 3, "seeds": 5, "search": "frozen", "metric": "balanced_accuracy",
            "loss_weight": [1.0, 0.6, 0.3],
        },
        "origins": {"trials": "--trials", "metric": "default"},
        "trials": made,
        "baselines": BASELINES,
        "pools": pools,
        "finalists": finalists,
        "held_out": held_out,
        "policy": policy,
        "verdict": verdict,
        "seconds": {"drawing": 312.0, "features": 41.5, "search": 520.2, "finalists": 610.0, "held-out": 388.9},
        "budget": 60.0,
        "provenance": {
            "medzoo": "0.1.0",
            "classifier": "cnn",
            "device": "cpu",
            "data": {
                "path": str(folder / "data"),
                "counts": dict.fromkeys(CLASSES, 40),
                "held_out": {"test": dict.fromkeys(CLASSES, 12)},
            },
        },
        "warnings": ("ddpm-var-busi@0.3: trained on images that the inner folds test on",),
    }  # fmt: skip
    fields |= {"winner": None if best is None else best.number, "control": "classic"}
    return TuningResult(**{**fields, **given})


def _trials(count: int, pools: list[str]) -> tuple[TrialResult, ...]:
    rng = np.random.default_rng(0)
    choices = itertools.product(
        pools, (0.75, 1.0, 1.5), (1.0, 0.6, 0.3), ("together", "replace 0.5"), ("none", "agreement")
    )
    every = list(choices)
    made = []
    for number in range(count):
        pool, target, weight, use, select = every[int(rng.integers(len(every)))]
        params = {
            "pool": pool,
            "target": target,
            "loss_weight": weight,
            "use": use,
            "classes": "minority",
            "select": select,
        }
        name = ", ".join([f"{pool} to {target:g}", f"weight {weight:g}"])
        lift = 0.02 * (weight < 1) + 0.015 * ("@" in pool) - 0.04 * (use != "together")
        score = float(0.755 + lift + 0.008 * rng.normal())
        arm = {"images": pool, "name": name, "target": 300}
        made.append(TrialResult(number=number, params=params, arm=arm, score=score, sd=0.02, seconds=2.5))
    return tuple(made)


def _pool(folder: Path, name: str, *, strength: float | None) -> PoolInfo:
    """A pool of noise, with the sources of variations in the folder `data`."""
    if not (folder / "data").exists():
        write_phantom(folder / "data", counts={"normal": 4, "thick-wall": 4}, size=24, seed=1)
        for old, new in (("normal", "normal"), ("thick-wall", "malignant")):
            (folder / "data" / old).rename(folder / "data" / new)
    rows, home = [], folder / POOLS / name
    rng = np.random.default_rng(1)
    for label in ("malignant", "normal"):
        sources = sorted((folder / "data" / label).glob("*.png"))
        for index in range(6):
            file = f"{label}/synthetic-{name}-{index:06d}.png"
            write_image(home / file, rng.integers(0, 255, (1, 24, 24), dtype=np.uint8))
            source = f"{label}/{sources[index % len(sources)].name}" if strength is not None else ""
            rows.append((file, label, "synthetic", name, "ab" * 32, str(index), source, str(strength or ""), ""))
    with (home / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([FIELDS, *rows])
    return PoolInfo(name=name, generator=name, strength=strength, settings={}, images=len(rows), seconds=156.0)
