"""Plugins that `medzoo plugin new` writes: sound files under any name, and nothing written over or half-written."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from medzoo import __version__
from medzoo.errors import ConfigError, DataError, ResourceError, UnknownName
from medzoo.hub.registry import load_registry
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing.card import About
from medzoo.scaffold import SUMMARIES, NewPlugin, check_name_is_free, render, write_plugin
from medzoo.specs import CONTRACT

ROOT = Path(__file__).resolve().parents[2]
LONGEST = "a-name_of-thirty-letters-and-4"

every_kind = pytest.mark.parametrize("kind", SUMMARIES)
with_weights = pytest.mark.parametrize("kind", ["generator", "classifier"])


def run_in(folder: Path, *command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["x", "My-gan", LONGEST])
@every_kind
def test_write_plugin_passes_ruff(tmp_path, kind, name):
    folder = tmp_path / "plugin"
    write_plugin(NewPlugin(name=name, kind=kind), folder)
    run_in(folder, "ruff", "check", "--no-cache", ".")
    run_in(folder, "ruff", "format", "--no-cache", "--check", ".")


def test_write_plugin_passes_mypy_strict(tmp_path):
    for kind in SUMMARIES:
        write_plugin(NewPlugin(name=f"my-{kind}", kind=kind), tmp_path / kind)
    # With medzoo's settings, `make lint` has left mypy's cache of medzoo and torch, which takes minutes to make.
    run_in(ROOT, "mypy", *(str(tmp_path / kind / folder) for kind in SUMMARIES for folder in ("src", "tests")))


@every_kind
def test_render_tool_settings_match_medzoo(kind):
    own = tomllib.loads(render(NewPlugin(name="my-gan", kind=kind))["pyproject.toml"])["tool"]
    medzoo = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    assert own["ruff"]["lint"]["select"] == medzoo["ruff"]["lint"]["select"]
    assert set(own["ruff"]["lint"]["ignore"]) <= set(medzoo["ruff"]["lint"]["ignore"])
    assert own["ruff"]["line-length"] == medzoo["ruff"]["line-length"]
    assert own["mypy"]["strict"] is medzoo["mypy"]["strict"] is True
    assert set(own["mypy"]["untyped_calls_exclude"]) <= set(medzoo["mypy"]["untyped_calls_exclude"])
    assert own["pytest"]["ini_options"]["filterwarnings"] == ["error"]


@every_kind
def test_render_fills_name_version_and_contract(kind):
    files = render(NewPlugin(name="My-gan", kind=kind))
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "medzoo-My-gan"
    assert project["entry-points"]["medzoo"] == {"My-gan": "medzoo_my_gan"}
    assert project["dependencies"] == [f"medzoo>={__version__}"]
    assert f"contract={CONTRACT}," in files["src/medzoo_my_gan/__init__.py"]
    assert not [path for path, text in files.items() if "{{" in text or "{%" in text or "MODULE" in path + text]


@with_weights
def test_render_plugin_with_weights_has_presets_and_card(kind):
    files = render(NewPlugin(name="my-gan", kind=kind))
    assert {"card.toml", "src/medzoo_my_gan/presets/tiny.toml", "src/medzoo_my_gan/presets/default.toml"} <= set(files)


@with_weights
def test_render_card_requires_every_field(tmp_path, kind):
    text = render(NewPlugin(name="my-gan", kind=kind))["card.toml"]
    asked = [line.removeprefix("# ") for line in text.splitlines() if line.endswith(' = ""')]
    path = tmp_path / "card.toml"
    for said in range(len(asked)):
        path.write_text(text + "\n".join(asked[:said]))
        with pytest.raises(ConfigError, match="lacks") as refused:
            About.read(path)
        assert asked[said].split()[0] in refused.value.message
    path.write_text(text + "\n".join(asked))
    optional = {"notice", "demo_dataset", "default", "repo"}
    assert {line.split()[0] for line in asked} == {field.name for field in fields(About)} - optional - {"limits"}
    assert About.read(path).limits.startswith("- ")


def test_new_plugin_unknown_kind_suggests_nearest():
    with pytest.raises(UnknownName, match="did you mean generator"):
        NewPlugin(name="my-gan", kind="generater")


@pytest.mark.parametrize("name", ["", "3d", "my gan", "my.gan", "-gan", "gan-", "gän", "../gan", LONGEST + "x"])
def test_new_plugin_invalid_name_raises(name):
    with pytest.raises(ConfigError, match="is not a valid plugin name"):
        NewPlugin(name=name, kind="metric")


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("cnn", "medzoo has the classifier 'cnn'"),
        ("ddpm", "medzoo has the generator 'ddpm'"),
        ("metrics", r"medzoo has the plugin 'metrics' \(medzoo_metrics\)"),
        ("ddpm_var", r"medzoo has the plugin 'ddpm-var' \(medzoo_ddpm_var\)"),
        ("ldm-busi", "it is a published model"),
    ],
)
def test_check_name_is_free_taken_name_names_owner(name, whose):
    with pytest.raises(ConfigError, match=whose):
        check_name_is_free(NewPlugin(name=name, kind="generator"), load_plugins(), load_registry())


def test_write_plugin_folder_with_files_raises(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        write_plugin(NewPlugin(name="my-gan", kind="metric"), tmp_path)
    (tmp_path / "README.md").rename(tmp_path / "notes")
    with pytest.raises(DataError, match="holds other files"):
        write_plugin(NewPlugin(name="my-gan", kind="metric"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_write_plugin_accepts_fresh_git_repository(tmp_path):
    (tmp_path / ".git").mkdir()
    assert write_plugin(NewPlugin(name="my-gan", kind="metric"), tmp_path) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_write_plugin_keeps_hidden_files(tmp_path):
    (tmp_path / ".gitignore").write_text("mine")
    with pytest.raises(DataError, match=r"\.gitignore already exists"):
        write_plugin(NewPlugin(name="my-gan", kind="metric"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_write_plugin_full_disk_leaves_nothing(tmp_path, monkeypatch):
    write = Path.write_text

    def write_three(path, *arguments, **options):
        if sum(file.is_file() for file in tmp_path.rglob("*")) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_three)
    with pytest.raises(ResourceError, match="the disk is full"):
        write_plugin(NewPlugin(name="my-gan", kind="generator"), tmp_path / "plugin")
    assert list(tmp_path.iterdir()) == []


def test_plugin_new_prints_folder_and_next_steps(medzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = medzoo("plugin", "new", "my-gan", "--kind", "generator")
    assert (outcome.code, outcome.out) == (0, "medzoo-my-gan\n")
    assert "cd medzoo-my-gan" in outcome.err
    assert "medzoo plugin check my-gan" in outcome.err
    again = medzoo("plugin", "new", "my-gan", "--kind", "generator")
    assert (again.code, again.out) == (5, "")


def test_plugin_new_json(medzoo, tmp_path):
    outcome = medzoo("plugin", "new", "my-gan", "--kind", "metric", "--out", tmp_path / "new", "--json")
    told = json.loads(outcome.out)
    assert (told["folder"], told["distribution"], told["module"]) == (
        str(tmp_path / "new"),
        "medzoo-my-gan",
        "medzoo_my_gan",
    )
    assert all((tmp_path / "new" / name).is_file() for name in told["files"])
    assert "src/medzoo_my_gan/metric.py" in told["files"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["cnn", "--kind", "generator"], 2), (["3d", "--kind", "metric"], 2), (["a"], 2)]
)
def test_plugin_new_error_exit_codes(medzoo, tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    outcome = medzoo("plugin", "new", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert list(tmp_path.iterdir()) == []
