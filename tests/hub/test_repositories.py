"""Models named by their place on the Hub."""

import hashlib
import json

import pytest
from helpers.hub_server import flip
from huggingface_hub import constants

from medzoo.errors import ConfigError, HubError, IntegrityError, UnknownName
from medzoo.hub.cache import cached_entries, find_cached, remove_cached
from medzoo.hub.registry import load_registry, resolve
from medzoo.hub.repositories import fetch_repo, parse_reference, read_pulled
from medzoo.plugins.lookup import load_plugins

REPO = "acme/ddpm-test"
NAME = f"hf:{REPO}"
WEIGHTS = b"weights" * 1000


@pytest.fixture
def put(hub_server, monkeypatch):
    """Put a model into the repository; its commit."""
    monkeypatch.setattr("medzoo.hub.network._PAUSES", (0.0, 0.0, 0.0))

    def make(weights=WEIGHTS, **others):
        stated = {"plugin": "ddpm", "weights_sha256": hashlib.sha256(weights).hexdigest()}
        files = {"config.json": json.dumps(stated).encode(), "model.safetensors": weights, "README.md": b"# A model\n"}
        return hub_server.store.put(
            REPO, {name: data for name, data in {**files, **others}.items() if data is not None}
        )

    return make


@pytest.fixture(autouse=True)
def first_commit(put):
    """Each test begins with one commit."""
    return put()


