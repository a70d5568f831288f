"""Experiments from the plan to the results: what is computed, when again, from which images, and what is refused."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.augmentation import rows as metadata
from helpers.logs import logged_messages
from helpers.tiny_labels import LABELS_PLUGIN, write_labeled

from medzoo import config
from medzoo.cli.options import parse_overrides
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.phantom import phantom_dataset, write_phantom
from medzoo.data.splits import split_dataset
from medzoo.errors import ConfigError, DataError, IntegrityError, UnknownName
from medzoo.experiment import run as run_module
from medzoo.experiment.config import CONTROLS, METRICS, preset_names, read_design
from medzoo.experiment.forecast import forecast
from medzoo.experiment.models import make_recipes
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.results import PREDICTIONS, RESULT, Experiment, load_results
from medzoo.experiment.run import run
from medzoo.experiment.tasks import Cell
from medzoo.experiment.worker import run_cell
from medzoo.generation.mixture import make_source
from medzoo.hub.download import folder_lock
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import no_progress
from medzoo.storage.files import temporary_name
from medzoo.toolkit.settings import ImageSettings, RecipeSettings
from medzoo.training.run_folder import RunFolder
from medzoo.training.train import train

COUNTS = {"normal": 10, "thick-wall": 6, "narrow-canal": 6}
TINY = {"classifiers": ["cnn"], "arms": ["dcgan"], "target": 8, "folds": 2, "epochs": 1, "preset": "tiny"}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return phantom_dataset(COUNTS, size=16, seed=1)


@pytest.fixture(scope="module")
def split(data: Dataset) -> Dataset:
    parts = split_dataset(data, fractions={"train": 0.6, "val": 0.2, "test": 0.2}, seed=0)
    return replace(parts["train"], held_out={"val": parts["val"], "test": parts["test"]})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A TOML file of the tiny experiment, with these changes."""

    def write(**changes: object) -> Path:
        path = tmp_path_factory.mktemp("design") / "tiny.toml"
        flat = {**TINY, **changes}
        lines = [f"{key} = {json.dumps(value)}" for key, value in flat.items()]
        path.write_text(
            "\n".join([*lines, "[generator.dcgan]", 'preset = "tiny"', ""] if "dcgan" in str(flat) else lines)
        )
        return path

    return write


def prepared(design: Path | str, data: Dataset, out: Path, *, set_: Sequence[str] = (), **options) -> ExperimentPlan:
    source = make_source(load_plugins(), device="cpu")
    return plan_experiment(
        read_design(str(design), overrides=parse_overrides(set_)), data, out, source=source, **options
    )


def complete(work: ExperimentPlan, *, jobs: int = 1) -> tuple[Experiment, list[str]]:
    """The results, and what was done for them."""
    with logged_messages("medzoo.experiment.run", level=logging.DEBUG) as messages:
        result = run(work, jobs=jobs, progress=no_progress)
    return result, list(messages)


