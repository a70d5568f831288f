"""Models pulled from a Hub that is slow, broken, full of other bytes, or not there."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.hub_server import flip

from medzoo.errors import HubError, IntegrityError, ResourceError
from medzoo.hub.registry import AssetEntry, FileEntry, load_registry
from medzoo.hub.sources import cache_folder, fetch_asset, fetch_model, locate, verify_folder

WEIGHTS = "GET /[0-9a-f]{64}/model.safetensors"


@pytest.fixture
def published(publish_on_hub):
    return publish_on_hub("ddpm-test")


@pytest.fixture
def entry(published):
    return load_registry().model("ddpm-test")


def final_names(entry):
    folder = cache_folder(entry)
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()


def assert_pulled(entry, published):
    folder = fetch_model(entry)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == published.files


def test_fetch_model_from_the_hub_at_its_pinned_commit(hub_server, entry, published):
    assert locate(entry) == ("hub", None)
    assert hub_server.asked() == []
    hub_server.store.put("acme/ddpm-test", {"model.safetensors": b"a newer one"})
    seen = {}
    folder = fetch_model(entry, progress=lambda done, total, name: seen.setdefault(name.split()[0], []).append(done))
    assert_pulled(entry, published)
    verify_folder(folder, entry)
    assert {name: (done[0], done[-1]) for name, done in seen.items()} == {
        name: (0, len(data)) for name, data in published.files.items()
    }
    assert all(entry.revision in request for request in hub_server.asked("resolve"))
    assert len(hub_server.asked("resolve")) == len(published.files)
    assert locate(entry) == ("cached", folder)


def test_fetch_model_prefers_the_mirror_to_the_hub(hub_server, entry, published, monkeypatch):
    monkeypatch.setenv("MEDZOO_MIRROR", str(published.mirror))
    assert_pulled(entry, published)
    assert hub_server.asked() == []


def test_fetch_model_warns_of_a_corrupt_mirror(hub_server, entry, published, monkeypatch, logged):
    monkeypatch.setenv("MEDZOO_MIRROR", str(published.mirror))
    published.path("model.safetensors").write_bytes(b"damage")
    hub_server.fail(WEIGHTS, status=500, times=4)
    with pytest.raises(HubError, match="responds with 500"):
        fetch_model(entry)
    assert "has 6 bytes" in logged[0]
    fetch_model(entry)
    assert "using acme/ddpm-test instead" in logged[-1]


def test_fetch_model_from_the_hub_alone(hub_server, entry, published, monkeypatch):
    monkeypatch.setenv("MEDZOO_MIRROR", str(published.mirror))
    fetch_model(entry, source="hub")
    assert len(hub_server.asked("resolve")) == len(published.files)


def test_fetch_model_not_on_the_hub(publish):
    publish("ddpm-test")
    with pytest.raises(HubError, match="'ddpm-test' is not on the Hub"):
        fetch_model(load_registry().model("ddpm-test"), source="hub")


def test_download_resumes_after_a_cut(hub_server, entry, published):
    hub_server.fail(WEIGHTS, cut=4000)
    assert_pulled(entry, published)
    ranges = [request.headers.get("range") for request in hub_server.requests if "/model.s" in request.path]
    assert ranges[:2] == [None, None]  # at the Hub, and where it sent the request
    assert re.fullmatch(r"bytes=[1-9]\d{0,3}-", ranges[2])


def test_download_resumes_in_the_next_pull(hub_server, entry, published):
    hub_server.fail(WEIGHTS, cut=3000, chunk=1000)
    hub_server.fail(WEIGHTS, cut=0, after=1, times=4)
    with pytest.raises(HubError, match=r"cannot download model\.safetensors of acme/ddpm-test"):
        fetch_model(entry)
    assert "model.safetensors" not in final_names(entry)
    before = len(hub_server.requests)
    assert_pulled(entry, published)
    (went_on,) = {r.headers["range"] for r in hub_server.requests[before:] if "/model.s" in r.path}
    assert int(went_on[len("bytes=") : -1]) > 0


def test_download_without_ranges_starts_again(hub_server, entry, published, monkeypatch):
    hub_server.fail(WEIGHTS, cut=4000)
    monkeypatch.setattr(
        "helpers.hub_server.re.fullmatch", lambda pattern, text: None if "bytes" in pattern else re.match(pattern, text)
    )
    assert_pulled(entry, published)


def test_download_discards_a_part_that_is_too_long(entry, published):
    folder = cache_folder(entry)
    folder.mkdir(parents=True)
    file = next(file for file in entry.files if file.name == "model.safetensors")
    (folder / f".model.safetensors.{file.sha256[:12]}.part").write_bytes(b"x" * 20_000)
    assert_pulled(entry, published)


@pytest.mark.parametrize(("name", "asked"), [("model.safetensors", WEIGHTS), ("config.json", "GET .*/config.json")])
def test_download_corrupt_file_leaves_nothing(hub_server, entry, published, name, asked):
    hub_server.fail(asked, body=flip(5))
    with pytest.raises(IntegrityError, match=rf"{name} of acme/ddpm-test at .* is corrupt: its sha256"):
        fetch_model(entry)
    assert not list(cache_folder(entry).glob(f"*{name}*"))
    assert not list(cache_folder(entry).glob(f".*{name}*"))
    assert_pulled(entry, published)


@pytest.mark.parametrize("change", [lambda data: data[:-7], lambda data: data + b"more"], ids=["short", "long"])
def test_download_wrong_size(hub_server, entry, published, change):
    hub_server.fail(WEIGHTS, body=change)
    with pytest.raises(IntegrityError, match=r"has \d+ bytes, expected 9000"):
        fetch_model(entry)
    assert "model.safetensors" not in final_names(entry)
    assert_pulled(entry, published)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_download_retries_after_a_passing_failure(hub_server, entry, published, status):
    hub_server.fail(WEIGHTS, status=status, times=3)
    assert_pulled(entry, published)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "too many requests"), (500, "responds with 500"), (503, "responds with 503")]
)
def test_download_lasting_failure(hub_server, entry, published, status, reason):
    hub_server.fail(WEIGHTS, status=status, times=100)
    with pytest.raises(HubError, match=reason):
        fetch_model(entry)
    assert "model.safetensors" not in final_names(entry)
    hub_server.faults.clear()
    assert_pulled(entry, published)


def test_download_respects_retry_after(hub_server, entry, published, monkeypatch):
    waited = []
    monkeypatch.setattr("medzoo.hub.network.time.sleep", waited.append)
    hub_server.fail(WEIGHTS, status=429, headers={"Retry-After": "7"})
    assert_pulled(entry, published)
    assert 7.0 in waited
    (cache_folder(entry) / "model.safetensors").unlink()
    hub_server.fail(WEIGHTS, status=429, headers={"Retry-After": "600"})
    with pytest.raises(HubError, match="too many requests"):
        fetch_model(entry)


def test_download_stalled_times_out(hub_server, entry, published, monkeypatch):
    hub_server.fail(WEIGHTS, pause=1.0, times=100)
    with monkeypatch.context() as impatient:
        impatient.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        with pytest.raises(HubError, match="timed out"):
            fetch_model(entry)
    hub_server.faults.clear()
    assert_pulled(entry, published)


def test_download_expired_token(hub_server, entry, published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_gone")
    with pytest.raises(HubError, match="rejects the token") as caught:
        fetch_model(entry)
    assert "HF_TOKEN" in caught.value.hint
    assert "hf_gone" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert_pulled(entry, published)


def test_download_private_model_needs_a_token(publish_on_hub, monkeypatch):
    published = publish_on_hub("ddpm-test", private=True)
    entry = load_registry().model("ddpm-test")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="is not on the Hub, or is private") as caught:
        fetch_model(entry)
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert_pulled(entry, published)


def test_download_unknown_commit(hub_server, entry):
    hub_server.store.repos["acme/ddpm-test"].commits.clear()
    hub_server.store.repos["acme/ddpm-test"].branches.clear()
    with pytest.raises(HubError, match="no such revision"):
        fetch_model(entry)


def test_download_offline(hub_server, entry, published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("medzoo.hub.network._PAUSES", (60.0,))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        fetch_model(entry)
    assert hub_server.asked() == []
    fetch_model(entry, source=str(published.mirror))
    assert_pulled(entry, published)


def test_download_unreachable_hub(entry, monkeypatch):
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(HubError, match=r"cannot download .* of acme/ddpm-test"):
        fetch_model(entry)


def test_pull_on_a_full_disk(entry, published):
    # a process of its own, whose limit stands for a disk of 4 kB
    program = (
        "import resource, sys, signal; from medzoo.cli.app import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "sys.exit(run(['pull', 'ddpm-test']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (6, ""), done.stderr
    assert "cannot write" in done.stderr
    assert "model.safetensors" not in " ".join(path.name for path in cache_folder(entry).iterdir())
    assert_pulled(entry, published)


def test_download_on_a_full_disk(entry, published, monkeypatch):
    def refuse(handle):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as full:
        full.setattr("os.fsync", refuse)
        with pytest.raises(ResourceError, match="the disk is full"):
            fetch_model(entry)
    assert final_names(entry) == set()
    assert_pulled(entry, published)


def test_fetch_model_in_parallel_downloads_each_file_once(hub_server, entry, published):
    hub_server.fail(WEIGHTS, pause=0.3, chunk=3000)
    program = (
        "from medzoo.hub.sources import fetch_model, verify_folder; from medzoo.hub.registry import load_registry\n"
        "entry = load_registry().model('ddpm-test')\n"
        "verify_folder(fetch_model(entry), entry)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err.decode()
    assert len(hub_server.asked("resolve")) == len(published.files)
    assert final_names(entry) == set(published.files)


def test_pull_resumes_after_an_interrupt(hub_server, entry, published):
    hub_server.fail(WEIGHTS, pause=0.1, chunk=200)
    program = "import sys; from medzoo.cli.app import run; sys.exit(run(['pull', 'ddpm-test']))"
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not any(part.stat().st_size for part in cache_folder(entry).glob(".model.safetensors.*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=600)
    assert (running.returncode, err) == (130, "interrupted; run the same command again to resume\n")
    assert "model.safetensors" not in final_names(entry)
    assert_pulled(entry, published)
    assert int(hub_server.requests[-1].headers["range"][len("bytes=") : -1]) > 0


def test_download_sends_the_token_to_the_hub_alone(hub_server, entry):
    fetch_model(entry)
    sent = {request.origin: "authorization" in request.headers for request in hub_server.requests}
    assert sent == {"hub": True, "cdn": False}


def asset(published, **place):
    data = published.files["model.safetensors"]
    file = next(entry for entry in load_registry().model("ddpm-test").files if entry.name == "model.safetensors")
    files = (FileEntry(name=place.pop("name", "model.safetensors"), sha256=file.sha256, bytes=len(data)),)
    facts = {"id": "backbone", "summary": "", "license": "mit", "url": "", "repo": "", "revision": "", **place}
    return AssetEntry(**facts, files=files, origin=published.registry, origins={})


def test_fetch_asset_from_repo_or_url(hub_server, entry, published):
    of_repo = asset(published, repo="acme/ddpm-test", revision=entry.revision)
    assert fetch_asset(of_repo).read_bytes() == published.files["model.safetensors"]
    assert "assets/backbone/" in fetch_asset(of_repo).as_posix()
    hub_server.requests.clear()
    address = f"{hub_server.url}/acme/ddpm-test/resolve/main/model.safetensors"
    assert fetch_asset(asset(published, url=address, name="own-name.pth")).name == "own-name.pth"
    assert not any("authorization" in request.headers for request in hub_server.requests)


def test_fetch_asset_from_a_package(published, monkeypatch, tmp_path):
    facts = {"package": "borrowed_weights/models", "requirement": "medzoo[borrowed]", "name": "own-name.pth"}
    entry = asset(published, **facts)
    assert locate(entry) == ("missing", None)
    with pytest.raises(HubError, match="comes with the Python package borrowed_weights, which is not installed") as no:
        fetch_asset(entry)
    assert no.value.hint == entry.fetch_command == "pip install 'medzoo[borrowed]'"
    folder = tmp_path / "site" / "borrowed_weights" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    (folder / "own-name.pth").write_bytes(published.files["model.safetensors"])
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert locate(entry) == ("package", folder)
    assert fetch_asset(entry).read_bytes() == published.files["model.safetensors"]
    assert locate(entry) == ("cached", cache_folder(entry))


def test_fetch_asset_from_a_package_of_another_version(published, monkeypatch, tmp_path):
    entry = asset(published, package="other_weights", requirement="medzoo[other]")
    (tmp_path / "other_weights").mkdir()
    (tmp_path / "other_weights" / "__init__.py").touch()
    (tmp_path / "other_weights" / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IntegrityError, match="has 5 bytes, the registry says"):
        fetch_asset(entry)


def test_fetch_asset_corrupt(hub_server, published):
    hub_server.fail(WEIGHTS, body=flip(5))
    of_url = asset(published, url=f"{hub_server.url}/acme/ddpm-test/resolve/main/model.safetensors")
    with pytest.raises(IntegrityError, match="is corrupt"):
        fetch_asset(of_url)
    assert fetch_asset(of_url).is_file()
