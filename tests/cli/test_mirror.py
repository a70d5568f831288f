"""A mirror is written whole, checked, and once."""

import json

import pytest

from medzoo.errors import DataError, IntegrityError
from medzoo.hub.mirror import write_mirror
from medzoo.hub.registry import load_registry
from medzoo.hub.sources import fetch_model
from medzoo.storage.files import temporary_name


@pytest.fixture
def mirror(tmp_path):
    return tmp_path / "mirror"


def test_mirror_is_a_source_elsewhere(medzoo, publish_on_hub, mirror, user_folders, monkeypatch):
    published = publish_on_hub("ddpm-test")
    outcome = medzoo("mirror", mirror, "ddpm-test")
    assert (outcome.code, outcome.out) == (0, f"{mirror / 'ddpm-test'}\n")
    assert f"MEDZOO_MIRROR={mirror}" in outcome.err
    assert {path.name: path.read_bytes() for path in (mirror / "ddpm-test").iterdir()} == published.files
    monkeypatch.setenv("MEDZOO_CACHE", str(user_folders / "another"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert medzoo("pull", "ddpm-test").code == 4
    monkeypatch.setenv("MEDZOO_MIRROR", str(mirror))
    assert medzoo("pull", "ddpm-test").code == 0


def test_mirror_again_copies_nothing(medzoo, publish_on_hub, hub_server, mirror):
    publish_on_hub("ddpm-test")
    medzoo("mirror", mirror, "ddpm-test")
    dates = {path: path.stat().st_mtime_ns for path in mirror.rglob("*")}
    hub_server.requests.clear()
    (again,) = json.loads(medzoo("mirror", mirror, "ddpm-test", "--json").out)
    assert again == {"id": "ddpm-test", "folder": str(mirror / "ddpm-test"), "copied": False}
    assert {path: path.stat().st_mtime_ns for path in mirror.rglob("*")} == dates
    assert hub_server.asked() == []


def test_write_mirror_replaces_damaged_or_partial_model(publish, mirror):
    published = publish("ddpm-test")
    row = load_registry().model("ddpm-test")
    assert [item.copied for item in write_mirror([row], mirror)] == [True]
    (mirror / "ddpm-test" / "model.safetensors").write_bytes(b"damage")
    (mirror / "ddpm-test" / "README.md").unlink()
    left = temporary_name(mirror / "ddpm-test")  # by a process that was killed
    left.mkdir()
    (left / "README.md").write_bytes(b"half")
    assert [item.copied for item in write_mirror([row], mirror)] == [True]
    assert {path.name: path.read_bytes() for path in (mirror / "ddpm-test").iterdir()} == published.files
    assert not left.exists()


def test_write_mirror_failure_leaves_no_folder(publish, mirror, monkeypatch):
    publish("ddpm-test")
    row = load_registry().model("ddpm-test")
    cached = fetch_model(row)
    monkeypatch.setattr("medzoo.hub.mirror.fetch_model", lambda *_, **__: cached)
    (cached / "model.safetensors").write_bytes(b"damage")
    with pytest.raises(IntegrityError):
        list(write_mirror([row], mirror))
    assert list(mirror.iterdir()) == []


def test_write_mirror_keeps_other_files(publish, mirror):
    publish("ddpm-test")
    (mirror / "ddpm-test").mkdir(parents=True)
    (mirror / "ddpm-test" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other files too: notes\.txt"):
        list(write_mirror([load_registry().model("ddpm-test")], mirror))
    assert (mirror / "ddpm-test" / "notes.txt").read_text() == "mine"


def test_mirror_full_disk_exits_6(medzoo, publish, mirror, monkeypatch):
    publish("ddpm-test")
    fetch_model(load_registry().model("ddpm-test"))

    def refuse(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    outcome = medzoo("mirror", mirror, "ddpm-test")
    assert outcome.code == 6
    assert "the disk is full" in outcome.err
    assert list(mirror.iterdir()) == []


def test_mirror_all_models(medzoo, mirror):
    outcome = medzoo("mirror", mirror)
    assert outcome.code == 0
    assert {path.name for path in mirror.iterdir()} == {row.folder for row in load_registry().entries}