@pytest.fixture(scope="module")
def finished(data, tiny, tmp_path_factory) -> Iterator[Experiment]:
    """The tiny experiment, run without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield complete(prepared(tiny(), data, tmp_path_factory.mktemp("run") / "x"))[0]


def outcome(result: Experiment) -> Mapping[str, object]:
    """What must not depend on how the work was done."""
    told = {cell.key: replace(cell, seconds=0.0).to_dict() for cell in result.cells}
    return {"cells": told, "predictions": [result.predictions(cell).read_text() for cell in result.cells]}


@pytest.mark.parametrize("name", preset_names())
def test_plan_experiment_presets(name, data, split, tmp_path):
    images = split if read_design(name).value.folds == 0 else data
    if name == "latent":
        images = open_dataset(write_labeled(tmp_path / "labeled", per_set=12))
    found = forecast(prepared(name, images, tmp_path / "x"), measure=False)
    assert found.cells == found.missing == len(found.arms) * len(found.steps_per_cell) * found.folds * found.seeds
    assert set(CONTROLS) <= {arm["name"].partition("@")[0] for arm in found.arms}


def test_read_design_presets_of_the_studies():
    arms = {name: [arm.name for arm in read_design(name).arms] for name in preset_names()}
    targets = {arm.target for arm in read_design("udder-scale").arms if "ldm" in arm.mixture}
    assert targets == {500, 1000, 2000, 5000}
    assert "real" in arms["udder-scale"]
    shares = {arm.mixture["ldm"] for arm in read_design("udder-mix").arms if len(arm.mixture) == 2}
    assert shares == {0.2, 0.5, 0.8}
    rows = [arm for arm in read_design("pretrain").arms if not arm.mixture or arm.pretrain]
    assert len(rows) == 18
    assert {(arm.real_fraction, arm.pretrain) for arm in rows} == {
        (0.0, True), (0.1, False), (0.1, True), (1.0, False), (1.0, True)
    }  # fmt: skip
    assert not any(arm.weighted for arm in rows if arm.real_fraction == 0)


def test_read_design_layers_and_errors(tiny, tmp_path):
    design = read_design(
        str(tiny()), overrides={"classifier.cnn.training.learning_rate": 0.01, "arms": "dcgan"}, options={"seeds": 3}
    )
    assert design.settings.origins["seeds"] == "--seeds"
    assert design.settings.origins["repeats"] == "default"
    assert (design.value.seeds, design.flat()["classifier.cnn.training.learning_rate"]) == (3, 0.01)
    over = tmp_path / "over.toml"
    over.write_text('extends = "udder-mix"\ntarget = 50\n')
    assert read_design(str(over)).target == 50
    assert read_design(str(over)).settings.origins["folds"] == "preset udder-mix"
    with pytest.raises(UnknownName, match="unknown setting 'arm'"):
        read_design(str(tiny()), overrides={"arm": 3})
    with pytest.raises(UnknownName, match="did you mean cnn") as error:
        read_design(str(tiny()), overrides={"classifier.cn.training.learning_rate": 3})
    assert "[from --set]" in error.value.hint
    with pytest.raises(UnknownName, match="udder-scale"):
        read_design("udder-skale")
    with pytest.raises(UnknownName, match=r"unknown baseline 'reel'.*did you mean real"):
        read_design(str(tiny()), overrides={"baseline": "reel"})
    with pytest.raises(UnknownName, match=r'known: dcgan .*set baseline to one of the arms, or add "real" to arms'):
        read_design(str(tiny(controls=False)))
    with pytest.raises(ConfigError, match="shares of a mixture must sum to 1"):
        read_design(str(tiny(arms=["dcgan=0.5+ddpm=0.6"])))


def test_run_equal_steps_in_all_arms(finished):
    assert {arm.name for arm in finished.arms} == {*CONTROLS, "dcgan"}
    assert len({(cell.steps, cell.steps_done) for cell in finished.cells if cell.fold == 0}) == 1
    assert all(cell.status == "done" and cell.scores is not None for cell in finished.cells)
    for cell in finished.of("dcgan", "cnn"):
        own = finished.of("real", "cnn")[cell.fold]
        assert (cell.n_real, cell.n_synthetic) == (own.n_train, sum(cell.images["dcgan"].values()))
        assert {name: cell.images["real"][name] + cell.images["dcgan"][name] for name in COUNTS} == dict.fromkeys(
            COUNTS, 8
        )
    parts = finished.provenance["data"]["parts"]
    assert [sum(part.values()) for part in parts] == [sum(COUNTS.values())] * 2
    assert sum(cell.n_test for cell in finished.of("real", "cnn")) == sum(COUNTS.values())


def test_run_summaries_and_comparisons(finished):
    assert {(summary.arm, summary.classifier) for summary in finished.summaries} == {
        (arm.name, "cnn") for arm in finished.arms
    }
    summary = finished.summary("dcgan", "cnn")
    values = [cell.value("balanced_accuracy") for cell in finished.of("dcgan", "cnn")]
    assert summary.estimates["balanced_accuracy"].mean == pytest.approx(np.mean(values))
    assert set(summary.estimates) == set(METRICS)
    assert [comparison.arm for comparison in finished.comparisons] == ["weighted", "duplicate", "classic", "dcgan"]
    assert {comparison.family for comparison in finished.comparisons} == {4}
    assert finished.comparisons[0].test.overlap > 0
    assert finished.image_tests == ()
    json.dumps(finished.to_dict(), allow_nan=False)
    assert json.loads((finished.folder / "run.json").read_text())["job"] == "experiment"


def test_load_results_from_folder_alone(finished):
    assert load_results(finished.folder).to_dict() == finished.to_dict()
    with pytest.raises(DataError, match="holds no experiment"):
        load_results(finished.folder / "cells")


def test_run_killed_resumes_with_equal_results(data, tiny, tmp_path, monkeypatch):
    def killed_after(steps: int) -> Callable[..., None]:
        left, on_step_end = iter(range(steps)), RunFolder.on_step_end

        def stopping(self, *step):
            if next(left, None) is None:
                raise KeyboardInterrupt
            on_step_end(self, *step)

        return stopping

    some = {"controls": False, "arms": ["real", "dcgan"]}
    often = [f"{model}.training.checkpointing_steps=1" for model in ("classifier.cnn", "generator.dcgan")]
    whole, _ = complete(prepared(tiny(**some), data, tmp_path / "whole", set_=often))
    for steps, where in ((1, "generators"), (2, "cells")):  # the generator takes 2 steps, of which one is kept
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "on_step_end", killed_after(steps))
            with pytest.raises(KeyboardInterrupt):
                complete(prepared(tiny(**some), data, tmp_path / "x", set_=often))
        assert [file.name for file in (tmp_path / "x" / where).glob("**/*.safetensors")] == [
            f"step-{1:08d}.safetensors"
        ]
        assert not (tmp_path / "x" / "run.json").exists()
        assert {cell.status for cell in load_results(tmp_path / "x").cells} == {"missing"}
    again, _ = complete(prepared(tiny(**some), data, tmp_path / "x", set_=often))
    assert outcome(again) == outcome(whole)


def test_run_again_does_only_what_changed(data, tiny, tmp_path):
    some = {"controls": False, "arms": ["real", "duplicate"], "baseline": "real"}
    _, first = complete(prepared(tiny(**some), data, tmp_path / "x"))
    assert len(first) == 6
    assert complete(prepared(tiny(**some), data, tmp_path / "x"))[1] == []
    more = {**some, "arms": ["weighted", "real", "duplicate"]}
    result, second = complete(prepared(tiny(**more), data, tmp_path / "x"))
    assert sorted(second) == ["cnn on weighted, fold 0.0, seed 0", "cnn on weighted, fold 0.1, seed 0"]
    assert [arm.name for arm in result.arms] == ["weighted", "real", "duplicate"]
    changed, third = complete(
        prepared(tiny(**some), data, tmp_path / "x", set_=["classifier.cnn.training.learning_rate=0.1", "arms=real"])
    )
    assert third == ["cnn on real, fold 0.0, seed 0", "cnn on real, fold 0.1, seed 0"]
    assert len(changed.cells) == 2


def flip(path: Path) -> None:
    """Change a digit, so that the file can be read as before."""
    content = path.read_bytes()
    place = next(k for k in range(len(content) // 2, len(content)) if content[k : k + 1] in b"2468")
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_run_again_repairs_damaged_cells(data, tiny, tmp_path, logged):
    some = {"controls": False, "arms": ["real", "weighted"]}
    first, _ = complete(prepared(tiny(**some), data, tmp_path / "x"))
    files = [tmp_path / "x" / "cells" / cell.key / name for cell in first.cells for name in (PREDICTIONS, RESULT)]
    before = {path: path.read_bytes() for path in files}
    damages = [(files[0], flip), (files[2], Path.unlink), (files[5], flip), (files[7], cut)]
    for path, damage in damages:
        damage(path)
    with pytest.raises(IntegrityError, match=r"result\.json is damaged"):
        load_results(tmp_path / "x")
    left = temporary_name(files[3])
    left.write_bytes(b"half")
    logged.clear()
    again, done = complete(prepared(tiny(**some), data, tmp_path / "x"))
    assert len([line for line in done if line.startswith("cnn on ")]) == 4
    assert outcome(again) == outcome(first)
    assert all(path.read_bytes() == before[path] for path in files if path.name == PREDICTIONS)
    assert not left.exists()
    warned = [line for line in logged if line.endswith("; running the cell again")]
    assert [str(path) in line for (path, _), line in zip(damages, warned, strict=True)] == [True] * 4
    assert complete(prepared(tiny(**some), data, tmp_path / "x"))[1] == []


def test_run_again_with_cells_of_an_earlier_version(data, tiny, tmp_path):
    some = {"controls": False, "arms": ["real"]}
    result, _ = complete(prepared(tiny(**some), data, tmp_path / "x"))
    for cell in result.cells:
        path = tmp_path / "x" / "cells" / cell.key / RESULT
        values = json.loads(path.read_text())
        del values["sha256"], values["predictions_sha256"]
        path.write_text(json.dumps(values))
    again, done = complete(prepared(tiny(**some), data, tmp_path / "x"))
    assert done == []
    assert outcome(again)["predictions"] == outcome(result)["predictions"]


def test_run_again_repairs_what_a_lost_cell_needs(data, tiny, tmp_path):
    """The weights of its generator and an image, as before."""
    some = {"controls": False, "arms": ["real", "dcgan"]}
    first, _ = complete(prepared(tiny(**some), data, tmp_path / "x"))
    weights = sorted((tmp_path / "x" / "generators").glob("*/model.safetensors"))
    images = sorted((tmp_path / "x" / "sets").glob("*/*/*.png"))
    before = {path: path.read_bytes() for path in (*weights, *images)}
    cut(weights[0])
    cut(images[0])
    cut(images[-1])
    assert complete(prepared(tiny(**some), data, tmp_path / "x"))[1] == []  # the results are there
    for cell in first.cells:
        (tmp_path / "x" / "cells" / cell.key / RESULT).unlink()
    again, _ = complete(prepared(tiny(**some), data, tmp_path / "x"))
    assert outcome(again) == outcome(first)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_make_cells_keys_depend_on_inputs(data, tiny, tmp_path):
    def keys(*changes: str, images: Dataset = data) -> dict[tuple[object, ...], str]:
        cells = prepared(tiny(), images, tmp_path / "x", set_=changes).cells
        return {(cell.arm.name, cell.fold.fold, cell.number): cell.key for cell in cells}

    own = keys()
    assert keys() == own
    assert len(set(own.values())) == len(own)
    assert own.items() <= keys("seeds=2").items()
    assert keys("metric=auc", "baseline=classic") == own
    assert not set(keys("seed=1").values()) & set(own.values())
    dcgan = {key for name, key in own.items() if name[0] == "dcgan"}
    assert set(own.values()) - set(keys("generator.dcgan.training.learning_rate=0.01").values()) == dcgan
    fewer = data.subset(range(1, len(data)))
    assert not set(keys(images=fewer).values()) & set(own.values())


def test_plan_experiment_lengths_and_contradictions(data, tiny, tmp_path):
    def steps(*changes: str) -> set[int]:
        return {cell.steps for cell in prepared(tiny(), data, tmp_path / "x", set_=changes).cells}

    assert steps() == {3}  # 24 images in batches of 8
    assert steps("epochs=4") == {12}
    assert steps("epochs=0", "steps=7") == {7}
    assert steps("classifier.cnn.training.epochs=2") == {6}
    assert steps("target=[0, 8, 16]", "arms=dcgan") == {6}
    for changes, message in (
        (["steps=7"], "both epochs = 1 and steps = 7 are given"),
        (["classifiers=cnn,resnet18", "classifier.cnn.image.crop=center"], "crop images differently"),
        (["classifier.cnn.objective.class_weighted=true"], "is set by the arms"),
        (["test=val"], "needs folds = 0"),
        (["folds=0", "repeats=2"], "repeats needs folds"),
        (["validation=0"], "'cnn' selects its weights on validation images"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepared(tiny(), data, tmp_path / "x", set_=changes)


@dataclass(frozen=True)
class NoTraining:
    """The settings of a classifier that learns in one go."""

    image: ImageSettings = ImageSettings()


@dataclass(frozen=True)
class NoWeights(NoTraining):
    """The settings of one that cannot weigh classes."""

    training: RecipeSettings = RecipeSettings()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (NoTraining, "'cnn' cannot take equal steps.* lacks the settings training.epochs, training.batch_size "),
        (NoWeights, "'cnn' has no setting objective.class_weighted, which the arm 'weighted' needs "),
    ],
)
def test_make_recipes_names_missing_settings(settings, told, data, tiny, tmp_path):
    (tmp_path / "tiny.toml").touch()
    plugins = load_plugins()
    spec = replace(plugins.classifier("cnn"), config=settings, presets=tmp_path)
    plugins = replace(plugins, classifiers={**plugins.classifiers, "cnn": spec})
    with pytest.raises(ConfigError, match=f"{told}.*inherit medzoo.toolkit.settings.ClassifierSettings"):
        make_recipes(read_design(str(tiny())), plugins, data)


def test_plan_experiment_in_color_follows_the_images(data, tiny, tmp_path):
    assert data.array is not None
    colored = (data.array[..., None] * np.array((1.0, 0.5, 0.2))).astype(np.uint8)
    plan = prepared(tiny(), replace(data, array=colored), tmp_path / "x")
    assert plan.worker.recipes["cnn"].base().image.channels == 3
    assert plan.worker.generators["dcgan"].config(load_plugins()).image.channels == 3
    gray = prepared(tiny(), data, tmp_path / "y")
    assert gray.worker.recipes["cnn"].base().image.channels == 1


def test_make_cells_redraw_samples_for_each_seed(data, tiny, tmp_path):
    def drawings(*changes: str) -> int:
        return len(prepared(tiny(seeds=3), data, tmp_path / "x", set_=changes).samplings)

    assert drawings() == 3 * 2
    assert drawings("redraw=true") == 3 * 2 * 3


def test_run_mixtures_and_targets_share_images(data, tiny, tmp_path):
    def pictures(folder: Path) -> dict[str, bytes]:
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.glob("sets/*/*/*.png")}

    some = ["controls=false", "batch_size=4"]
    few = prepared(tiny(), data, tmp_path / "x", set_=[*some, "arms=dcgan", "target=[0, 8]"])
    complete(few)
    first = pictures(tmp_path / "x")
    more = [*some, "arms=dcgan,dcgan=0.5+duplicate=0.5", "target=[0, 8, 14]"]
    many = prepared(tiny(), data, tmp_path / "x", set_=more)
    assert len(many.samplings) == 4
    assert {task.key for task in few.samplings} < {task.key for task in many.samplings}
    result, done = complete(many)
    assert not any("trained" in what for what in done)
    grown = pictures(tmp_path / "x")
    assert first.items() < grown.items()
    complete(prepared(tiny(), data, tmp_path / "y", set_=more))
    assert pictures(tmp_path / "y") == grown
    for cell in result.of("dcgan=0.5+duplicate=0.5@14", "cnn"):
        filled = [sum(own[name] for own in cell.images.values()) for name in COUNTS]
        assert filled == [14, 14, 14]
        assert abs(sum(cell.images["dcgan"].values()) - sum(cell.images["duplicate"].values())) <= len(COUNTS)


def test_run_failed_cell_is_counted_and_retried(data, tiny, tmp_path, monkeypatch):
    some = {"controls": False, "arms": ["real", "weighted"]}

    def breaks(worker, cell: Cell):
        if cell.arm.name == "weighted" and cell.fold.fold == 1:
            raise ValueError("no luck\nat all")
        return run_cell(worker, cell)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "run_cell", breaks)
        broken, _ = complete(prepared(tiny(**some), data, tmp_path / "x"))
    (cell,) = broken.failed
    assert (cell.arm, cell.fold, cell.error) == ("weighted", 1, "ValueError: no luck at all")
    assert "in breaks" in (tmp_path / "x" / "cells" / cell.key / "traceback.txt").read_text()
    summary = broken.summary("weighted", "cnn")
    assert summary.estimates["accuracy"].counts == "1 of 2"
    assert summary.incomplete == "1 cell failed"
    assert broken.comparisons[0].test.difference.n_failed == 1
    assert any("1 of 4 cells failed (weighted)" in warning for warning in broken.warnings)
    assert json.loads((tmp_path / "x" / "run.json").read_text())["failed"] == 1
    mended, done = complete(prepared(tiny(**some), data, tmp_path / "x"))
    assert done == ["cnn on weighted, fold 0.1, seed 0"]
    assert mended.failed == ()
    assert not (tmp_path / "x" / "cells" / cell.key / "traceback.txt").exists()


def test_run_failed_generator_fails_its_cells(data, tiny, tmp_path):
    diverging = ["generator.dcgan.training.learning_rate=1e30", "arms=dcgan,real", "controls=false"]
    result, _ = complete(prepared(tiny(), data, tmp_path / "x", set_=diverging))
    assert {cell.arm for cell in result.failed} == {"dcgan"}
    assert all(cell.error.startswith("its training failed: ") for cell in result.failed)
    assert result.summary("dcgan", "cnn").estimates["accuracy"].counts == "0 of 2"
    assert result.summary("real", "cnn").estimates["accuracy"].counts == "2"


def test_run_jobs_give_equal_results(data, tiny, tmp_path):
    some = {"controls": False, "arms": ["real", "duplicate"]}
    one, _ = complete(prepared(tiny(**some), data, tmp_path / "one"))
    two, done = complete(prepared(tiny(**some), data, tmp_path / "two"), jobs=2)
    assert len(done) == 6
    assert outcome(two) == outcome(one)


def test_read_design_controls(tiny, data, tmp_path):
    assert [arm.name for arm in read_design(str(tiny())).arms[:4]] == list(CONTROLS)
    declined = prepared(tiny(controls=False, baseline="dcgan"), data, tmp_path / "x")
    assert [arm.name for arm in declined.worker.design.arms] == ["dcgan"]
    assert any("controls = false" in warning for warning in declined.warnings)


@pytest.fixture
def model(split, tmp_path) -> Path:
    """A generator trained on the training part of `split`."""
    plugins = load_plugins()
    spec = plugins.generator("dcgan")
    resolved = config.resolve(spec.config, presets=spec.presets, preset="tiny")
    train(spec, resolved, split, tmp_path / "model", plugins=plugins, device="cpu")
    return tmp_path / "model"


def test_plan_experiment_refuses_generator_trained_on_test_images(model, split, data, tiny, tmp_path):
    arms = {"arms": [str(model)], "controls": False, "baseline": "real", "target": [0, 8], "preset": "tiny"}
    with pytest.raises(DataError, match=r"was trained on \d+ of the \d+ test images of fold 1"):
        prepared(tiny(**arms), data, tmp_path / "x")
    leaky = prepared(tiny(**arms), data, tmp_path / "x", allow_leak=True)
    assert any("test images (--allow-leak)" in warning for warning in leaky.warnings)
    result, _ = complete(prepared(tiny(**{**arms, "folds": 0, "seeds": 2}), split, tmp_path / "x"))
    cell = result.of(str(model), "cnn")[0]
    assert cell.notes[f"lineage of {model}"] == {"trained on test images": 0, "trained on val images": 0}
    assert (cell.n_test, cell.n_val) == (len(split.held_out["test"]), len(split.held_out["val"]))
    assert result.comparisons[0].test.unit == "seed"
    assert [(test.seed, test.test.difference.n) for test in result.image_tests] == [(0, cell.n_test), (1, cell.n_test)]
    assert any("share one set of synthetic images" in warning for warning in result.warnings)


def test_plan_experiment_refuses_generator_without_class(model, split, tiny, tmp_path):
    other = replace(split, classes=("normal", "thick-wall", "wide"))
    with pytest.raises(DataError, match="does not know the class wide; it knows narrow-canal, normal, thick-wall"):
        prepared(
            tiny(arms=[str(model)], controls=False, target=[0, 8], folds=3), replace(other, held_out={}), tmp_path / "x"
        )


def test_run_without_validation_images(data, tiny, tmp_path):
    last = ["validation=0", "classifier.cnn.training.load_best_model_at_end=false", "arms=real", "controls=false"]
    result, _ = complete(prepared(tiny(), data, tmp_path / "x", set_=last))
    assert result.failed == ()
    assert {cell.n_val for cell in result.cells} == {0}
    assert not any("validation_loss" in row for cell in result.cells for row in cell.history)


def test_make_folds_refuses_leaks(split, data, tiny, tmp_path):
    leaked = replace(split, held_out={**split.held_out, "test": split.subset([0, 1, 8])})
    with pytest.raises(DataError, match="3 of the 3 test images are also training or validation images"):
        prepared(tiny(folds=0), leaked, tmp_path / "x")
    allowed = prepared(tiny(folds=0), leaked, tmp_path / "x", allow_leak=True)
    assert any("of every arm are too optimistic" in warning for warning in allowed.warnings)
    apart = prepared(tiny(folds=0), replace(leaked, held_out={"test": data}), tmp_path / "x", leave_out_seen=True)
    (fold,) = apart.worker.images.folds
    assert len(fold.test) == len(data) - len(split)
    assert apart.warnings[0].startswith(
        f"{len(split)} of the {len(data)} test images were used in training and are left out"
    )
    with pytest.raises(DataError, match="every test image"):
        prepared(tiny(folds=0), leaked, tmp_path / "x", leave_out_seen=True)
    with pytest.raises(DataError, match="has parts of its own"):
        prepared(tiny(), split, tmp_path / "x")
    with pytest.raises(DataError, match="has no test part"):
        prepared(tiny(folds=0), data, tmp_path / "x")


def test_make_folds_keeps_bit_depth(split, tiny, tmp_path):
    for images in (split, replace(split, held_out={"test": split.held_out["test"]})):
        deep = replace(images, depth=12, highest=4000)
        assert prepared(tiny(folds=0), deep, tmp_path / "x").worker.images.data.depth == 12


def test_make_folds_keeps_groups_together(tiny, tmp_path):
    write_phantom(tmp_path / "data", counts={"normal": 12, "thick-wall": 12}, size=16, seed=2)
    for file in sorted((tmp_path / "data").glob("*/*.png")):
        if file.stem.endswith(("0", "2", "5")):
            file.with_name(f"again-{file.name}").write_bytes(file.read_bytes())
    images = open_dataset(tmp_path / "data")
    by_patient = replace(images, patients=tuple(f"p{index // 3}" for index in range(len(images))))
    for data, group in ((images, images.fingerprints()), (by_patient, by_patient.patients)):
        work = prepared(tiny(folds=3, repeats=2, target=20), data, tmp_path / "x").worker
        assert len(work.images.folds) == 6
        for fold in work.images.folds:
            parts = [{group[index] for index in part} for part in (fold.train, fold.val, fold.test)]
            assert all(parts)
            assert sum(map(len, parts)) == len(set().union(*parts))
        assert work.images.folds[0].test != work.images.folds[3].test


def test_run_pretraining(data, tiny, tmp_path):
    rows = [
        "arms=real",
        "controls=false",
        "epochs=4",
        "pretrain.generator=duplicate",
        "pretrain.geometric=[false]",
        "pretrain.weighted=[false]",
        "pretrain.fractions=[0.0, 0.5]",
    ]
    result, _ = complete(prepared(tiny(), data, tmp_path / "x", set_=rows))
    assert [arm.name for arm in result.arms] == ["real", "real 50%", "synthetic only", "real 50%, pretrained"]
    assert len({cell.steps_done for cell in result.cells if cell.fold == 0}) == 1
    (cell, *_) = result.of("real 50%, pretrained", "cnn")
    assert {row.get("phase") for row in cell.history} == {1.0, 2.0}
    assert cell.notes["weights"]["source"] == "the classifier's own, from before this training"
    assert cell.n_real == result.of("real 50%", "cnn")[0].n_real < result.of("real", "cnn")[0].n_real
    assert cell.images["duplicate"] == dict.fromkeys(sorted(COUNTS), 8)
    (alone, *_) = result.of("synthetic only", "cnn")
    assert (alone.n_real, alone.n_synthetic) == (0, 24)
    assert any("trained on all training images" in warning for warning in result.warnings)


def test_run_multi_label(tiny, tmp_path, install_plugin):
    install_plugin("quilt", LABELS_PLUGIN)
    images = open_dataset(write_labeled(tmp_path / "labeled", per_set=6))
    change = {"arms": ["quilt"], "target": 40, "metric": "auc"}
    result, _ = complete(prepared(tiny(**change), images, tmp_path / "x"))
    assert result.failed == ()
    assert result.multi_label
    for cell in result.cells:
        assert cell.scores.multi_label
        assert cell.n_train == (40 if cell.arm in ("quilt", "duplicate", "classic") else cell.n_real)
    sets = {file.parent.name for file in (tmp_path / "x" / "sets").glob("*/*/*.png")}
    assert sets == {"atelectasis", "edema", "effusion", "edema+effusion"}
    with pytest.raises(ConfigError, match="takes one label per image"):
        prepared(tiny(target=40), images, tmp_path / "y")


def test_plan_experiment_warns_of_class_above_target(data, tiny, tmp_path):
    assert COUNTS["normal"] > 8
    below = prepared(tiny(target=8), data, tmp_path / "below")
    assert not [warning for warning in below.warnings if "above the target" in warning]
    above = prepared(tiny(target=3), data, tmp_path / "above")
    (told,) = [warning for warning in above.warnings if "above the target of 3" in warning]
    assert "normal has 4" in told


def test_run_waits_for_another_process(data, tiny, tmp_path, logged):
    work = prepared(tiny(arms=["real"], controls=False), data, tmp_path / "x")
    found = []
    second = threading.Thread(target=lambda: found.append(run(work, jobs=1, progress=no_progress)), daemon=True)
    with folder_lock((tmp_path / "x").resolve()):
        second.start()
        deadline = time.monotonic() + 600
        while not logged and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.is_alive()
        assert not (tmp_path / "x" / "cells").exists()
    second.join(timeout=300)
    assert logged == [f"waiting for another process that writes to {(tmp_path / 'x').resolve()}"]
    assert {cell.status for cell in found[0].cells} == {"done"}


def test_run_variations_share_training_and_stay_in_their_fold(data, tiny, tmp_path):
    some = {"arms": ["ddpm", "ddpm@0.5"], "controls": False, "baseline": "ddpm"}
    change = ["generator.ddpm.preset=tiny"]
    work = prepared(tiny(**some), data, tmp_path / "x", set_=change)
    result, done = complete(work)
    assert result.failed == ()
    assert [line for line in done if line.startswith("trained")] == ["trained ddpm, fold 0.0", "trained ddpm, fold 0.1"]
    for task in work.samplings:
        rows = metadata(tmp_path / "x" / "sets" / task.key)
        varied = task.generator == "ddpm@0.5"
        assert {row["strength"] for row in rows} == {"0.5" if varied else ""}
        assert {row["generator"] for row in rows} == {"ddpm-0.5" if varied else "ddpm"}
        sources = {row["source_image"] for row in rows} - {""}
        assert sources <= {data.names[index] for index in task.fold.train}
        assert bool(sources) == varied
    # A strength set beside a name that states one, as everywhere.
    with pytest.raises(ConfigError, match=r"'ddpm@0\.5' and sampling\.strength = 0\.7 ask for different"):
        prepared(tiny(**some), data, tmp_path / "y", set_=[*change, "generator.ddpm.sampling.strength=0.7"])
    with pytest.raises(ConfigError, match="'duplicate' takes no strength"):
        prepared(tiny(arms=["duplicate@0.5"]), data, tmp_path / "y")
    with pytest.raises(ConfigError, match=r"sampling\.strength = 2\.0 is out of range"):
        prepared(tiny(arms=["ddpm"]), data, tmp_path / "y", set_=[*change, "generator.ddpm.sampling.strength=2"])


def test_plan_experiment_variations_of_published_model(split, data, tiny, tmp_path):
    plugins = load_plugins()
    spec = plugins.generator("ddpm")
    resolved = config.resolve(spec.config, presets=spec.presets, preset="tiny", overrides={"training.epochs": 1})
    run_folder = tmp_path / "model"
    train(spec, resolved, split, run_folder, plugins=plugins, device="cpu")
    arms = {"arms": [str(run_folder), f"{run_folder}@0.5"], "target": 8, "folds": 0, "controls": False}
    work = prepared(tiny(**arms, baseline=str(run_folder)), split, tmp_path / "x")
    one, other = work.worker.generators.values()
    assert (one.kind, one.strength, other.strength) == ("published", 1.0, 0.5)
    assert (one.model_name, other.model_name) == ("model", "model@0.5")
    assert len({task.key for task in work.samplings}) == 2
    found = forecast(work, measure=True)
    assert all(each.seconds is not None for each in found.models)
    description = json.loads((run_folder / "config.json").read_text())
    description["config"]["sampling.num_inference_steps"] += 1  # a new card of the same weights
    (run_folder / "config.json").write_text(json.dumps(description))
    changed = prepared(tiny(**arms, baseline=str(run_folder)), split, tmp_path / "y")
    assert not {task.key for task in work.samplings} & {task.key for task in changed.samplings}
    trained = prepared(tiny(arms=["ddpm"], folds=0), split, tmp_path / "z", set_=["generator.ddpm.preset=tiny"])
    own = trained.worker.generators["ddpm"]
    settings = own.training_identity(plugins)["config"]
    assert not {"sampling.spectrum_gain", "sampling.guidance_interval", "loss.snr_gamma"} & settings.keys()
    weighted = prepared(
        tiny(arms=["ddpm"], folds=0),
        split,
        tmp_path / "z",
        set_=["generator.ddpm.preset=tiny", "generator.ddpm.loss.snr_gamma=5"],
    )
    assert weighted.worker.generators["ddpm"].training_identity(plugins)["config"]["loss.snr_gamma"] == 5.0
