"""Tuning how to use synthetic images: the same policy wherever it was killed, and no early look at held-out images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import make_model

import medzoo
from medzoo.data.dataset import open_dataset
from medzoo.data.metadata import read_metadata
from medzoo.data.phantom import write_phantom
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.experiment.tasks import Failure, Task
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import no_progress
from medzoo.tuning import pools
from medzoo.tuning import run as tuning
from medzoo.tuning.config import read_settings
from medzoo.tuning.plan import TuningJob, prepare, search_design
from medzoo.tuning.policy import read_policy
from medzoo.tuning.results import PHASES, TuningResult, load_tuning, read_tuning, write_tuning
from medzoo.tuning.run import run
from medzoo.tuning.space import table_of

COUNTS = {"normal": 20, "thick-wall": 12, "narrow-canal": 10}
TINY: dict[str, Any] = {
    "folds": 2, "trials": 4, "batch": 2, "finalists": 1, "seeds": 2, "epochs": 1, "preset": "tiny", "validation": 0.2,
    "classifier.frozen.preset": "tiny", "strength": [0.5, 1.0], "target": 1.5, "loss_weight": [1.0, 0.3],
    "replace": 0.0, "select": ["none", "distance"], "extractor": "pixels", "classes": "minority", "weighted": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with a train and a test part."""
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder / "all", counts=COUNTS, size=16, seed=3)
    medzoo.split_data(folder / "all", folder / "split", train=0.75, val=0.0, test=0.25)
    return folder / "split"


