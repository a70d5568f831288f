"""Scores of a reading study: simulated readers of known skill are recovered, and answers are joined with the key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.reading_study import Read, answers_of, made_study, simulated_reader, write_answers
from scipy import stats

from medzoo.errors import ConfigError
from medzoo.study.answers import read_answers
from medzoo.study.key import CALLED, Study, Trial
from medzoo.study.score import StudyScores, score_answers


def scores_of(study: Study, readers: Sequence[Read], folder: Path, **margins: float) -> StudyScores:
    """The scores of simulated readers."""
    files = [write_answers(folder, answers_of(study, f"r{k}", read)) for k, read in enumerate(readers)]
    return score_answers(study, read_answers(study, files), **margins)


def perfect(study: Study, trial: Trial) -> dict[str, int]:
    """A reader who knows everything."""
    given = {"origin": 6 if study.synthetic(trial) else 1, "class": 1 + study.classes.index(study.label(trial))}
    return {task: given.get(task, 3) for task in study.tasks}


@pytest.mark.parametrize("d_prime", [0.0, 1.0])
def test_score_answers_recovers_skill(tmp_path: Path, d_prime: float) -> None:
    # Of 20 studies of five readers, the 95% intervals hold the truth in 19 on average; fewer than 16 has a probability
    # of 0.3%. Six levels lose a little of the area of the continuous scale.
    truth = {
        "auc": float(stats.norm.cdf(d_prime / math.sqrt(2))),
        "accuracy": float(stats.norm.cdf(d_prime / 2)),
        "d_prime": d_prime,
        "class_difference": 0.0,
    }
    study, random = made_study(per_class=20, repeats=0), np.random.default_rng(11)
    held = dict.fromkeys(truth, 0)
    repetitions = 20
    for k in range(repetitions):
        found = scores_of(study, [simulated_reader(d_prime, random) for _ in range(5)], tmp_path / str(k)).pooled
        for name, value in truth.items():
            held[name] += found[name].low - 0.005 <= value <= found[name].high + 0.005
    assert min(held.values()) >= 16, held


def test_score_answers_pairs_recover_skill(tmp_path: Path) -> None:
    study, random = made_study(per_class=60, repeats=0, pairs=True), np.random.default_rng(3)
    found = scores_of(study, [simulated_reader(1.0, random) for _ in range(4)], tmp_path)
    # Two-alternative forced choice: P(right) = Phi(d' / sqrt 2), which is the area of the same reader's ROC curve.
    assert found.main == "accuracy"
    assert found.pooled["accuracy"].low < stats.norm.cdf(1 / math.sqrt(2)) < found.pooled["accuracy"].high
    assert found.pooled["d_prime"].low < 1.0 < found.pooled["d_prime"].high
    assert not found.curves
    assert sum(row.real[1] for row in found.origins) == sum(
        round(reader.estimates["accuracy"].value * 120) for reader in found.readers
    )


def test_score_answers_perfect_reader(tmp_path: Path) -> None:
    study = made_study()
    found = scores_of(study, [perfect], tmp_path)
    assert found.pooled["auc"].value == found.pooled["accuracy"].value == 1
    assert found.pooled["accuracy"].low == pytest.approx(0.025 ** (1 / 40))
    assert found.p < 1e-6
    assert not found.equivalences["auc"].shown
    assert found.confusion["real"] == found.confusion["synthetic"] == ((10, 0), (0, 10))
    assert [(row.real, row.synthetic) for row in found.origins] == [((10, 0), (0, 10))] * 2
    assert found.readers[0].agreement["class"].n == 2
    assert not found.agreement


def test_score_answers_reader_who_always_says_the_same(tmp_path: Path) -> None:
    found = scores_of(made_study(), [lambda study, trial: dict.fromkeys(study.tasks, 1)], tmp_path)
    assert found.pooled["auc"].value == 0.5
    assert found.p == 1
    assert not found.equivalences["auc"].shown  # without spread, nothing is known of other images
    assert "one category" in found.readers[0].agreement["origin"].reason
    assert found.readers[0].criterion > 1


def test_score_answers_repeats_count_once(tmp_path: Path) -> None:
    study = made_study(per_class=5, repeats=4)

    def changed_mind(given: Study, trial: Trial) -> dict[str, int]:
        right = perfect(given, trial)
        return {**right, "origin": 7 - right["origin"]} if trial.repeat_of else right

    found = scores_of(study, [changed_mind], tmp_path)
    assert found.pooled["accuracy"].value == 1
    assert found.readers[0].repeated == 4
    assert found.readers[0].agreement["origin"].value == -1
    assert found.readers[0].agreement["class"].n == 4


def test_score_answers_agreement_between_readers(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    found = scores_of(made_study(), [perfect, perfect, simulated_reader(0.0, random, right_class=0.5)], tmp_path)
    assert 0 < found.agreement["origin"].value < 1
    assert 0 < found.agreement["class"].value < 1
    assert scores_of(made_study(), [perfect, perfect], tmp_path / "two").agreement["origin"].value == 1


def test_score_answers_calls_from_the_middle_up(tmp_path: Path) -> None:
    def unsure(study: Study, trial: Trial) -> dict[str, int]:
        return dict.fromkeys(study.tasks, 1) | {"origin": CALLED if study.synthetic(trial) else CALLED - 1}

    found = scores_of(made_study(tasks=("origin",)), [unsure], tmp_path)
    assert found.pooled["sensitivity"].value == found.pooled["specificity"].value == 1
    assert set(found.equivalences) == {"auc"}


@pytest.mark.parametrize("margins", [{"margin": 0.0}, {"margin": 0.5}, {"quality_margin": 4.0}])
def test_score_answers_margin_out_of_range(tmp_path: Path, margins: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is out of range"):
        scores_of(made_study(), [perfect], tmp_path, **margins)
