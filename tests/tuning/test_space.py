"""The space of policies: which are the same, what images they need."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.tuning_space import space_of

from medzoo.errors import ConfigError
from medzoo.tuning.config import read_settings
from medzoo.tuning.space import uses_of


def test_all_yields_each_policy_once():
    space = space_of(
        weighted=(False,), loss_weight=(1.0, 0.3), target=(1.0,), select=("none", "distance"), replace=(0.0, 0.5)
    )
    every = list(space.all())
    # Of each pool: beside the real ones, by weight, class and selection; in their place, by selection.
    assert len(every) == 2 * (2 * 2 * 2 + 2)
    assert len({space.arm(params).name for params in every}) == len(every)
    assert all(space.normal(params) == params for params in every)
    replacing = [params for params in every if params["use"] == "replace 0.5"]
    assert {(params["loss_weight"], params["classes"]) for params in replacing} == {(1.0, "minority")}


def test_needs_and_limits():
    space = space_of(target=(1.0, 1.5), select=("none", "distance"), pool=2.0, classes=("minority",))
    plain = space.plain("a")
    assert space.arm(plain).target == 10
    inner, whole = space.needs(plain)
    assert whole == {"thick-wall": 8, "narrow-canal": 12}
    assert inner == {"thick-wall": 4, "narrow-canal": 6}
    assert space.needs({**plain, "select": "distance"})[1] == {"thick-wall": 16, "narrow-canal": 24}
    limits = space.largest_needs()
    # The largest target as drawn, selections up to the size of the largest class, and the smallest replacement.
    assert limits[1] == {"normal": 20, "thick-wall": 20, "narrow-canal": 24}
    limited = replace(space, limits=limits)
    assert limited.fits({**plain, "select": "distance"})
    wide = {**plain, "target": 1.5, "select": "distance"}
    assert not limited.fits(wide)
    assert limited.normal(wide)["select"] == "none"
    assert len(list(limited.all())) < len(list(space.all()))


def test_targets_that_add_balanced_data():
    with pytest.raises(ConfigError, match=r"target = 0\.1 adds no image"):
        space_of(target=(0.1,))
    assert space_of(target=(0.1, 0.9)).targets == (0.9,)


def test_uses_of_names_one_lever_at_a_time():
    settings = read_settings(overrides={"replace": [0.0, 0.5], "stage": ["together", "refit"]}, classifier="cnn").value
    assert list(uses_of(settings)) == ["together", "replace 0.5", "refit"]
    assert list(uses_of(replace(settings, replace=(0.5,), stage=("together",)))) == ["replace 0.5"]


def test_read_settings_names_the_origin_of_a_wrong_value():
    with pytest.raises(ConfigError, match=r"trials = 0 is out of range \[from --set\]"):
        read_settings(overrides={"trials": 0}, classifier="cnn")
    with pytest.raises(ConfigError, match="unknown classifier 'resnet18'"):
        read_settings(overrides={"classifier.resnet18.preset": "tiny"}, classifier="cnn")
    with pytest.raises(ConfigError, match="unknown criterion 'best'"):
        read_settings(overrides={"select": "best"}, classifier="cnn")
    found = read_settings(overrides={"strength": 0.3}, options={"seed": 4, "trials": None}, classifier="cnn")
    assert (found.value.strength, found.value.seed, found.value.trials) == ((0.3,), 4, 200)
    assert found.settings.origins["seed"] == "--seed"
