"""Reading studies made up in memory, and the files that simulated readers send."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.storage.files import with_checksum
from medzoo.study.key import ORIGIN, TASKS, Study, StudyImage, Trial

Read = Callable[[Study, Trial], Mapping[str, int]]
"""What a reader answers to a trial, by task."""


def made_study(*, per_class: int = 10, repeats: int = 2, tasks: tuple[str, ...] = TASKS, pairs: bool = False) -> Study:
    """A study of two classes; the first `repeats` trials are shown again at the end."""
    classes = ("benign", "malignant")
    images = [
        StudyImage(
            synthetic=synthetic, label=label, name=f"{label}/{synthetic:d}-{k}.png", fingerprint=f"{len(label)}{k}"
        )
        for label in classes
        for k in range(per_class)
        for synthetic in (False, True)
    ]
    if pairs:
        shown = [(k, k + 1) if k // 2 % 2 else (k + 1, k) for k in range(0, len(images), 2)]
    else:
        shown = [(k,) for k in range(len(images))]
    trials = [Trial(id=f"{k:012x}", images=each) for k, each in enumerate(shown)]
    trials += [Trial(id=f"{len(shown) + k:012x}", images=shown[k], repeat_of=trials[k].id) for k in range(repeats)]
    return Study(
        id="0123456789abcdef",
        secret="ab" * 32,
        design={"title": ""},
        tasks=(ORIGIN,) if pairs else tasks,
        classes=classes,
        pairs=pairs,
        side=64,
        images=tuple(images),
        trials=tuple(trials),
        page_sha256="0" * 64,
    )


def simulated_reader(d_prime: float, random: np.random.Generator, *, right_class: float = 0.8) -> Read:
    """A reader who sees evidence of unit variance, `d_prime` higher for synthetic images, in six levels."""

    def read(study: Study, trial: Trial) -> dict[str, int]:
        synthetic = study.synthetic(trial)
        # Of a pair, the evidence is the difference of both images', right minus left.
        sign = (1 if synthetic else -1) if study.pairs else synthetic
        evidence = random.normal(d_prime * sign, np.sqrt(2)) if study.pairs else random.normal(d_prime * sign)
        cuts = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) + (0 if study.pairs else d_prime / 2)
        label = study.classes.index(study.label(trial))
        given = {
            "origin": 1 + int((evidence > cuts).sum()),
            "class": 1 + (label if random.random() < right_class else (label + 1) % len(study.classes)),
            "quality": int(random.integers(2, 6)) - (0 if synthetic else 1),
        }
        return {task: given[task] for task in study.tasks}

    return read


def answers_of(study: Study, code: str, read: Read) -> dict[str, Any]:
    """The content of the file that a reader's browser saves."""
    answers = [
        {"trial": trial.id, **read(study, trial), "milliseconds": 4000, "adjusted": False} for trial in study.trials
    ]
    return {
        "format": "medzoo-study-answers",
        "version": 1,
        "study": study.id,
        "reader": code,
        "experience": 5,
        "started": "2026-01-01",
        "finished": "2026-01-02",
        "answers": answers,
    }


def write_answers(folder: Path, values: Mapping[str, Any], *, name: str = "") -> Path:
    """Write a reader's file with its checksum, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name or values['reader']}.json"
    path.write_text(json.dumps(with_checksum(values), indent=1) + "\n", encoding="utf-8")
    return path
