"""A stranger's distribution, installed as strangers install theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder the example is installed into, from its own pyproject.toml."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, "--disable-pip-version-check", "--target", str(folder), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def medzoo(site: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "medzoo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plugin_list_shows_distribution_and_version(site):
    (row,) = [row for row in json.loads(medzoo(site, "plugin", "list", "--json")) if row["name"] == "average"]
    assert (row["distribution"], row["version"], row["state"]) == ("medzoo-average", "1.0", "ok")
    assert row["provides"] == ["generator average"]


def test_plugin_check_passes_with_its_presets(site):
    results = json.loads(medzoo(site, "plugin", "check", "average", "--json"))
    assert {result["name"] for result in results} >= {"preset", "fit repeats", "rebatching", "save and load"}
    assert all(result["passed"] for result in results)


def test_train_and_augment(site, tmp_path):
    data, run, filled = (str(tmp_path / name) for name in ("data", "run", "filled"))
    medzoo(site, "data", "phantom", data, "--per-class", "6", "--size", "16")
    medzoo(site, "train", "average", "--data", data, "--out", run, "--set", "image.size=16")
    outcome = json.loads(medzoo(site, "augment", "--gen", run, "--data", data, "--to", "9", "--out", filled, "--json"))
    assert [row["synthetic"] for row in outcome["classes"]] == [3, 3, 3, 3]
    record = json.loads((tmp_path / "filled" / "run.json").read_text("utf-8"))
    assert record["plugins"] == {"average": {"distribution": "medzoo-average", "version": "1.0"}}


def test_example_plugin_imports_only_public_modules(site):
    for path in (site / "medzoo_average").glob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if line.lstrip().startswith(("import medzoo", "from medzoo")):
                module = line.split()[1]
                assert module in {
                    "medzoo",
                    "medzoo.config",
                    "medzoo.toolkit.validation",
                    "medzoo.toolkit.settings",
                    "medzoo_average.model",
                }
