"""The wheel, unpacked outside the repository, answers as the editable install does."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

PLUGINS = [
    "medzoo_api_variation",
    "medzoo_classic",
    "medzoo_classifiers",
    "medzoo_dcgan",
    "medzoo_ddpm",
    "medzoo_ddpm_var",
    "medzoo_duplicate",
    "medzoo_latent_ddpm",
    "medzoo_ldm",
    "medzoo_metrics",
]
WITH_PRESETS = [name for name in PLUGINS if (ROOT / "plugins" / name / "presets" / "tiny.toml").is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder the wheel is unpacked in, as an installer would."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def elsewhere(site, tmp_path, user_folders):
    """Run a program that finds the unpacked wheel first, in an empty folder."""

    def call(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(site), "MEDZOO_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def files_under(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_wheel_contains_code_registry_cards_and_presets(site):
    held = files_under(site)
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "core/medzoo", *(f"plugins/{name}" for name in PLUGINS)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    assert {path.split("/", 1)[1] for path in tracked if (ROOT / path).exists()} <= held
    assert "medzoo/bundled/registry.toml" in held
    assert {f"medzoo/bundled/cards/{name}" for name in files_under(ROOT / "cards")} <= held
    for plugin in WITH_PRESETS:
        assert f"{plugin}/presets/tiny.toml" in held
    assert {path.split("/")[0] for path in held if not path.split("/")[0].endswith(".dist-info")} == {
        "medzoo",
        *PLUGINS,
    }


def test_wheel_entry_points_and_command(site):
    (info,) = site.glob("*.dist-info")
    text = (info / "entry_points.txt").read_text()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, value in declared["entry-points"]["medzoo"].items():
        assert f"{name} = {value}\n" in text + "\n"
    assert "[console_scripts]\nmedzoo = medzoo.cli:main" in text


def test_wheel_imports_outside_the_repository(elsewhere, site):
    program = "import medzoo, medzoo_ddpm; print(medzoo.__file__); print(medzoo_ddpm.__file__)"
    assert all(Path(line).is_relative_to(site) for line in elsewhere("-c", program).splitlines())


def test_wheel_list_and_show_match_checkout(elsewhere, medzoo, site):
    def facts(text):
        return [
            {key: value for key, value in row.items() if key not in ("origin", "folder")} for row in json.loads(text)
        ]

    listed = elsewhere("-m", "medzoo", "list", "--kind", "model", "--json")
    assert facts(listed) == facts(medzoo("list", "--kind", "model", "--json").out)
    for row in json.loads(listed):
        assert row["state"] == "bundled"
        assert Path(row["origin"]).is_relative_to(site)
        assert row["id"] in elsewhere("-m", "medzoo", "show", row["id"])
    assert elsewhere("-m", "medzoo", "plugin", "list") == medzoo("plugin", "list").out


def test_wheel_pull_every_bundled_model(elsewhere, tmp_path):
    for row in json.loads(elsewhere("-m", "medzoo", "list", "--kind", "model", "--json")):
        folder = Path(elsewhere("-m", "medzoo", "pull", row["id"]).strip())
        assert folder.is_relative_to(tmp_path)
        assert (folder / "model.safetensors").stat().st_size > 0


def test_wheel_presets_resolve(elsewhere):
    program = (
        "from medzoo.plugins.lookup import load_plugins; from medzoo import config\n"
        "specs = load_plugins().generators\n"
        "for spec in specs.values(): config.resolve(spec.config, presets=spec.presets, preset='tiny')\n"
        "print(sorted(specs))"
    )
    names = sorted(plugin.removeprefix("medzoo_").replace("_", "-") for plugin in WITH_PRESETS)
    assert elsewhere("-c", program).strip() == str(names)
