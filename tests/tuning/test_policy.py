"""Policies: their file, how they become arms, and for which data and generators they are refused."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError, MedzooError
from medzoo.tuning.policy import FORMAT, Policy, read_policy

POLICY = Policy(
    augment=True,
    generator="ddpm-var-busi@0.3",
    settings={"sampling.guidance_scale": 2.0, "sampling.scheduler": "ddim"},
    weights_sha256="ab" * 32,
    plugin="ddpm-var",
    plugin_version="1.0",
    classes=("benign", 'malignant, "no\'s"', "normal"),
    target_share=1.5,
    select="agreement+novelty",
    pool=3.0,
    loss_weight=0.3,
    batch_share=0.25,
    fill="all",
    verdict="Adding images gained 0.02 (0.00 to 0.04).\n",
    tuned={"seed": 3, "trials": 40, "classifier": "cnn", "scores.real": 0.8, "a key": [0.5, 1.0], "done": True},
)


def gray(*, classes: tuple[str, ...] = ("a", "b"), channels: int = 1, counts: tuple[int, ...] = (3, 1)) -> Dataset:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    shape = (len(labels), 4, 4) if channels == 1 else (len(labels), 4, 4, 3)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    names = tuple(f"{k}.png" for k in range(len(labels)))
    return Dataset(path=Path("images.npz"), classes=classes, labels=labels, names=names, array=pixels)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        Policy(augment=False, verdict="Do not augment."),
        Policy(augment=True, generator="duplicate", classes=("é", "b"), stage="refit", replace=0.5),
    ],
)
def test_read_policy_returns_what_was_written(tmp_path: Path, policy: Policy) -> None:
    text = policy.to_toml()
    assert text == policy.to_toml()
    assert read_policy(write(tmp_path, text)) == policy


def test_to_toml_says_what_it_is_for_and_leaves_empty_tables_out() -> None:
    text = Policy(augment=False, verdict="Do not augment.").to_toml()
    assert "medzoo augment --policy policy.toml" in text
    assert "[tuned]" not in text
    assert "[generator.settings]" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("loss_weight = 0.3", "loss_weight = 1000.0"), "use.loss_weight = 1000.0 is out of range"),
        (("loss_weight = 0.3", "loss_weight = 'much'"), "use.loss_weight = 'much' is not a number"),
        (("loss_weight = 0.3", "los_weight = 0.3"), "unknown setting 'use.los_weight' (did you mean use.loss_weight"),
        (('stage = "together"', 'stage = "late"'), "use.stage = 'late'"),
        (('stage = "together"', 'stage = "pretrain"'), "loss_weight cannot be combined with stage = pretrain"),
        (('select = "agreement+novelty"', 'select = "beauty"'), "unknown criterion 'beauty'"),
        (("target_share = 1.5", "target_share = 0.0"), "use.target_share = 0.0 is out of range"),
        (("augment = true", "augment = 1"), "augment = 1 is not true or false"),
        (('name = "ddpm-var-busi@0.3"', 'name = ""'), "generator.name is empty"),
        ((f"format = {FORMAT}", "format = 99"), "has format 99"),
        ((f"format = {FORMAT}", ""), "is not a policy"),
        (("[data]", "[data"), "is not TOML"),
    ],
)
def test_read_policy_names_the_file_and_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = POLICY.to_toml()
    assert change[0] in text
    path = write(tmp_path, text.replace(*change))
    with pytest.raises(ConfigError) as raised:
        read_policy(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_target_scales_with_the_largest_class() -> None:
    assert POLICY.target({"a": 100, "b": 10}) == 150
    assert replace(POLICY, target_share=0.001).target({"a": 10}) == 1


def test_arm_holds_only_the_levers_that_are_pulled() -> None:
    table = POLICY.arm({"a": 100, "b": 10})
    assert table == {
        "images": "ddpm-var-busi@0.3",
        "target": 150,
        "loss_weight": 0.3,
        "batch_share": 0.25,
        "classes": "all",
        "select": "agreement+novelty",
    }
    arm = POLICY.to_arm({"a": 100, "b": 10})
    assert (arm.target, arm.loss_weight, arm.classes) == (150, 0.3, "all")
    assert Policy(augment=True, generator="duplicate", classes=("a",)).levers == {}


def test_experiment_settings_name_the_generator_and_the_pool() -> None:
    assert POLICY.experiment_settings() == {
        "use.pool": 3.0,
        "use.extractor": "efficientnet-lite0",
        "generator.ddpm-var-busi@0.3.sampling.guidance_scale": 2.0,
        "generator.ddpm-var-busi@0.3.sampling.scheduler": "ddim",
    }
    assert "use.pool" not in replace(POLICY, select="none").experiment_settings()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"classes": ("a", "c")}, ("a, c", "a, b", "medzoo tune")),
        ({"channels": 3}, ("color", "gray", "medzoo tune")),
        ({"bits": 12}, ("12 bits", "8 bits", "medzoo tune")),
    ],
)
def test_check_data_names_both_and_what_to_do(changes: dict[str, object], parts: tuple[str, ...]) -> None:
    fits = replace(POLICY, classes=("b", "a"))
    fits.check_data(gray())
    with pytest.raises(DataError) as raised:
        replace(fits, **changes).check_data(gray())
    assert all(part in str(raised.value) for part in parts)


@pytest.mark.parametrize(
    ("now", "parts"),
    [
        ({"weights_sha256": "cd" * 32}, ("cdcdcd", "ababab")),
        ({"weights_sha256": None}, ("none", "ababab")),
        ({"plugin": "ddpm"}, ("'ddpm-var'", "'ddpm'")),
    ],
)
def test_check_generator_refuses_other_weights_and_plugins(now: dict[str, str | None], parts: tuple[str, ...]) -> None:
    same: dict[str, str | None] = {"plugin": "ddpm-var", "version": "1.0", "weights_sha256": "ab" * 32}
    POLICY.check_generator(**same)  # type: ignore[arg-type]  # a table of cases
    with pytest.raises(ConfigError) as raised:
        POLICY.check_generator(**{**same, **now})  # type: ignore[arg-type]  # a table of cases
    assert all(part in str(raised.value) for part in (*parts, "medzoo tune"))


def test_check_generator_warns_of_another_plugin_version(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        POLICY.check_generator(plugin="ddpm-var", version="1.1", weights_sha256="ab" * 32)
    assert "1.0" in caplog.text
    assert "1.1" in caplog.text


def test_policy_refuses_to_augment_without_a_generator() -> None:
    with pytest.raises(MedzooError, match=r"generator\.name is empty"):
        Policy(augment=True)
