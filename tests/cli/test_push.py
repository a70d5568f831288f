"""`medzoo push`: what it prints, what it writes, and the way back by `medzoo pull`."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_card
from helpers.hub_server import HubServer
from helpers.tiny_card import ABOUT, note

from medzoo.data.images import decode
from medzoo.hub.registry_file import update_registry
from medzoo.publishing.card import write_card

REPO = "acme/tiny-udder"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_card.make_run(tmp_path_factory.mktemp("push") / "run")


@pytest.fixture(scope="module")
def about(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_card.write_about(tmp_path_factory.mktemp("about") / "about.toml")


@pytest.fixture
def card(run: Path, tmp_path: Path) -> Path:
    return tiny_card.make_card(run, tmp_path / "card")


@pytest.fixture
def zoo(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A medzoo that came with two tiny models: its registry.toml and cards/."""
    root = tmp_path / "zoo"
    for name in ("tiny-a", "tiny-b"):
        row = write_card(run, root / "cards" / name, replace(ABOUT, id=name))
        (values,) = tomllib.loads(row)["model"]
        update_registry(root / "registry.toml", values)
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "medzoo"]:
        if hasattr(module, "bundled_root"):
            monkeypatch.setattr(module, "bundled_root", lambda: root)
    return root


def test_push_then_pull_gives_the_same_model(
    medzoo: Callable[..., Any],
    hub_server: HubServer,
    run: Path,
    about: Path,
    tmp_path: Path,
    user_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pushed = medzoo("push", run, "--about", about, "--repo", REPO, "--create", "--version", "v1")
    assert pushed.code == 0, pushed.err
    card = run / "card"
    assert medzoo("sample", card, "--n", 8, "--seed", 3, "--out", tmp_path / "before").code == 0

    shutil.rmtree(card)
    shutil.rmtree(user_folders / "cache", ignore_errors=True)
    (tmp_path / "registry.toml").write_text(pushed.out)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "registry.toml"))
    monkeypatch.delenv("HF_TOKEN")
    pulled = medzoo("pull", "tiny-udder")
    assert pulled.code == 0, pulled.err
    assert sorted(path.name for path in Path(pulled.out.strip()).iterdir() if path.name[0] != ".") == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    assert medzoo("sample", "tiny-udder", "--n", 8, "--seed", 3, "--out", tmp_path / "after").code == 0
    before, after = (
        {path.relative_to(folder): decode(path).tobytes() for path in folder.rglob("*.png")}
        for folder in (tmp_path / "before", tmp_path / "after")
    )
    assert before
    assert before == after


