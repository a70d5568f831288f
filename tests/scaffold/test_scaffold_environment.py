"""Plugins that `medzoo plugin new` wrote, in an environment where they are installed as a stranger's would be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.environments import Environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scaffold-environment")]

NAMES = {"generator": "my-gauss", "classifier": "my-centroid", "metric": "my-brightness"}

every_kind = pytest.mark.parametrize("kind", NAMES)

Run = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugins, and the files their use makes, are written."""
    return tmp_path_factory.mktemp("scaffold")


@pytest.fixture(scope="module")
def environment(folder: Path) -> Environment:
    """An environment with one plugin of each kind, made by the command and installed as its README says."""
    environment = Environment.create(folder / "environment")
    for kind, name in NAMES.items():
        environment.run("medzoo", "plugin", "new", name, "--kind", kind, cwd=folder)
    environment.install(*(folder / f"medzoo-{name}" for name in NAMES.values()))
    return environment


@pytest.fixture
def medzoo(environment: Environment, folder: Path) -> Run:
    """Run `medzoo` there: what it prints."""
    return lambda *arguments: environment.run("medzoo", *map(str, arguments), cwd=folder).stdout


@pytest.fixture(scope="module")
def images(environment: Environment, folder: Path) -> tuple[Path, Path]:
    """Simulated images to train on, and others to measure with."""
    sets = {"train": ("20", "1"), "test": ("6", "2")}
    for name, (count, seed) in sets.items():
        options = ("--per-class", count, "--seed", seed, "--size", "32")
        environment.run("medzoo", "data", "phantom", str(folder / name), *options)
    return folder / "train", folder / "test"


@pytest.fixture(scope="module")
def run(environment: Environment, folder: Path, images: tuple[Path, Path]) -> Path:
    """A run of the new generator."""
    data, _ = images
    environment.run("medzoo", "train", NAMES["generator"], "--data", str(data), "--out", "runs/gauss", cwd=folder)
    return folder / "runs/gauss"


@every_kind
def test_plugin_list_shows_new_plugin(medzoo, kind):
    rows = {row["name"]: row for row in json.loads(medzoo("plugin", "list", "--json"))}
    row = rows[NAMES[kind]]
    assert (row["distribution"], row["version"], row["state"]) == (f"medzoo-{NAMES[kind]}", "0.1.0", "ok")
    assert row["provides"] == [f"{kind} {NAMES[kind]}"]


def test_list_shows_trainable_plugins(environment):
    told = environment.run("medzoo", "list").stderr.splitlines()
    for kind in ("generator", "classifier"):
        (line,) = [line for line in told if line.startswith(f"{kind}s without a published model: ")]
        assert NAMES[kind] in line


@every_kind
def test_plugin_check_passes(medzoo, kind):
    results = json.loads(medzoo("plugin", "check", NAMES[kind], "--json"))
    assert len(results) > 8
    assert all(result["passed"] for result in results)


@every_kind
def test_pytest_of_new_plugin_passes(environment, folder, kind):
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", cwd=folder / f"medzoo-{NAMES[kind]}")
    assert "failed" not in done.stdout
    assert " passed" in done.stdout


def test_sample_trained_generator(medzoo, folder, run):
    medzoo("sample", run, "--n", 2, "--grid", "grid.png", "--set", "sampling.spread=0.5")
    assert (folder / "grid.png").stat().st_size > 0


def test_augment_with_trained_generator(medzoo, folder, run, images):
    medzoo("augment", "--gen", run, "--data", images[0], "--to", 22, "--out", "filled")
    assert {len(list(each.iterdir())) for each in (folder / "filled").iterdir() if each.is_dir()} == {22}


def test_evaluate_with_new_metric(medzoo, run, images):
    measured = medzoo("evaluate", run, "--real", images[1], "--n", 6, "--metric", NAMES["metric"], "--json")
    (row,) = json.loads(measured)["results"]
    assert row["name"] == NAMES["metric"]
    assert 0.0 <= row["score"]["value"] < 0.1


def test_classify_trained_classifier_learns_classes(medzoo, images):
    medzoo("classify", "train", NAMES["classifier"], "--data", images[0], "--out", "runs/centroid")
    scores = json.loads(medzoo("classify", "test", "runs/centroid", "--data", images[1], "--json"))["scores"]
    assert scores["balanced_accuracy"] > 0.5  # a guess is right in a quarter of four classes


def test_push_incomplete_card_is_refused(environment, folder, run):
    about = folder / f"medzoo-{NAMES['generator']}" / "card.toml"
    push = ("push", str(run), "--repo", "me/model", "--dry-run", "--about")
    refused = environment.run("medzoo", *push, str(about), code=2)
    assert "lacks dataset, dataset_text, id, intended_use, license" in refused.stderr
    said = folder / "card.toml"
    said.write_text(re.sub('^# ([a-z_]+) = ""', r'\1 = "mit"', about.read_text(), flags=re.MULTILINE))
    assert "README.md" in environment.run("medzoo", *push, str(said)).stdout
