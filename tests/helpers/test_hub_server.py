"""The Hub that tests talk to behaves as the Hub's own client expects."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, hf_hub_download, whoami
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from helpers.hub_server import flip
from helpers.hub_store import git_hash

WEIGHTS = bytes(range(256)) * 1000
CARD = b"---\nlicense: cc-by-4.0\n---\n# A model\n"
FILES = {"README.md": CARD, "config.json": b"{}", "sub/notes.json": b"[]", "model.safetensors": WEIGHTS}


@pytest.fixture
def api(hub_server):
    return HfApi()


def additions(files):
    return [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]


def push(api, files=FILES, repo="acme/model", **options):
    return api.create_commit(repo, additions(files), commit_message="Add", **options)


def test_hub_server_push_and_pull(hub_server, api):
    assert whoami()["name"] == "acme"
    api.create_repo("acme/model", private=True)
    first = api.model_info("acme/model").sha
    commit = push(api, parent_commit=first)
    api.create_tag("acme/model", tag="v1")
    info = api.model_info("acme/model", revision="v1", files_metadata=True)
    assert info.sha == commit.oid
    assert info.private
    sizes = {file.rfilename: (file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings}
    assert sizes["model.safetensors"] == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    assert sizes["config.json"] == (2, None)
    path = hf_hub_download("acme/model", "model.safetensors", revision=commit.oid)
    assert Path(path).read_bytes() == WEIGHTS
    elsewhere = [request for request in hub_server.requests if request.origin == "cdn"]
    assert [request.method for request in elsewhere] == ["PUT", "GET"]
    assert not any("authorization" in request.headers for request in elsewhere)


def test_hub_server_same_content_is_not_committed_twice(hub_server, api):
    api.create_repo("acme/model")
    first = push(api)
    assert push(api).oid == first.oid
    assert len(hub_server.asked("POST .*/commit/")) == 1
    assert len(hub_server.asked("PUT")) == 1


def test_hub_server_trees_and_path_infos(hub_server, api):
    hub_server.store.put("acme/model", FILES)
    tree = {entry.path: entry for entry in api.list_repo_tree("acme/model", recursive=True)}
    assert set(tree) == {".gitattributes", "sub", *FILES}
    assert tree["config.json"].blob_id == git_hash(b"{}")
    assert tree["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert {entry.path for entry in api.list_repo_tree("acme/model")} == {
        ".gitattributes", "README.md", "config.json", "sub", "model.safetensors"
    }  # fmt: skip
    assert [entry.path for entry in api.list_repo_tree("acme/model", "sub")] == ["sub/notes.json"]
    assert [entry.path for entry in api.get_paths_info("acme/model", ["config.json", "none"])] == ["config.json"]


def test_hub_server_deletes_and_refuses_stale_parent(hub_server, api):
    stale = hub_server.store.put("acme/model", FILES)
    api.create_commit("acme/model", [CommitOperationDelete("sub/")], commit_message="Less")
    assert not api.file_exists("acme/model", "sub/notes.json")
    assert [commit.title for commit in api.list_repo_commits("acme/model")] == ["Less", "Set up"]
    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, {"config.json": b"{1}"}, parent_commit=stale)
    api.delete_repo("acme/model")
    assert not api.repo_exists("acme/model")


def test_hub_server_errors_map_to_client_exceptions(hub_server, api, monkeypatch):
    hub_server.store.put("acme/model", FILES, private=True)
    hub_server.store.put("acme/gated", FILES)
    hub_server.store.repos["acme/gated"].gated = True
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/model", revision="v9")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("acme/model", "none.json")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("acme/model")
    for token, repo, error in (
        ("hf_other", "acme/model", RepositoryNotFoundError),
        (False, "acme/model", RepositoryNotFoundError),
        (False, "acme/gated", GatedRepoError),
        ("hf_gone", "acme/gated", HfHubHTTPError),
    ):
        with pytest.raises(error, match=r"401|404"):
            api.model_info(repo, token=token)
    with pytest.raises(HfHubHTTPError, match="403"):
        push(api, token="hf_read")


def test_hub_server_validates_card_front_matter(hub_server):
    ModelCard("---\nlicense: mit\n---\n# A\n").validate()
    with pytest.raises((ValueError, BadRequestError)):
        HfApi().create_commit("acme/model", additions({"README.md": b"---\na: [\n---\n"}), commit_message="Bad")


def test_hub_server_range_requests(hub_server):
    hub_server.store.put("acme/model", FILES)
    url = f"{hub_server.url}/acme/model/resolve/main/model.safetensors"
    part = get_session().get(url, headers={"Range": "bytes=1000-"})
    assert part.status_code == 206
    assert part.content == WEIGHTS[1000:]
    assert part.headers["Content-Range"] == f"bytes 1000-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"
    assert get_session().get(url, headers={"Range": f"bytes={len(WEIGHTS)}-"}).status_code == 416


def test_hub_server_failures_in_order(hub_server):
    hub_server.store.put("acme/model", FILES)
    url = f"{hub_server.url}/acme/model/resolve/main/model.safetensors"
    hub_server.fail("GET .*safetensors", status=429, headers={"Retry-After": "1"}, after=1)
    statuses = [get_session().get(url).status_code for _ in range(3)]
    assert statuses == [429, 200, 200]  # a redirected request counts at both of its addresses
    hub_server.fail("GET /[0-9a-f]{64}", body=flip(7))
    assert get_session().get(url).content == WEIGHTS[:7] + b"\x06" + WEIGHTS[8:]
    hub_server.fail("GET /[0-9a-f]{64}", cut=5000, pause=0.01, chunk=1000)
    with get_session().stream("GET", url) as response, pytest.raises(HTTPError):
        list(response.iter_bytes(100))
    hub_server.fail("GET /[0-9a-f]{64}", body=lambda data: data[:-3])
    assert len(get_session().get(url).content) == len(WEIGHTS) - 3
    assert get_session().get(url).content == WEIGHTS


def test_hub_server_lost_response_keeps_commit(hub_server, api):
    api.create_repo("acme/model")
    hub_server.fail("POST .*/commit/main", lost=True)
    with pytest.raises(HTTPError):
        push(api)
    assert api.list_repo_commits("acme/model")[0].title == "Add"
