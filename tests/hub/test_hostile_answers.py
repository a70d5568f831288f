"""What a Hub answers becomes a path or a request only after it was checked."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from pathlib import Path

import pytest

from medzoo.errors import ConfigError, HubError, IntegrityError, ResourceError
from medzoo.hub.network import check_network_settings
from medzoo.hub.registry import load_registry
from medzoo.hub.repositories import PULLED, fetch_repo, parse_reference, read_pins, read_pulled
from medzoo.hub.sources import fetch_model
from medzoo.storage.paths import cache_root

REPO = "acme/model"
NAME = f"hf:{REPO}"
WEIGHTS = b"weights" * 1000
LOOK_UP = "GET /api/models"


@pytest.fixture(autouse=True)
def commit(hub_server, monkeypatch):
    """The commit of a model on the Hub."""
    monkeypatch.setattr("medzoo.hub.network._PAUSES", (0.0, 0.0, 0.0))
    description = {"plugin": "ddpm", "weights_sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    files = {"config.json": json.dumps(description).encode(), "model.safetensors": WEIGHTS}
    return hub_server.store.put(REPO, files)


@pytest.fixture
def answer(hub_server):
    """Change the Hub's next description of a repository."""

    def change(edit):
        def body(data):
            values = json.loads(data)
            edit(values)
            return json.dumps(values).encode()

        hub_server.fail(LOOK_UP, body=body)

    return change


def files_around():
    root = cache_root().parent
    return {path.relative_to(root) for path in root.rglob("*")}


@pytest.mark.parametrize(
    "sha", ["/../..", "../../..", "0123456789ab/../../x", "main", "0" * 41, "G" * 40, "", None, 5, ["a"]]
)
def test_fetch_repo_invalid_commit(answer, hub_server, sha):
    cache_root().mkdir(parents=True)
    (cache_root().parent / "precious").write_text("kept")
    before = files_around()
    answer(lambda values: values.update(sha=sha))
    with pytest.raises(HubError, match=r"unexpected response for acme/model at main: .* is not its commit"):
        fetch_repo(NAME)
    assert files_around() == before
    assert not hub_server.asked("resolve")


def test_fetch_repo_another_commit_than_requested(answer, commit):
    answer(lambda values: values.update(sha="f" * 40))
    with pytest.raises(HubError, match="is not its commit"):
        fetch_repo(f"{NAME}@{commit}")


def set_file(values, name, **changes):
    (file,) = (file for file in values["siblings"] if file["rfilename"] == name)
    large = file.get("lfs") or {}
    for key, value in changes.items():
        (large if key in ("sha256",) or (large and key == "size") else file)[key] = value


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"size": -1}),
        ("config.json", {"size": 0}),
        ("config.json", {"size": 10**15}),
        ("config.json", {"size": "5"}),
        ("config.json", {"size": 2.5}),
        ("config.json", {"size": None}),
        ("config.json", {"blobId": "../../../../x"}),
        ("config.json", {"blobId": None}),
        ("model.safetensors", {"size": -7}),
        ("model.safetensors", {"size": True}),
        ("model.safetensors", {"sha256": "../" * 20}),
        ("model.safetensors", {"sha256": "A" * 64}),
    ],
)
def test_fetch_repo_invalid_file(answer, hub_server, name, changes):
    answer(lambda values: set_file(values, name, **changes))
    with pytest.raises(HubError, match=f"the hash or size of {name} is invalid"):
        fetch_repo(NAME)
    assert not hub_server.asked("resolve")


def test_fetch_repo_larger_than_the_disk(answer, hub_server):
    answer(lambda values: set_file(values, "model.safetensors", size=10**15))
    with pytest.raises(ResourceError, match=r"needs 1000000000\.0 MB, the disk has") as caught:
        fetch_repo(NAME)
    assert "MEDZOO_CACHE" in caught.value.hint
    assert not hub_server.asked(r"resolve/.*model\.safetensors")


@pytest.mark.parametrize(
    "page",
    [
        b"<html>Sign in to the guest network</html>",
        b"",
        b"[]",
        b'"text"',
        b"5",
        b"null",
        b"[" * 100_000,
        b'{"id": "acme/model"',
        b'{"id": "acme/model", "siblings": 5}',
        b'{"id": "acme/model", "siblings": [5]}',
        b'{"id": "acme/model", "siblings": [{}]}',
        b'{"id": "acme/model", "sha": "\xff"}',
    ],
)
def test_fetch_repo_answer_of_something_else(hub_server, page):
    hub_server.fail(LOOK_UP, body=lambda _: page, times=9)
    with pytest.raises(HubError, match="unexpected response for acme/model at main") as caught:
        fetch_repo(NAME)
    assert "\n" not in caught.value.message
    assert "login page" in caught.value.hint


def test_fetch_repo_redirected_look_up_carries_no_token(hub_server):
    hub_server.fail(LOOK_UP, status=302, headers={"Location": f"{hub_server.cdn}/api/models/{REPO}"})
    with pytest.raises(HubError):
        fetch_repo(NAME)
    sent = [(request.origin, "authorization" in request.headers) for request in hub_server.requests]
    assert sent == [("hub", True), ("cdn", False)]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://example/x", "http://[", "\x00"])
def test_fetch_repo_redirected_to_what_is_no_address(hub_server, place):
    hub_server.fail("GET .*config.json", status=302, headers={"Location": place}, times=9)
    with pytest.raises(HubError, match=r"cannot (download|request) config\.json"):
        fetch_repo(NAME)


