import hashlib
import json
import os
from pathlib import Path

import pytest
from helpers.hub_server import flip

from medzoo.hub.registry import load_registry
from medzoo.hub.sources import verify_folder
from medzoo.storage.paths import bundled_root


def test_pull_prints_folder(medzoo, publish):
    publish("ddpm-test")
    outcome = medzoo("pull", "ddpm-test")
    assert (outcome.code, outcome.err) == (0, "")
    verify_folder(Path(outcome.out.strip()), load_registry().model("ddpm-test"))


def test_pull_from_folder(medzoo, publish):
    published = publish("ddpm-test", mirror=False)
    outcome = medzoo("pull", "ddpm-test", "--from", published.mirror, "--json")
    (pulled,) = json.loads(outcome.out)
    assert pulled["id"] == "ddpm-test"
    assert pulled["bytes"] == sum(len(data) for data in published.files.values())
    assert Path(pulled["path"], "config.json").is_file()


def test_pull_missing_model_exits_4(medzoo, publish):
    publish("ddpm-test", mirror=False)
    outcome = medzoo("pull", "ddpm-test")
    assert (outcome.code, outcome.out) == (4, "")
    assert "medzoo pull ddpm-test --from DIR" in outcome.err


def test_pull_corrupt_file_exits_4_and_leaves_nothing(medzoo, publish, user_folders):
    published = publish("ddpm-test")
    path = published.path("model.safetensors")
    path.write_bytes(path.read_bytes().replace(b"ddpm", b"eepm", 1))
    outcome = medzoo("pull", "ddpm-test")
    assert outcome.code == 4
    assert "is corrupt: its sha256 is" in outcome.err
    assert not list(user_folders.rglob("*.safetensors*"))


def test_pull_unknown_model_pulls_nothing(medzoo, publish, user_folders):
    publish("ddpm-test")
    outcome = medzoo("pull", "ddpm-test", "ddpm-tset")
    assert outcome.code == 2
    assert "did you mean" in outcome.err
    assert not (user_folders / "cache").exists()


def test_pull_generator_without_weights(medzoo):
    outcome = medzoo("pull", "classic")
    assert outcome.code == 2
    assert "'classic' has no weights to pull" in outcome.err


def test_pull_several_models_and_a_hub_repository(medzoo, publish, publish_on_hub, hub_server):
    publish("ddpm-first", mirror=False)
    weights = b"weights" * 1000
    stated = {"plugin": "ddpm", "weights_sha256": hashlib.sha256(weights).hexdigest()}
    files = {"config.json": json.dumps(stated).encode(), "model.safetensors": weights}
    commit = hub_server.store.put("acme/foreign", files)
    publish_on_hub("ddpm-test")
    outcome = medzoo("pull", "ddpm-test", "hf:acme/foreign", "--json")
    assert outcome.code == 0
    named, placed = json.loads(outcome.out)
    assert (named["id"], named["repo"]) == ("ddpm-test", "acme/ddpm-test")
    assert (placed["id"], placed["revision"]) == ("hf:acme/foreign", commit)
    assert placed["bytes"] == sum(len(data) for data in files.values())
    assert f"hf:acme/foreign is now hf:acme/foreign@{commit}" in outcome.err


def test_pull_asset(medzoo, publish_on_hub, monkeypatch):
    published = publish_on_hub("ddpm-test")
    entry = load_registry().model("ddpm-test")
    file = next(file for file in entry.files if file.name == "model.safetensors")
    registry = published.registry.with_name("assets.toml")
    registry.write_text(
        f"""[[asset]]
id = "backbone"
summary = "a part"
license = "mit"
repo = "{entry.repo}"
revision = "{entry.revision}"
files = [{{ name = "{file.name}", sha256 = "{file.sha256}", bytes = {file.bytes} }}]
"""
    )
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{published.registry}{os.pathsep}{registry}")
    outcome = medzoo("pull", "backbone")
    assert outcome.code == 0, outcome.err
    assert Path(outcome.out.strip()).read_bytes() == published.files["model.safetensors"]
    assert "backbone" in medzoo("cache").out


def test_pull_shows_progress(medzoo, publish_on_hub, hub_server, monkeypatch):
    monkeypatch.setattr("medzoo.cli.progress.ProgressDisplay.EVERY", 0.0)
    publish_on_hub("ddpm-test")
    assert "downloading: 0.0/0.0 MB, model.safetensors of acme/ddpm-test at" in medzoo("pull", "ddpm-test").err


@pytest.mark.parametrize(("fault", "reason"), [
    ({"status": 503, "times": 100}, "responds with 503"),
    ({"body": flip(9)}, "is corrupt: its sha256 is"),
    ({"cut": 10, "times": 100}, "cannot download"),
])  # fmt: skip
def test_pull_hub_failure_exits_4_then_succeeds(medzoo, publish_on_hub, hub_server, fault, reason):
    publish_on_hub("ddpm-test")
    hub_server.fail("GET /[0-9a-f]{64}/model.safetensors", **{"chunk": 1, **fault})
    outcome = medzoo("pull", "ddpm-test")
    assert (outcome.code, outcome.out) == (4, "")
    assert reason in outcome.err
    assert len(outcome.err.splitlines()) == 2
    hub_server.faults.clear()
    assert medzoo("pull", "ddpm-test").code == 0


def test_sample_hub_repository_matches_bundled_model(medzoo, hub_server, tmp_path):
    card = bundled_root() / "cards" / "dcgan-busi"
    commit = hub_server.store.put("acme/dcgan", {path.name: path.read_bytes() for path in card.iterdir()})
    drawn = []
    for given in ("dcgan-busi", "hf:acme/dcgan", f"hf:acme/dcgan@{commit}"):
        out = tmp_path / str(len(drawn))
        outcome = medzoo("sample", given, "--n", "1", "--device", "cpu", "--out", out)
        assert outcome.code == 0, outcome.err
        drawn.append(sorted(path.read_bytes() for path in out.rglob("*.png")))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == 3


def test_pull_hub_repository_with_other_source(medzoo, tmp_path):
    for verb in (["pull"], ["sample", "--n", "1"]):
        assert "is on the Hub, not in bundled" in medzoo(*verb, "hf:acme/model", "--from", "bundled").err
    assert medzoo("pull", "hf:model").code == 2