def test_push_dry_run_sends_nothing(
    medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    before = sorted(card.iterdir())
    arguments = ("push", card, "--about", about, "--repo", REPO, "--version", "v2", "--dry-run")
    told = medzoo(*arguments)
    assert told.out.splitlines()[0] == f"tiny-udder -> {REPO}, tag v2"
    (package,) = json.loads(medzoo(*arguments, "--json").out)
    sizes = {path.name: path.stat().st_size for path in before if path.name != "fingerprints.json"}
    assert {file["name"]: file["bytes"] for file in package["files"]} == sizes
    assert all(file["sha256"] in told.out for file in package["files"])
    assert hub_server.asked() == []
    assert sorted(card.iterdir()) == before


def test_push_json(medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path) -> None:
    arguments = ("push", card, "--about", about, "--repo", REPO, "--create", "--json")
    (first,) = json.loads(medzoo(*arguments).out)
    assert tomllib.loads(first["row"])["model"][0]["revision"] == first["commit"]
    again = medzoo(*arguments)
    (second,) = json.loads(again.out)
    assert (second["commit"], second["sent"]) == (first["commit"], [])
    assert "no commit was made" in again.err


def test_push_reports_all_problems(medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path) -> None:
    (card / "model.pkl").write_bytes(b"x")
    note(card, copy_check={"verdict": "failed", "metric": "nearest-train@pixels", "n_real": 40, "n_fake": 200})
    refused = medzoo("push", card, "--about", about, "--repo", REPO, "--create")
    assert refused.code == 5
    assert "contains model.pkl" in refused.err
    assert "--accept-memorization" in refused.err
    (card / "model.pkl").unlink()
    pushed = medzoo("push", card, "--about", about, "--repo", REPO, "--create", "--accept-memorization")
    assert pushed.code == 0, pushed.err
    (commit,) = [commit for commit in hub_server.store.repos[REPO].commits.values() if "README.md" in commit.files]
    assert commit.files["README.md"].data == (card / "README.md").read_bytes()
    assert b"published all the same" in commit.files["README.md"].data


def test_push_missing_repository_exits_4(
    medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path
) -> None:
    refused = medzoo("push", card, "--about", about, "--repo", REPO)
    assert (refused.code, refused.out) == (4, "")
    assert "--create" in refused.err


def test_push_never_shows_token(
    medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for token in ("hf_write", "hf_read", "hf_gone"):
        monkeypatch.setenv("HF_TOKEN", token)
        outcome = medzoo("push", card, "--about", about, "--repo", REPO, "--create")
        said.append(outcome.code)
        assert token not in outcome.out + outcome.err
    assert said == [0, 0, 4]  # what is there already needs no right to write


def test_push_all_bundled_models(medzoo: Callable[..., Any], hub_server: HubServer, zoo: Path) -> None:
    pushed = medzoo("push", "--all", "--org", "acme", "--create", "--update-registry")
    assert pushed.code == 0, pushed.err
    assert pushed.out == ""
    rows = tomllib.loads((zoo / "registry.toml").read_text())["model"]
    for row in rows:
        repo = hub_server.store.repos[row["repo"]]
        assert row["repo"] == f"acme/{row['id']}"
        assert repo.branches["main"] == row["revision"]
    assert len(rows) == len(hub_server.store.repos) == 2
    asked = len(hub_server.asked("/commit/"))
    again = medzoo("push", "--all", "--update-registry")
    assert again.code == 0, again.err
    assert len(hub_server.asked("/commit/")) == asked
    assert tomllib.loads((zoo / "registry.toml").read_text())["model"] == rows
    assert not [path for path in zoo.rglob(".*") if path.is_file()]


def test_push_all_stops_if_one_model_is_invalid(medzoo: Callable[..., Any], hub_server: HubServer, zoo: Path) -> None:
    with (zoo / "cards" / "tiny-b" / "README.md").open("a") as file:
        file.write("More.\n")
    refused = medzoo("push", "--all", "--org", "acme", "--create")
    assert refused.code == 5
    assert "README.md differs from the registry entry" in refused.err
    assert hub_server.asked() == []


def test_push_update_registry(
    medzoo: Callable[..., Any], hub_server: HubServer, card: Path, about: Path, tmp_path: Path, user_folders: Path
) -> None:
    arguments = ("push", card, "--about", about, "--repo", REPO, "--create", "--update-registry")
    assert medzoo(*arguments, "--registry", tmp_path / "own.toml").code == 0
    assert medzoo(*arguments).code == 0
    own = user_folders / "config" / "medzoo" / "registry.toml"
    assert own.read_text() == (tmp_path / "own.toml").read_text()
    assert tomllib.loads(own.read_text())["model"][0]["repo"] == REPO


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either a model to push or --all"),
        (("x", "--all"), "give either a model to push or --all"),
        (("--all", "--repo", "a/b"), "takes neither --repo nor --about"),
        (("x", "--private"), "add --create"),
        (("x", "--version", "one"), "'one' is not a version"),
        (("ddpm-udde",), "did you mean ddpm-udder"),
    ],
)
def test_push_conflicting_options_exit_2(medzoo: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    refused = medzoo("push", *arguments)
    assert refused.code == 2
    assert message in refused.err