def test_fetch_repo_redirected_in_circles(hub_server):
    hub_server.fail("GET .*config.json", status=302, headers={"Location": f"{hub_server.url}/config.json"}, times=999)
    with pytest.raises(HubError, match="redirect"):
        fetch_repo(NAME)


@pytest.mark.parametrize("value", ["\u00b2", "-5", "soon", "9" * 5000])
def test_fetch_repo_odd_retry_after(hub_server, value):
    hub_server.fail(LOOK_UP, status=503, headers={"Retry-After": value}, times=9)
    with pytest.raises(HubError, match="responds with 503"):
        fetch_repo(NAME)


def test_fetch_repo_never_writes_through_a_link(commit, tmp_path):
    folder = parse_reference(NAME).folder(commit)
    folder.mkdir(parents=True)
    other = tmp_path / "other"
    other.write_text("of somebody else")
    digest = hashlib.sha256(WEIGHTS).hexdigest()[:12]
    for name in ("config.json", "model.safetensors", PULLED, f".model.safetensors.{digest}.part"):
        (folder / name).symlink_to(other)
    assert fetch_repo(NAME) == folder
    assert other.read_text() == "of somebody else"
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_fetch_repo_never_follows_a_link_out_of_the_cache(tmp_path):
    (cache_root() / "repos").mkdir(parents=True)
    (cache_root() / "repos" / "acme").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ResourceError, match="leads out of the cache"):
        fetch_repo(NAME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("commit", ["../../../x", "0123456789ab", 5, None])
def test_read_pins_invalid_commit(commit):
    pins = parse_reference(NAME).pins
    pins.parent.mkdir(parents=True)
    pins.write_text(json.dumps({"main": commit}))
    with pytest.raises(IntegrityError, match="is corrupt"):
        read_pins(pins)
    pins.write_text("[" * 100_000)
    with pytest.raises(IntegrityError, match="is corrupt"):
        fetch_repo(NAME)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{}", '{"repo": "a/../b", "revision": "main"}'])
def test_read_pulled_damaged(tmp_path, text):
    (tmp_path / PULLED).write_text(text)
    with pytest.raises(IntegrityError, match="is corrupt"):
        read_pulled(tmp_path)


@pytest.mark.parametrize(
    "given",
    ["hf:org/name-", "hf:org/na--me", "hf:org/name.git", "hf:-o/name", f"hf:{'a' * 60}/{'b' * 60}"]
    + [f"hf:org/name@{revision}" for revision in ("../../x", "a..b", "a\x1b[2J", "x:y", "^main")],
)
def test_parse_reference_that_the_hub_refuses(given):
    with pytest.raises(ConfigError, match="is not a repository on the Hub"):
        parse_reference(given)


SETTINGS = [
    ({"ALL_PROXY": "socks5://me:secret@127.0.0.1:9"}, "ALL_PROXY=socks5://127.0.0.1:9", "socksio"),
    ({"ALL_PROXY": "socks://me:secret@127.0.0.1:9"}, "kind 'socks'", "write socks5://127.0.0.1:9"),
    ({"HTTPS_PROXY": "ftp://127.0.0.1:9"}, "HTTPS_PROXY=ftp://127.0.0.1:9", "unset it"),
    ({"https_proxy": "http://127.0.0.1:port"}, "https_proxy is not the address of a proxy", "http://HOST:PORT"),
    ({"ALL_PROXY": "http://[::1"}, "ALL_PROXY is not the address of a proxy", "http://HOST:PORT"),
    ({"SSL_CERT_FILE": "/nonexistent/ca.pem"}, "SSL_CERT_FILE=/nonexistent/ca.pem cannot be used", "PEM"),
    ({"SSL_CERT_FILE": os.devnull}, f"SSL_CERT_FILE={os.devnull} cannot be used", "PEM"),
    ({"HF_TOKEN": "hf_secr\u00e9t"}, "the token in HF_TOKEN contains", "settings/tokens"),
    ({"HF_TOKEN": "hf_secret two"}, "the token in HF_TOKEN contains", "settings/tokens"),
    ({"HF_TOKEN": "hf_secret\x01"}, "the token in HF_TOKEN contains", "settings/tokens"),
    ({"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}, "HF_HUB_DOWNLOAD_TIMEOUT=soon is not a whole number", "as in 30"),
    ({"HF_HUB_ETAG_TIMEOUT": "2.5"}, "HF_HUB_ETAG_TIMEOUT=2.5 is not a whole number", "as in 30"),
]


@pytest.mark.parametrize(("settings", "message", "hint"), SETTINGS)
def test_check_network_settings(monkeypatch, settings, message, hint):
    from huggingface_hub import close_session

    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    check_network_settings()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    close_session()
    with pytest.raises(HubError) as caught:
        fetch_repo(NAME)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "secr" not in str(caught.value)
    close_session()


def test_check_network_settings_token_file(monkeypatch, hub_server):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    path = Path(constants.HF_TOKEN_PATH)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HubError, match=f"token in {path}"):
        fetch_repo(NAME)


def test_fetch_model_certificate_of_a_proxy(publish_on_hub, monkeypatch):
    from huggingface_hub import get_session
    from huggingface_hub.errors import HTTPError

    publish_on_hub("ddpm-test")

    def refuse(*_, **__):
        raise HTTPError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed") from ssl.SSLError()

    monkeypatch.setattr(get_session(), "stream", refuse)
    with pytest.raises(HubError, match="certificate verify failed") as caught:
        fetch_model(load_registry().model("ddpm-test"))
    assert "SSL_CERT_FILE" in caught.value.hint
