"""Policies in use: by an augmentation, in the training of a classifier, and as arms of an experiment."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import CLASSES

import medzoo
from medzoo.data.dataset import open_dataset
from medzoo.data.phantom import write_phantom
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.training_sets import BatchShareDataset, ReplacingDataset
from medzoo.models.folder import read_description
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ImageSpec
from medzoo.tuning.apply import classifier_settings, image_use
from medzoo.tuning.policy import Policy

Write = Callable[..., Path]

# So few images of a class leave none to choose weights by.
NO_VALIDATION = {
    "validation": 0.0,
    "classifier.cnn.training.load_best_model_at_end": False,
    "classifier.cnn.training.early_stopping_patience": 0,
}


@pytest.fixture
def policy(model: Path) -> Policy:
    """A policy for the simulated scans, with the tiny model."""
    return Policy(
        augment=True,
        generator=str(model),
        settings={"sampling.num_inference_steps": 2},
        weights_sha256=read_description(model)["weights_sha256"],
        plugin="ddpm",
        plugin_version=load_plugins().plugin_of("generator", "ddpm").version,
        classes=CLASSES,
        verdict="Adding images gained 0.02.",
    )


@pytest.fixture
def write(policy: Policy, tmp_path: Path) -> Write:
    """Write the policy with changes; return its file."""

    def call(**changes: Any) -> Path:
        path = tmp_path / "policy.toml"
        path.write_text(replace(policy, **changes).to_toml(), encoding="utf-8")
        return path

    return call


def test_augment_takes_generator_settings_and_amount_from_the_policy(
    medzoo: Callable[..., Any], write: Write, images: Path, tmp_path: Path
) -> None:
    path = write(loss_weight=0.3)
    found = medzoo("augment", "--policy", path, "--data", images, "--out", tmp_path / "out", "--device", "cpu")
    assert found.code == 0, found.err
    assert "by the policy: up to 9 images of each class (1 times the largest, 9)" in found.err
    assert "how to train on these images is not part of them (weight 0.3)" in found.err
    assert open_dataset(tmp_path / "out").counts() == dict.fromkeys(sorted(CLASSES), 9)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["policy"]["loss_weight"] == 0.3
    assert record["config"]["tiny.sampling.num_inference_steps"] == 2


def test_augment_resumes_with_the_same_policy_only(
    medzoo: Callable[..., Any], write: Write, images: Path, tmp_path: Path
) -> None:
    command = ("augment", "--policy", write(), "--data", images, "--out", tmp_path / "out", "--device", "cpu")
    assert medzoo(*command).code == 0
    assert "already finished" in medzoo(*command).err
    write(loss_weight=0.5)
    found = medzoo(*command)
    assert found.code == 5
    assert "its policy.loss_weight is 1.0, this one's is 0.5" in found.err


def test_augment_uses_what_is_typed_in_place_of_the_policy(
    medzoo: Callable[..., Any], write: Write, images: Path, tmp_path: Path
) -> None:
    command = ("augment", "--policy", write(), "--data", images, "--out", tmp_path / "out", "--dry-run", "--json")
    found = medzoo(*command, "--gen", "duplicate", "--to", 11)
    assert found.code == 0, found.err
    assert "used in place of the policy's own: --gen duplicate instead of" in found.err
    assert "--to 11 instead of 1 times the largest class" in found.err
    assert sum(sum(row["make"].values()) for row in json.loads(found.out)["classes"]) == 33 - 16
    found = medzoo(*command, "--set", "sampling.num_inference_steps=3")
    assert "--set sampling.num_inference_steps 3 instead of 2" in found.err


def test_augment_selects_as_the_policy_says(write: Write, images: Path, tmp_path: Path) -> None:
    result = medzoo.augment(policy=write(select="random", pool=3.0), data=images, out=tmp_path / "out", device="cpu")
    assert (result.selection["criteria"], result.selection["factor"]) == (["random"], 3.0)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"target_share": 1.5, "fill": "all"}, {"narrow-canal": 9, "normal": 8, "thick-wall": 9}),
        ({"replace": 0.5}, {"narrow-canal": 9, "normal": 9, "thick-wall": 9}),
    ],
)
def test_augment_adds_as_many_as_the_arm_of_an_experiment(
    changes: dict[str, Any], counts: dict[str, int], policy: Policy, images: Path, tmp_path: Path
) -> None:
    result = medzoo.augment(
        policy=replace(policy, **changes), data=images, out=tmp_path / "out", device="cpu", dry_run=True
    )
    assert sum(row.synthetic for row in result.classes) == sum(counts.values())
    assert {row.label: row.synthetic for row in result.classes} == pytest.approx(counts, abs=1)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"augment": False}, 2, "the policy says not to add images: Adding images gained 0.02."),
        ({"classes": ("a", "b")}, 5, "the policy was tuned for the classes a, b; "),
        ({"channels": 3}, 5, "the policy was tuned on images in color, "),
        ({"bits": 12}, 5, "the policy was tuned on images in 12 bits, "),
        ({"weights_sha256": "ab" * 32}, 2, "the policy was tuned with other weights of "),
        ({"plugin": "ddpm-var"}, 2, "the policy was tuned with the plugin 'ddpm-var', "),
        ({"target_share": 0.1}, 2, "the policy adds no image: every class has 1 or more"),
    ],
)
def test_augment_refuses_a_policy_in_one_line(
    changes: dict[str, Any],
    code: int,
    message: str,
    medzoo: Callable[..., Any],
    write: Write,
    images: Path,
    tmp_path: Path,
) -> None:
    found = medzoo("augment", "--policy", write(**changes), "--data", images, "--out", tmp_path / "out")
    assert found.code == code
    assert message in found.err
    assert not (tmp_path / "out").exists()


def test_augment_with_a_policy_against_adding_takes_another_generator(
    medzoo: Callable[..., Any], write: Write, images: Path, tmp_path: Path
) -> None:
    command = ("augment", "--policy", write(augment=False), "--data", images, "--out", tmp_path / "out", "--dry-run")
    assert medzoo(*command, "--gen", "duplicate").code == 0


@pytest.mark.parametrize("given", [("--to", 6), ("--gen", "duplicate")])
def test_augment_without_policy_needs_generator_and_target(
    given: tuple[Any, ...], medzoo: Callable[..., Any], images: Path
) -> None:
    found = medzoo("augment", "--data", images, *given)
    assert found.code == 2
    assert "is missing" in found.err
    assert "--policy policy.toml" in found.err


@pytest.fixture(scope="session")
def augmented(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated scans filled up to 12 images of each class."""
    out = tmp_path_factory.mktemp("augmented") / "out"
    medzoo.augment("duplicate", to=12, data=images, out=out, device="cpu")
    return out


