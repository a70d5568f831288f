"""Arms whose images are selected from a pool: what is drawn, what the selection sees, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medzoo.data.phantom import phantom_dataset, write_phantom
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.evaluation.features import DatasetExtractor
from medzoo.experiment import selection
from medzoo.experiment.config import read_design
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.run import run
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.report.experiment.report import write_experiment_report
from medzoo.report.experiment.selection import selection_shares
from medzoo.runs.progress import no_progress

COUNTS = {"normal": 10, "thick-wall": 6, "narrow-canal": 6}


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., ExperimentPlan]:
    """Plan an experiment of the tiny `cnn` whose arms select, with these settings under use."""

    def make(*, arms: tuple[str, ...] = ("classic",), allow_leak: bool = False, **use: object) -> ExperimentPlan:
        given: dict[str, object] = {
            "classifiers": ["cnn"],
            "arms": ["real", *arms],
            "target": 8,
            "folds": 2,
            "epochs": 1,
        }
        given |= {"epochs": 1, "preset": "tiny", "controls": False, "batch_size": 4}
        given |= {f"use.{key}": value for key, value in {"extractor": "pixels", **use}.items()}
        design = tmp_path / "design.toml"
        design.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in given.items()))
        data = phantom_dataset(COUNTS, size=16, seed=1)
        source = make_source(load_plugins(), device="cpu")
        return plan_experiment(read_design(str(design)), data, tmp_path / "x", source=source, allow_leak=allow_leak)

    return make


def test_plan_draws_a_pool_for_the_arms_that_select(plan):
    one, more = plan(select=["none"]), plan(select=["none", "agreement", "random"], pool=3.0)
    assert [cell.arm.name for cell in more.cells if cell.fold == more.cells[0].fold] == [
        "real",
        "classic",
        "classic, select agreement",
        "classic, select random",
    ]
    filled = [cell for cell in more.cells if cell.arm.mixture]
    for task, larger in zip(one.samplings, more.samplings, strict=True):
        assert task.key == larger.key  # the same images, and more of them
        needed = [cell.synthetic["classic"] for cell in filled if cell.fold == task.fold]
        assert needed == [needed[0]] * 3
        assert all(larger.counts[label] >= 3 * count for label, count in needed[0].items())
    plain = {cell.key for cell in one.cells}
    assert plain == {cell.key for cell in more.cells if cell.arm.select == "none"}
    smaller = plan(select=["agreement"], pool=2.0)
    assert not {cell.key for cell in filled} & {cell.key for cell in smaller.cells if cell.arm.mixture}


def test_run_keeps_the_counts_and_says_what_was_kept(plan, tmp_path):
    work = plan(select=["none", "agreement+novelty", "random"])
    results = run(work, jobs=1, progress=no_progress)
    assert not [cell.error for cell in results.cells if cell.error]
    for cell in [cell for cell in results.cells if cell.arm != "real"]:
        counts = next(each.synthetic["classic"] for each in work.cells if each.key == cell.key)
        assert {name: count for name, count in cell.images["classic"].items() if count} == counts
        notes = cell.notes.get("selection of classic", {})
        if cell.arm == "classic":
            assert not notes
            continue
        for label, count in counts.items():
            assert (notes[f"{label}: pool"], notes[f"{label}: kept"]) == (2 * count, count)
            assert ("agreed" in str(notes)) == ("agreement" in cell.arm)
    assert len(list((tmp_path / "x" / "selections").iterdir())) == 4  # of two folds and two arms


def test_selection_sees_the_training_part_alone(plan, monkeypatch):
    work = plan(select=["agreement"])
    seen = []
    measure = selection.measure

    def watch(pool, real, **given):
        seen.append((pool, real))
        return measure(pool, real, **given)

    monkeypatch.setattr(selection, "measure", watch)
    run(work, jobs=1, progress=no_progress)
    data = work.worker.images.data
    (everything,) = work.worker.extractor.extract(
        data, work.worker.image_of(work.worker.generators["classic"], data), crop="none", mirrored=False
    )
    for fold, (pool, real) in zip(work.worker.images.folds, seen, strict=True):
        assert np.array_equal(real.labels, data.labels[list(fold.train)])
        assert np.allclose(real.features, everything[list(fold.train)])
        assert (pool.sources >= 0).all()  # `classic` varies training images


def test_selection_is_made_once_for_cells_with_the_same_images(plan, monkeypatch):
    calls = []
    rank = selection.rank
    monkeypatch.setattr(selection, "rank", lambda *given, **named: calls.append(1) or rank(*given, **named))
    results = run(plan(select=["random"], loss_weight=[1.0, 0.3]), jobs=1, progress=no_progress)
    assert len(results.cells) == 6
    assert len(calls) == 2


def test_run_too_few_images_pass(plan, monkeypatch):
    """Every image is a copy of a real one that is not its source."""
    monkeypatch.setattr(selection, "_sources", lambda drawn, names: np.full(len(drawn), -1))
    results = run(plan(arms=("duplicate",), select=["novelty"]), jobs=1, progress=no_progress)
    errors = [cell.error for cell in results.cells if cell.error]
    assert len(errors) == 2
    assert all("too few images pass novelty: 0 of " in error for error in errors)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        ({"select": ["agrement"]}, UnknownName, "agrement"),
        ({"select": ["random+agreement"]}, ConfigError, "random is the control for agreement"),
        ({"select": ["random"], "pool": 1.0}, ConfigError, r"use\.pool"),
        ({"select": []}, ConfigError, r"use\.select is empty"),
        ({"select": ["agreement"], "extractor": "nothing"}, UnknownName, "nothing"),
    ],
)
def test_plan_bad_selection(plan, use, error, message):
    with pytest.raises(error, match=message):
        plan(**use)


def test_plan_extractor_trained_on_test_images(plan, monkeypatch):
    first = plan(select=["agreement"])

    class Seen(DatasetExtractor):
        def __init__(self):
            self.name, self.identity = "seen", "seen"
            self.trained_on = frozenset(first.worker.images.fingerprints[:5])

    monkeypatch.setattr(selection, "load_extractor", lambda *given: Seen())
    monkeypatch.setattr("medzoo.experiment.worker.load_extractor", lambda *given: Seen())
    with pytest.raises(DataError, match="the extractor 'seen' was trained on 5 of the 22 test images"):
        plan(select=["agreement"])
    plan(select=["random"])
    plan(select=["agreement"], allow_leak=True)


def test_report_states_the_share_kept(plan):
    results = run(plan(select=["agreement+novelty", "random"], pool=2.5), jobs=1, progress=no_progress)
    shares = selection_shares(results)
    assert list(shares) == ["classic, select agreement+novelty", "classic, select random"]
    for label, row in shares["classic, select agreement+novelty"].items():
        assert label in COUNTS
        assert 0 < row["kept"] <= 0.4
        assert set(row) == {"kept", "near_copies", "agreed", "kept_agreed"}
    assert all(set(row) == {"kept"} for row in shares["classic, select random"].values())
    write_experiment_report(results)
    page = (results.folder / "report.html").read_text()
    assert "Selected images" in page
    assert "Arms that select drew 2.5 images for each one kept" in page


def test_run_selects_from_a_folder(plan, tmp_path):
    write_phantom(tmp_path / "made", counts=dict.fromkeys(COUNTS, 16), size=16, seed=9)
    name = f"folder:{tmp_path / 'made'}"
    results = run(plan(arms=(name,), select=["agreement"]), jobs=1, progress=no_progress)
    kept = [cell.notes[f"selection of {name}"] for cell in results.cells if cell.arm != "real"]
    assert len(kept) == 2
    assert all(notes["thick-wall: pool"] == 2 * notes["thick-wall: kept"] for notes in kept)
    with pytest.raises(DataError, match="has 16 images of"):
        plan(arms=(name,), select=["random"], pool=20.0)
