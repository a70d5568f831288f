"""Classifiers on frozen features in an experiment: what is extracted how often, and what their cells are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medzoo.data.phantom import phantom_dataset
from medzoo.errors import ConfigError
from medzoo.experiment.config import read_design
from medzoo.experiment.forecast import forecast
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.run import run
from medzoo.experiment.worker import run_cell
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.report.experiment.text import describe_run
from medzoo.runs.progress import no_progress
from medzoo_classifiers.frozen import FrozenClassifier

COUNTS = {"normal": 10, "thick-wall": 6, "narrow-canal": 6}


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., ExperimentPlan]:
    """Plan an experiment of `frozen` on few images, with these settings."""

    def make(**settings: object) -> ExperimentPlan:
        given = {"classifiers": ["frozen"], "arms": ["duplicate"], "target": 8, "folds": 2, "preset": "tiny"}
        given |= settings
        design = tmp_path / "design.toml"
        design.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in given.items()))
        data = phantom_dataset(COUNTS, size=16, seed=1)
        source = make_source(load_plugins(), device="cpu")
        return plan_experiment(read_design(str(design)), data, tmp_path / "x", source=source)

    return make


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images are extracted at a time, the one to load weights by left out."""
    counts: list[int] = []
    extract = FrozenClassifier.extract

    def counting(self, images):
        if len(images) > 1:
            counts.append(len(images))
        return extract(self, images)

    monkeypatch.setattr(FrozenClassifier, "extract", counting)
    return counts


def test_run_cell_extracts_features_once_for_each_set(plan, extracted):
    work = plan()
    result = run(work, jobs=1, progress=no_progress)
    assert {cell.status for cell in result.cells} == {"done"}
    sets = [sum(task.counts.values()) for task in work.samplings]
    assert sum(extracted) == sum(COUNTS.values()) + sum(sets)
    assert {cell.steps for cell in result.cells} == {0}
    extracted.clear()
    again = run_cell(plan().worker, work.cells[0])  # another process reads them from the cache
    assert extracted == []
    assert again.scores == next(cell.scores for cell in result.cells if cell.key == again.key)


def test_describe_run_names_classifiers_trained_to_an_optimum(plan):
    result = run(
        plan(classifiers=["frozen", "cnn"], epochs=1, arms=["real"], controls=False), jobs=1, progress=no_progress
    )
    text = " ".join(describe_run(result))
    assert "The number of optimizer steps was the same in all arms: cnn" in text
    assert "frozen was trained to its optimum in all arms." in text
    assert "frozen saw features of a frozen network (weights " in text


def test_forecast_frozen_counts_each_image_once(plan):
    work = plan()
    found = forecast(work, measure=True)
    (model,) = [each for each in found.models if each.kind == "classifier"]
    assert (model.steps, found.steps_per_cell) == (0, {"frozen": 0})
    assert 0 < model.seconds < 60


def test_plan_experiment_arm_that_frozen_cannot_train(plan):
    with pytest.raises(ConfigError, match=r"'frozen' has no setting training\.horizontal_flip, which the arm"):
        plan(**{"pretrain.generator": "duplicate", "pretrain.geometric": [True]})


def test_run_cell_frozen_takes_levers_as_weights(plan, monkeypatch):
    given = []
    fit = FrozenClassifier.fit_features

    def recording(self, features, labels, *, weights=None, **rest):
        given.append(None if weights is None else sorted({round(float(value), 3) for value in weights}))
        return fit(self, features, labels, weights=weights, **rest)

    monkeypatch.setattr(FrozenClassifier, "fit_features", recording)
    some = {"controls": False, "baseline": "duplicate", "arms": ["duplicate"]}
    result = run(plan(**some, **{"use.loss_weight": [1.0, 0.3]}), jobs=1, progress=no_progress)
    assert result.failed == ()
    assert given == [None, [0.3, 1.0]] * 2
    given.clear()
    some["baseline"] = "duplicate, replace 0.5"
    result = run(plan(**some, **{"use.replace": 0.5}), jobs=1, progress=no_progress)
    assert result.failed == ()
    assert all(0.5 in weights for weights in given)
    with pytest.raises(ConfigError, match="'frozen' is trained to an optimum"):
        plan(arms=["duplicate"], **{"use.stage": "refit"})
