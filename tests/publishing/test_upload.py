"""What a Hub answers to a push becomes a request or a registry entry only after it was checked."""

from __future__ import annotations

import json

import pytest
from helpers.hub_server import HubServer

from medzoo.errors import HubError
from medzoo.publishing.upload import Repository

REPO = "acme/model"


@pytest.fixture
def repository(hub_server: HubServer) -> Repository:
    hub_server.store.put(REPO, {"README.md": b"# A model\n"})
    return Repository(REPO)


@pytest.mark.parametrize(
    "page",
    [
        b"<html>Sign in</html>",
        b"[" * 100_000,
        b"[]",
        json.dumps({"id": REPO, "sha": "../../..", "siblings": []}).encode(),
        json.dumps({"id": REPO, "sha": "main", "siblings": [{}]}).encode(),
    ],
)
def test_read_unexpected_answer(repository: Repository, hub_server: HubServer, page: bytes) -> None:
    hub_server.fail("GET /api/models", body=lambda _: page, times=9)
    with pytest.raises(HubError, match="unexpected response from the Hub") as caught:
        repository.read()
    assert "\n" not in caught.value.message


def test_commit_that_is_not_one(repository: Repository, hub_server: HubServer) -> None:
    def change(data: bytes) -> bytes:
        return json.dumps({**json.loads(data), "commitOid": "main"}).encode()

    remote = repository.read()
    assert remote is not None
    hub_server.fail("POST .*/commit/", body=change)
    with pytest.raises(HubError, match="'main' is not a commit"):
        repository.commit({"config.json": b"{}"}, onto=remote, message="Add")


def test_repository_network_setting_that_cannot_be_used(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_geh\u00e9im")
    with pytest.raises(HubError, match="the token in HF_TOKEN contains") as caught:
        Repository(REPO)
    assert "geh" not in str(caught.value)