@pytest.fixture
def duplicates(policy: Policy) -> Policy:
    """The policy for images of `duplicate`."""
    return replace(policy, generator="duplicate", weights_sha256="", plugin="duplicate", settings={})


def fitted(policy: Policy, data: Path, *, classifier: str = "cnn") -> Any:
    """Return the training set that a classifier gets of `data`, by the policy."""
    spec, images = load_plugins().classifier(classifier), open_dataset(data)
    use = image_use(policy, images, spec, seed=3)
    return use and use.images(images, ImageSpec(size=16, channels=1, classes=images.classes), "none")


def test_image_use_weights_synthetic_images(duplicates: Policy, augmented: Path) -> None:
    found = fitted(replace(duplicates, loss_weight=0.25), augmented)
    assert np.unique(found.weights, return_counts=True)[1].tolist() == [20, 16]
    assert (len(found), found[35].shape) == (36, (1, 16, 16))
    assert np.bincount(found.labels[found.weights == 1]).tolist() == [3, 9, 4]


def test_image_use_draws_as_experiments_do(duplicates: Policy, augmented: Path) -> None:
    shared = fitted(replace(duplicates, batch_share=0.5), augmented)
    assert (type(shared), len(shared)) == (BatchShareDataset, 36)
    replaced = fitted(replace(duplicates, replace=0.5), augmented)
    assert (type(replaced), len(replaced)) == (ReplacingDataset, 16)
    weighted = fitted(replace(duplicates, batch_share=0.5), augmented, classifier="frozen")
    assert weighted.weights[:16].sum() == pytest.approx(weighted.weights[16:].sum())
    assert fitted(duplicates, augmented) is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stage": "refit"}, ConfigError, r"stage = refit.*medzoo experiment run --policy"),
        ({"augment": False}, ConfigError, "says not to add images, and 20 of"),
        ({"classes": ("a",)}, DataError, "tuned for the classes a;"),
    ],
)
def test_image_use_refuses(
    changes: dict[str, Any], error: type[Exception], message: str, duplicates: Policy, augmented: Path
) -> None:
    with pytest.raises(error, match=message):
        fitted(replace(duplicates, **changes), augmented)


def test_image_use_needs_synthetic_images_unless_the_policy_is_against_them(duplicates: Policy, images: Path) -> None:
    with pytest.raises(DataError, match=r"holds no synthetic images.*medzoo augment --policy"):
        fitted(duplicates, images)
    assert fitted(replace(duplicates, augment=False), images) is None


def test_image_use_warns_of_images_of_other_weights(policy: Policy, augmented: Path, logged: list[str]) -> None:
    fitted(replace(policy, loss_weight=0.5), augmented)
    assert any("holds images of duplicate, and the policy was tuned with other weights" in line for line in logged)


def test_classifier_settings_weight_the_loss_as_the_policy_says(duplicates: Policy, logged: list[str]) -> None:
    spec, key = load_plugins().classifier("cnn"), "objective.class_weighted"
    assert classifier_settings(replace(duplicates, weighted=True), spec, {"x": 1}) == {key: True, "x": 1}
    assert classifier_settings(duplicates, spec, {}) == {key: False}
    assert not logged
    assert classifier_settings(duplicates, spec, {key: True}) == {key: True}
    assert any("in place of the policy's own: objective.class_weighted=false" in line for line in logged)
    assert classifier_settings(replace(duplicates, augment=False), spec, {}) == {}