@pytest.fixture(scope="module")
def generator(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says it was trained on the training part."""
    trained_on = open_dataset(data).fingerprints()
    return make_model(tmp_path_factory.mktemp("models") / "tiny", classes=tuple(COUNTS), trained_on=trained_on)


@pytest.fixture(scope="module")
def job_of(data: Path, generator: Path) -> Callable[..., TuningJob]:
    """Prepare a tuning of the tiny model; settings are those of TINY and the given ones."""

    def make(
        out: Path,
        *,
        gens: tuple[str, ...] | None = None,
        images: Path | None = None,
        tests: tuple[Path, ...] = (),
        budget: float | None = None,
        allow_leak: bool = False,
        **settings: Any,
    ) -> TuningJob:
        own = {key.replace("__", "."): value for key, value in settings.items()}
        return prepare(
            open_dataset(images or data, log=False),
            read_settings(overrides={**TINY, **own}, classifier="cnn"),
            out,
            classifier="cnn",
            source=make_source(load_plugins(), device="cpu"),
            generators=(str(generator),) if gens is None else gens,
            tests=[open_dataset(test, log=False) for test in tests],
            budget=budget,
            allow_leak=allow_leak,
        )

    return make


@pytest.fixture(scope="module")
def finished(
    job_of: Callable[..., TuningJob], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TuningResult, TuningJob]:
    """A tuning that was never interrupted."""
    out, patch = tmp_path_factory.mktemp("tuned") / "r", pytest.MonkeyPatch()
    patch.setenv("MEDZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    try:
        job = job_of(out)
        return out, run(job, jobs=1, progress=no_progress), job
    finally:
        patch.undo()


def test_run_finds_a_policy(finished, data):
    out, result, job = finished
    assert [pool.name for pool in result.pools] == ["tiny-0.5", "tiny"]
    assert [trial.number for trial in result.trials] == list(range(4))
    assert {json.dumps(trial.params) for trial in result.trials[:2]} == {
        json.dumps(job.space.plain(pool)) for pool in job.space.pools
    }
    assert len({trial.arm["name"] for trial in result.trials}) == 4  # no policy is scored twice
    assert set(result.baselines) == {"real", "weighted", "duplicate", "classic"}
    assert set(result.seconds) == set(PHASES)
    assert result.held_out.held_out
    assert {cell.seed for cell in result.held_out.cells} == {0, 1}
    names = {arm.name for arm in result.held_out.arms}
    controls = {arm.name for arm in result.held_out.arms if arm.control}
    assert {"real", "weighted", "duplicate", "classic"} <= controls
    assert len(names - controls) == 1
    assert [found.family for found in result.comparisons] == [len(controls)] * len(controls)
    steps = {cell.steps for cell in result.held_out.cells}
    assert len(steps) == 1
    policy = read_policy(out / "policy.toml")
    assert policy == result.policy
    assert policy.verdict == result.verdict
    assert policy.classes == tuple(sorted(COUNTS))
    winner = result.trials[result.winner]
    assert policy.to_arm({"a": 100}).levers == job.space.arm(winner.params).levers
    assert load_tuning(out).to_dict() == result.to_dict()
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.verdict.startswith(("Do not augment: ", "Augment: ", "No gain is proved: "))


def test_run_uses_no_variation_of_an_image_outside_its_fold(finished):
    out = finished[0]
    plan = tuning._plan(result_design(finished), finished[2], finished[2].inner, "search")
    checked = 0
    for cell in plan.cells:
        for name, task in cell.samplings.items():
            rows = read_metadata(out / "pools" / Path(name).name) if task.ready else {}
            drawn, taken = plan.worker.synthetic(task, cell.synthetic[name])
            held = {plan.worker.images.data.names[index] for index in (*cell.fold.val, *cell.fold.test)}
            sources = {rows[drawn.names[index]]["source_image"] for index in taken} if rows else set()
            assert held.isdisjoint(sources)
            checked += len(sources - {""})
    assert checked > 0


def result_design(finished: tuple[Path, TuningResult, TuningJob]) -> Any:
    job = finished[2]
    arms = [table_of(job.space.arm(job.space.plain(pool))) for pool in job.space.pools]
    return search_design(job.design, arms=arms, target=[arms[0]["target"]])


def test_run_again_scores_nothing(finished, monkeypatch, logged):
    out, result, job = finished
    monkeypatch.setattr(tuning._Tuning, "finish", lambda *given: pytest.fail("it was done again"))
    (out / "policy.toml").rename(out / "elsewhere.toml")
    assert run(job, jobs=1, progress=no_progress).to_dict() == result.to_dict()
    assert (out / "policy.toml").read_bytes() == (out / "elsewhere.toml").read_bytes()
    assert any("its held-out images are not looked at again" in line for line in logged)


def test_run_killed_in_each_phase_goes_on_to_the_same_policy(finished, job_of, tmp_path, monkeypatch):
    job, calls = job_of(tmp_path / "r"), [0]

    class Killed(BaseException):
        pass

    def kill(where: Any, name: str, *, at: int) -> None:
        """Raise at the n-th call, and put the function back."""
        original, calls[0] = getattr(where, name), 0

        def dying(*given: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                raise Killed
            return original(*given, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, dying)
            with pytest.raises(Killed):
                run(job, jobs=1, progress=no_progress)
        assert not (tmp_path / "r" / "policy.toml").exists()

    held_out = tmp_path / "r" / "held-out"
    kill(tuning, "draw", at=2)
    scored: list[Task] = []

    class Dying(tuning.TaskWork):
        def __call__(self, task: Task) -> Failure | None:
            if len(scored) == 2:
                raise Killed
            scored.append(task)
            return super().__call__(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "TaskWork", Dying)  # a policy is half scored
        with pytest.raises(Killed):
            run(job, jobs=1, progress=no_progress)
    kill(tuning, "_check_complete", at=2)  # the finalists are trained
    assert not held_out.exists()
    kill(tuning, "_verdict", at=1)
    assert held_out.is_dir()
    before = {path: path.read_bytes() for path in held_out.glob("cells/*/result.json")}
    stored = read_tuning(tmp_path / "r")
    write_tuning(tmp_path / "r", {**stored, "pools": [{**pool, "seconds": 90.0} for pool in stored["pools"]]})
    result = run(job, jobs=1, progress=no_progress)
    assert all(pool.seconds >= 90 for pool in result.pools)  # the time of earlier runs counts
    assert before == {path: path.read_bytes() for path in held_out.glob("cells/*/result.json")}
    assert (tmp_path / "r" / "policy.toml").read_bytes() == (finished[0] / "policy.toml").read_bytes()
    same = [(trial.number, trial.params, trial.score) for trial in finished[1].trials]
    assert [(trial.number, trial.params, trial.score) for trial in result.trials] == same


def test_run_budget(job_of, tmp_path):
    with pytest.raises(
        ConfigError, match=r"--budget 0\.001 minutes is too small: drawing \d+ images takes about"
    ) as found:
        run(job_of(tmp_path / "r", budget=0.001), jobs=1, progress=no_progress)
    assert "give --budget " in found.value.hint
    assert not (tmp_path / "r" / "pools").exists()
    assert read_tuning(tmp_path / "r") is None


def test_prepare_folder_of_another_tuning(finished, job_of, data, tmp_path):
    out = finished[0]
    with pytest.raises(DataError, match=r"holds another job: its settings\.seed is 0, this one's is 1"):
        job_of(out, seed=1)
    write_phantom(tmp_path / "other", counts=COUNTS, size=16, seed=4)
    medzoo.split_data(tmp_path / "other", tmp_path / "split", train=0.75, val=0.0, test=0.25)
    with pytest.raises(DataError, match="holds another job"):
        job_of(out, images=tmp_path / "split")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        job_of(tmp_path / "full")


def test_prepare_what_cannot_be(job_of, data, generator, tmp_path):
    out = tmp_path / "r"
    with pytest.raises(DataError, match="has no test part") as found:
        job_of(out, images=data.parent / "all")
    assert "medzoo data split" in found.value.hint
    with pytest.raises(DataError, match=r"class 'narrow-canal' has \d training images, fewer than the 12 inner folds"):
        job_of(out, folds=12)
    held_out = open_dataset(data).held_out["test"].fingerprints()
    leaky = make_model(tmp_path / "leaky", classes=tuple(COUNTS), trained_on=held_out[:2])
    with pytest.raises(DataError, match=r"'leaky' was trained on 2 of the \d+ held-out images"):
        job_of(out, gens=(str(leaky),))
    assert job_of(out, gens=(str(leaky),), allow_leak=True).pools
    with pytest.raises(ConfigError, match="'classic' has no weights"):
        job_of(out, gens=("classic",))
    other = make_model(tmp_path / "other", classes=("a", "b"))
    with pytest.raises(DataError, match="does not know the class"):
        job_of(out, gens=(str(other),))
    with pytest.raises(ConfigError, match=r"target = 0\.1 adds no image"):
        job_of(out, target=0.1)
    with pytest.raises(UnknownName, match="unknown generator 'ldm'"):
        job_of(out, generator__ldm__sampling__seed=1)
    with pytest.raises(ConfigError, match=r"'cnn' selects its weights on validation images, and validation = 0"):
        job_of(out, validation=0.0, preset="default")
    with pytest.raises(UnknownName, match="unknown extractor 'nothing'"):
        job_of(out, extractor="nothing")
    with pytest.raises(ConfigError, match="is not a time in minutes"):
        job_of(out, budget=0.0)
    assert not out.exists()


def test_prepare_levers_that_the_search_cannot_express(job_of, tmp_path):
    job = job_of(tmp_path / "r", stage=["together", "refit"])
    assert list(job.space.uses) == ["together"]
    assert any("stage = refit is not searched: 'frozen' is trained to an optimum" in line for line in job.warnings)
    with pytest.raises(ConfigError, match="stage = refit is not searched"):
        job_of(tmp_path / "r", stage="refit")


def test_prepare_without_generators_and_models(job_of, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "locate", lambda row: ("hub", None))
    with pytest.raises(DataError, match="no model on this machine makes images of") as found:
        job_of(tmp_path / "r", gens=())
    assert "medzoo train ddpm-var" in found.value.hint
