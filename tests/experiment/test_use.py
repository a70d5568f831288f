"""The levers of an arm: how its synthetic images are used, for the controls as for generators."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medzoo.data.dataset import Dataset
from medzoo.data.phantom import phantom_dataset
from medzoo.errors import ConfigError, UnknownName
from medzoo.experiment.config import Arm, UseSettings, parse_arms, read_design
from medzoo.experiment.models import make_recipes
from medzoo.experiment.plan import plan_experiment
from medzoo.experiment.run import run
from medzoo.experiment.training_sets import (
    BatchShareDataset,
    ConcatDataset,
    Part,
    ReplacingDataset,
    synthetic_counts,
    training_images,
    weighted_images,
)
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import no_progress
from medzoo.toolkit.settings import RecipeSettings
from medzoo.toolkit.training.batches import loader

COUNTS = {"normal": 10, "thick-wall": 6, "narrow-canal": 6}


def design_file(folder: Path, text: str) -> str:
    path = folder / "design.toml"
    path.write_text('classifiers = ["cnn"]\ntarget = 8\nfolds = 2\nepochs = 4\npreset = "tiny"\n' + text)
    return str(path)


def names(texts: list[str], **use: object) -> list[str]:
    return [arm.name for arm in parse_arms(texts, targets=[500], controls=True, use=UseSettings(**use))]


def test_parse_arms_crosses_levers_with_the_controls():
    assert names(["ddpm-var"], loss_weight=(1.0, 0.3)) == [
        "real", "weighted", "duplicate", "duplicate, weight 0.3", "classic", "classic, weight 0.3", "ddpm-var",
        "ddpm-var, weight 0.3",
    ]  # fmt: skip
    every = names(["ldm"], batch_share=(0.5,), stage=("together", "refit"), classes=("minority", "all"))
    assert every[-4:] == [
        "ldm, batch share 0.5", "ldm, batch share 0.5, all classes", "ldm, batch share 0.5, refit",
        "ldm, batch share 0.5, refit, all classes",
    ]  # fmt: skip
    assert len(set(every)) == len(every) == 2 + 3 * 4


def test_parse_arms_table_has_its_own_levers(tmp_path):
    design = read_design(
        design_file(tmp_path, 'arms = ["dcgan", {images = "dcgan", loss_weight = [0.3, 0.1], target = 12}]')
    )
    arms = {arm.name: arm for arm in design.arms}
    assert list(arms) == [
        "real", "weighted", "duplicate", "classic", "dcgan", "duplicate, weight 0.3", "duplicate, weight 0.1",
        "classic, weight 0.3", "classic, weight 0.1", "dcgan, weight 0.3", "dcgan, weight 0.1",
    ]  # fmt: skip
    assert (arms["dcgan, weight 0.3"].target, arms["dcgan"].target) == (12, 8)
    assert json.loads(json.dumps(design.flat()))["arms"][0] == "dcgan"
    assert Arm.from_dict(json.loads(json.dumps(vars(arms["dcgan, weight 0.3"])))) == arms["dcgan, weight 0.3"]


def test_arm_from_dict_of_an_earlier_version():
    stored = {"name": "real 10%, pretrained", "mixture": {"ddpm": 1.0}, "target": 9, "pretrain": True}
    assert Arm.from_dict(stored).stage == "pretrain"
    assert Arm.from_dict({**stored, "pretrain": False}).stage == "together"


def test_parse_arms_names_the_targets_of_equal_controls(tmp_path):
    design = read_design(
        design_file(tmp_path, 'arms = [{images = "dcgan", target = 12}, {images = "dcgan", target = 14}]')
    )
    assert {arm.name: arm.target for arm in design.arms if arm.mixture} == {
        "duplicate": 8, "classic": 8, "duplicate, target 12": 12, "classic, target 12": 12, "dcgan": 12,
        "duplicate, target 14": 14, "classic, target 14": 14, "dcgan, target 14": 14,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("arms = [{images = 'dcgan', los_weight = 0.3}]", UnknownName, "did you mean loss_weight"),
        ("arms = [{loss_weight = 0.3}]", ConfigError, "names no synthetic images"),
        ("arms = [{images = 'real', loss_weight = 0.3}]", ConfigError, "names no synthetic images"),
        ("arms = [{images = 'dcgan', loss_weight = 0}]", ConfigError, "loss_weight.*out of range"),
        ("arms = [{images = 'dcgan', target = 'many'}]", ConfigError, "target = 'many' of the arm dcgan"),
        ("arms = [{images = 'dcgan', stage = 'before'}]", ConfigError, "stage = 'before'"),
        ("arms = [{images = 'dcgan', name = 'x', loss_weight = [1, 2]}]", ConfigError, "2 arms are called 'x'"),
        ("arms = ['dcgan', {images = 'dcgan', name = 'real'}]", ConfigError, "two different arms are called 'real'"),
        ("[use]\nstage = 'before'", ConfigError, "use.stage = 'before'"),
        ("[use]\nloss_weight = []", ConfigError, "use.loss_weight is empty"),
        ("[use]\nbatch_share = 0.5\nreplace = 0.5", ConfigError, "batch_share cannot be combined with replace"),
        ("[use]\nstage = 'pretrain'\nloss_weight = 0.3", ConfigError, "loss_weight cannot .* stage = pretrain"),
        ("[use]\nstage = 'pretrain'\nclasses = 'all'", ConfigError, "classes = all cannot .* stage = pretrain"),
        ("[use]\nreplace = 0.5\nclasses = 'all'", ConfigError, "classes = all cannot be combined with replace"),
    ],
)
def test_read_design_levers_that_cannot_be(text, error, message, tmp_path):
    with pytest.raises(error, match=message):
        read_design(design_file(tmp_path, text))


def test_make_recipes_without_sample_weights_or_stages(tmp_path):
    data, plugins = phantom_dataset(COUNTS, size=16, seed=1), load_plugins()
    for changes, lever, message in (
        (
            {"sample_weights": False},
            "loss_weight = 0.3",
            "'cnn' takes no loss weights, which the arm 'duplicate, weight",
        ),
        ({"converges": True}, "stage = 'refit'", "'cnn' is trained to an optimum"),
    ):
        spec = replace(plugins.classifier("cnn"), **changes)
        other = replace(plugins, classifiers={**plugins.classifiers, "cnn": spec})
        with pytest.raises(ConfigError, match=message):
            make_recipes(read_design(design_file(tmp_path, f"[use]\n{lever}")), other, data)


def test_synthetic_counts_by_lever():
    data = phantom_dataset(COUNTS, size=16, seed=1)
    arm = Arm(name="x", mixture={"ldm": 1.0}, target=10)
    assert synthetic_counts(data, arm) == {"ldm": {"thick-wall": 4, "narrow-canal": 4}}
    even = synthetic_counts(data, replace(arm, classes="all"))["ldm"]
    assert set(even) == set(COUNTS)
    assert sorted(even.values()) == [2, 3, 3]
    for apart in ({"stage": "pretrain"}, {"replace": 0.5}):
        assert synthetic_counts(data, replace(arm, **apart)) == {"ldm": dict.fromkeys(sorted(COUNTS), 10)}


class Numbered:
    """Images whose only pixel is their number, from `first` on."""

    def __init__(self, first: int, count: int) -> None:
        self.pixels = np.arange(first, first + count, dtype=np.uint8).reshape(-1, 1, 1, 1)

    def __getitem__(self, index):
        return self.pixels[index]


def part(first: int, labels: list[int], weight: float = 1.0) -> Part:
    rows = np.arange(len(labels))
    return Part(images=Numbered(first, len(labels)), rows=rows, labels=np.array(labels), weight=weight)


REAL = part(0, [0] * 8 + [1] * 4)
MADE = part(100, [0] * 3 + [1] * 30, weight=0.3)


def contents(images: ConcatDataset) -> np.ndarray:
    return np.array([images[index].item() for index in range(len(images))])


def test_concat_dataset_carries_weights():
    images = training_images(Arm(name="x"), "all", ("a", "b"), real=[REAL], synthetic=[MADE], length=100, seed=0)
    assert np.array_equal(images.weights == np.float32(0.3), contents(images) >= 100)
    assert images.weights.dtype == np.float32


def test_batch_share_dataset_has_its_share_of_every_epoch():
    arm = Arm(name="x", batch_share=0.25)
    images = training_images(arm, "all", ("a", "b"), real=[REAL], synthetic=[MADE], length=40, seed=0)
    seen = set()
    for epoch in range(40):
        drawn = images.in_epoch(epoch)
        found = contents(drawn)
        assert (len(drawn), int((found >= 100).sum())) == (40, 10)
        assert np.array_equal(drawn.labels, images.labels)
        assert np.array_equal(drawn.labels, [int(n >= 8) if n < 100 else int(n >= 103) for n in found])
        assert np.array_equal(drawn.weights == np.float32(0.3), found >= 100)
        assert set(np.unique(found[found < 100], return_counts=True)[1]) == {2, 3}  # 30 places for 12 real images
        seen |= set(found[found >= 100].tolist())
    assert len(seen) == 33
    assert np.array_equal(contents(images), contents(images.in_epoch(0)))
    assert isinstance(images, BatchShareDataset)


def test_replacing_dataset_replaces_by_the_same_label():
    arm = Arm(name="x", replace=0.5)
    images = training_images(arm, "all", ("a", "b"), real=[REAL], synthetic=[MADE], length=24, seed=0)
    plain = training_images(Arm(name="real"), "all", ("a", "b"), real=[REAL], synthetic=[], length=24, seed=0)
    shares, seen = [], set()
    for epoch in range(40):
        drawn = images.in_epoch(epoch)
        found = contents(drawn)
        assert np.array_equal(drawn.labels, plain.labels)
        kept = found < 100
        assert np.array_equal(found[kept], contents(plain)[kept])
        assert np.array_equal(drawn.labels, [int(n >= 8) if n < 100 else int(n >= 103) for n in found])
        shares.append(1 - kept.mean())
        seen |= set(found[~kept].tolist())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert len(seen) == 33
    assert isinstance(images, ReplacingDataset)


def test_loader_draws_each_epoch_anew():
    arm = Arm(name="x", replace=0.5)
    images = training_images(arm, "all", ("a", "b"), real=[REAL], synthetic=[MADE], length=24, seed=0)
    settings = RecipeSettings(batch_size=8)

    def batches(start: int) -> list[list[int]]:
        found = loader(images, settings, steps=range(start, 9), steps_per_epoch=3, rank=0, world=1, seed=0)
        return [sorted(batch[0].flatten().tolist()) for batch in found]

    whole = batches(0)
    epochs = [sorted(itertools.chain(*whole[start : start + 3])) for start in (0, 3, 6)]
    assert [sorted(contents(images.in_epoch(epoch)).tolist()) for epoch in range(3)] == epochs
    assert epochs[0] != epochs[1]
    assert batches(4) == whole[4:]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return phantom_dataset(COUNTS, size=16, seed=1)


def test_run_levers_at_equal_steps(data, tmp_path):
    text = """
        arms = [{images = "duplicate", replace = 0.5}, {images = "duplicate", stage = "refit"},
                {images = "duplicate", batch_share = 0.5, loss_weight = 0.3},
                {images = "duplicate", stage = "pretrain"}, "real", "duplicate"]
        controls = false
        [use]
        refit_share = 0.5
    """
    source = make_source(load_plugins(), device="cpu")
    plan = plan_experiment(read_design(design_file(tmp_path, text)), data, tmp_path / "x", source=source)
    assert len({cell.key for cell in plan.cells}) == len(plan.cells)
    result = run(plan, jobs=1, progress=no_progress)
    assert result.failed == ()
    assert len({(cell.steps, cell.steps_done) for cell in result.cells if cell.fold == 0}) == 1
    (replaced, *_) = result.of("duplicate, replace 0.5", "cnn")
    assert replaced.images["duplicate"] == dict.fromkeys(sorted(COUNTS), 8)
    (refitted, *_) = result.of("duplicate, refit", "cnn")
    assert {row.get("phase") for row in refitted.history} == {1.0, 2.0}
    weights = [result.predictions(result.of(name, "cnn")[0]).read_text() for name in ("duplicate", "duplicate, refit")]
    assert weights[0] != weights[1]


def test_weighted_images_are_the_mean_of_the_draws():
    """Each image's weight is in proportion to how often it is drawn, times its loss weight."""
    classes = ("a", "b")
    for arm in (Arm(name="x", batch_share=0.25), Arm(name="x", replace=0.5)):
        drawn = training_images(arm, "all", classes, real=[REAL], synthetic=[MADE], length=240, seed=0)
        pull = np.zeros(200)
        for epoch in range(200):
            images = drawn.in_epoch(epoch)
            np.add.at(pull, contents(images), images.weights)
        once = weighted_images(arm, classes, real=[REAL], synthetic=[MADE])
        found = pull[contents(once)]
        assert found / found.sum() == pytest.approx(once.weights / once.weights.sum(), rel=0.15)


def test_training_images_of_several_labels_keep_sets_of_labels():
    sets = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    rows = np.arange(9)
    real = Part(images=Numbered(0, 9), rows=rows, labels=sets[rows % 3])
    made = Part(images=Numbered(100, 9), rows=rows, labels=sets[rows % 3])
    for arm in (Arm(name="x", batch_share=0.5), Arm(name="x", replace=0.5)):
        images = training_images(arm, "all", ("a", "b"), real=[real], synthetic=[made], length=18, seed=0).in_epoch(3)
        found = contents(images)
        assert (found >= 100).any()
        assert np.array_equal(images.labels, sets[(found % 100) % 3])
        once = weighted_images(arm, ("a", "b"), real=[real], synthetic=[made])
        assert once.weights.sum() == pytest.approx(18 if arm.batch_share else 9)