def test_classify_train_uses_the_policy_and_keeps_it(
    duplicates: Policy, augmented: Path, tmp_path: Path, logged: list[str]
) -> None:
    policy = replace(duplicates, loss_weight=0.25)
    arguments: dict[str, Any] = {"data": augmented, "out": tmp_path / "run", "preset": "tiny", "device": "cpu"}
    arguments["settings"] = {"training.max_steps": 2}
    run = medzoo.classify.train("cnn", **arguments, policy=policy)
    assert run.record["policy"] == {"loss_weight": 0.25}
    assert any("used as the policy says: weight 0.25" in line for line in logged)
    assert medzoo.classify.train("cnn", **arguments, policy=policy).already_done
    with pytest.raises(DataError, match=r"its policy\.loss_weight is 0\.25, this one's is None"):
        medzoo.classify.train("cnn", **arguments)
    with pytest.raises(ConfigError, match="'ddpm' is a generator, and a policy says how to train classifiers"):
        medzoo.train("ddpm", data=augmented, out=tmp_path / "other", policy=policy)


def test_classify_train_warns_where_the_policy_of_its_images_is_not_used(
    duplicates: Policy, images: Path, tmp_path: Path, medzoo: Callable[..., Any], logged: list[str]
) -> None:
    path, out = tmp_path / "policy.toml", tmp_path / "out"
    path.write_text(replace(duplicates, batch_share=0.5).to_toml(), encoding="utf-8")
    assert medzoo("augment", "--policy", path, "--data", images, "--out", out, "--device", "cpu").code == 0
    command = ("classify", "train", "cnn", "--data", out, "--preset", "tiny", "--device", "cpu")
    command = (*command, "--set", "training.max_steps=2", "--out", tmp_path / "run")
    found = medzoo(*command)
    assert found.code == 0, found.err
    assert "was made by a policy that says how to train on it (batch share 0.5)" in found.err
    found = medzoo(*command[:-1], tmp_path / "again", "--policy", path)
    assert found.code == 0, found.err
    assert "was made by a policy" not in found.err


def arms(plan: Any) -> dict[str, int]:
    """Return the arms of a planned experiment, with their targets."""
    return {arm.name: arm.target for arm in plan.worker.design.arms}


def test_plan_experiment_adds_the_policy_and_controls_with_its_levers(
    policy: Policy, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "design.toml").write_text('arms = ["real"]\nfolds = 2\npreset = "tiny"\n')
    plan = medzoo.plan_experiment(
        tmp_path / "design.toml",
        policy=replace(policy, loss_weight=0.5, target_share=2.0),
        data=images,
        settings=NO_VALIDATION,
        device="cpu",
    )
    name = policy.generator
    # 9 normal images, of which a fold trains on half.
    assert arms(plan) == {
        "real": 0,
        "weighted": 0,
        "duplicate": 8,  # as many images as the policy: the file names no target
        "classic": 8,
        "duplicate, weight 0.5": 8,
        "classic, weight 0.5": 8,
        f"{name}, weight 0.5": 8,
    }
    found = plan.worker.generators[name].config(plan.worker.plugins)
    assert found.value.sampling.num_inference_steps == 2
    assert plan.worker.design.settings.origins["arms"].endswith("and --policy")


def test_plan_experiment_needs_no_design_with_a_policy(policy: Policy, tmp_path: Path) -> None:
    write_phantom(tmp_path / "data" / "train", counts=dict.fromkeys(CLASSES, 6), size=16, seed=1)
    write_phantom(tmp_path / "data" / "test", counts=dict.fromkeys(CLASSES, 2), size=16, seed=2)
    policy = replace(policy, target_share=2.0, tuned={"classifier": "cnn", "metric": "f1"})
    plan = medzoo.plan_experiment(policy=policy, data=tmp_path / "data", device="cpu")
    value = plan.worker.design.value
    assert (plan.worker.design.name, value.classifiers, value.metric) == ("policy", ("cnn",), "f1")
    assert (value.folds, value.seeds, value.redraw) == (0, 5, True)
    assert list(arms(plan)) == ["real", "weighted", "duplicate", "classic", policy.generator]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"sampling.num_inference_steps": 3}}, "two policies ask for different generator."),
        ({"augment": False, "generator": ""}, "names no generator, so there is nothing to measure"),
        ({"weights_sha256": "ab" * 32}, "tuned with other weights"),
    ],
)
def test_plan_experiment_refuses_policies(changes: dict[str, Any], message: str, policy: Policy, images: Path) -> None:
    other = replace(policy, **changes)
    given = [policy, other] if "settings" in changes else other
    with pytest.raises(ConfigError, match=message):
        medzoo.plan_experiment(policy=given, data=images, folds=2, settings=NO_VALIDATION, device="cpu")


def test_experiment_run_without_design_or_policy_is_refused(medzoo: Callable[..., Any], images: Path) -> None:
    found = medzoo("experiment", "plan", "--data", images)
    assert found.code == 2
    assert "no experiment is given" in found.err