def test_fetch_repo_downloads_model_and_card_only(hub_server, put):
    others = {
        "model.bin": b"\0pickle",
        "run.py": b"import os",
        "extra.safetensors": b"\0",
        "sub/model.safetensors": b"\0",
    }
    commit = put(**others, **{"samples.png": b"\x89PNG\0"})
    folder = fetch_repo(NAME)
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible == {"config.json", "model.safetensors", "README.md", "samples.png"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert folder.name == f"ddpm-test@{commit[:12]}"
    assert read_pulled(folder) == {"repo": REPO, "revision": commit}
    assert not hub_server.asked(r"\.bin|\.py|extra|sub/")


def test_fetch_repo_pins_a_branch(hub_server, put, monkeypatch):
    first = fetch_repo(NAME)
    second_commit = put(b"newer" * 1000)
    assert fetch_repo(NAME) == first
    newer = fetch_repo(NAME, refresh=True)
    assert read_pulled(newer)["revision"] == second_commit
    assert fetch_repo(NAME) == newer
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch_repo(NAME) == newer
    assert fetch_repo(f"{NAME}@{read_pulled(first)['revision']}") == first
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch_repo(NAME, refresh=True)


def test_fetch_repo_refresh_never_returns_an_older_commit(hub_server, put):
    fetch_repo(NAME)
    put(b"newer" * 1000)
    hub_server.fail("GET /api/models", status=500, times=100)
    with pytest.raises(HubError, match="responds with 500"):
        fetch_repo(NAME, refresh=True)


def test_fetch_repo_tag_and_short_commit(hub_server, put, first_commit):
    hub_server.store.repos[REPO].tags["v1"] = first_commit
    put(b"newer" * 1000)
    assert read_pulled(fetch_repo(f"{NAME}@v1"))["revision"] == first_commit
    hub_server.requests.clear()
    assert read_pulled(fetch_repo(f"{NAME}@{first_commit[:12]}"))["revision"] == first_commit
    assert hub_server.asked() == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_fetch_repo_missing_file(hub_server, put, name):
    put(**{name: None})
    with pytest.raises(HubError, match=rf"is not a medzoo model: it has no {name}"):
        fetch_repo(NAME)
    assert not hub_server.asked("resolve")


@pytest.mark.parametrize("content", [b"{}", b'{"plugin": "ddpm"}', b"[1]", b"no json"])
def test_fetch_repo_of_another_library(hub_server, put, user_folders, content):
    put(**{"config.json": content})
    with pytest.raises(HubError, match="names no plugin"):
        fetch_repo(NAME)
    assert not hub_server.asked(r"model\.safetensors")
    assert cached_entries() == []


def test_fetch_repo_weights_of_another_model(put):
    put(**{"model.safetensors": b"others" * 100})
    with pytest.raises(IntegrityError, match=r"the sha256 of model\.safetensors is .*config\.json says"):
        fetch_repo(NAME)
    assert cached_entries() == []
    put()
    assert fetch_repo(NAME, refresh=True).is_dir()


@pytest.mark.parametrize("asked", ["GET .*/config.json", "GET /[0-9a-f]{64}/model.safetensors"])
def test_fetch_repo_corrupt_file(hub_server, asked):
    hub_server.fail(asked, body=flip(3))
    with pytest.raises(IntegrityError, match="is corrupt"):
        fetch_repo(NAME)
    folder = fetch_repo(NAME)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_fetch_repo_large_file_survives_more_cuts(hub_server, put):
    large = bytes(range(256)) * 20_000
    put(large)
    hub_server.fail("GET /[0-9a-f]{64}/model.safetensors", cut=1_050_000, times=4)
    assert (fetch_repo(NAME) / "model.safetensors").read_bytes() == large
    put(large[::-1])
    hub_server.fail("GET /[0-9a-f]{64}/model.safetensors", cut=100_000, times=4)
    with pytest.raises(HubError, match="cannot download"):
        fetch_repo(NAME, refresh=True)


def test_fetch_repo_refresh_replaces_a_corrupt_file(put):
    folder = fetch_repo(NAME)
    (folder / "model.safetensors").write_bytes(b"damage" * 10)
    assert fetch_repo(NAME, refresh=True) == folder
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_fetch_repo_retries_the_look_up(hub_server):
    hub_server.fail("GET /api/models", status=503, times=2)
    assert fetch_repo(NAME).is_dir()


def test_fetch_repo_through_a_proxy(hub_server, monkeypatch):
    elsewhere = "http://hub.example"  # what no one but the proxy can reach
    monkeypatch.setenv("HTTP_PROXY", hub_server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", elsewhere)
    template = elsewhere + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert (fetch_repo(NAME) / "model.safetensors").read_bytes() == WEIGHTS
    assert {request.headers["host"] for request in hub_server.requests if request.origin == "hub"} == {"hub.example"}


def test_fetch_repo_missing_revision_or_repository():
    with pytest.raises(HubError, match="acme/ddpm-test at v9: the repository has no such revision"):
        fetch_repo(f"{NAME}@v9")
    with pytest.raises(HubError, match="acme/none at main is not on the Hub"):
        fetch_repo("hf:acme/none")


def test_fetch_repo_gated(hub_server, monkeypatch):
    hub_server.store.repos[REPO].gated = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="is gated") as caught:
        fetch_repo(NAME)
    assert hub_server.url in caught.value.hint


@pytest.mark.parametrize("given", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:../x", "hf:a/b@v1@v2", "hf:a/../b"])
def test_parse_reference_invalid(given):
    with pytest.raises(ConfigError, match="is not a repository on the Hub"):
        parse_reference(given)


def test_resolve_reference():
    found = resolve(NAME, load_registry(), load_plugins())
    assert found.spec.name == "ddpm"
    assert found.entry is None
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS


def test_cached_entries_and_remove_cached_commits(put, first_commit):
    fetch_repo(NAME)
    commit = put(b"newer" * 1000)
    fetch_repo(NAME, refresh=True)
    assert {entry.name for entry in find_cached([NAME])} == {f"{NAME}@{first_commit[:12]}", f"{NAME}@{commit[:12]}"}
    (newest,) = find_cached([f"{NAME}@{commit[:12]}"])
    assert newest.bytes > 5000
    remove_cached(newest)
    assert [entry.name for entry in cached_entries()] == [f"{NAME}@{first_commit[:12]}"]
    with pytest.raises(UnknownName, match="entry of the cache"):
        find_cached([f"{NAME}@{commit[:12]}"])
    assert not parse_reference(NAME).pins.exists()
    assert read_pulled(fetch_repo(NAME))["revision"] == commit
