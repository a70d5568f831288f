import errno
import os
import subprocess
import sys

import pytest

from medzoo.errors import ConfigError, HubError, IntegrityError, ResourceError
from medzoo.hub.cache import cached_entries
from medzoo.hub.registry import load_registry
from medzoo.hub.sources import bundled_root, cache_folder, cache_root, fetch_model, locate, verify_folder
from medzoo.storage.files import temporary_name, write_atomic


@pytest.fixture
def entry(publish):
    publish("ddpm-test")
    return load_registry().model("ddpm-test")


def flip(path, at=10):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_fetch_model_from_the_mirror(publish):
    published = publish("ddpm-test")
    entry = load_registry().model("ddpm-test")
    assert locate(entry) == ("mirror", published.mirror / "ddpm-test")
    folder = fetch_model(entry)
    assert folder == cache_folder(entry)
    assert cache_root() in folder.parents
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == published.files
    assert locate(entry) == ("cached", folder)


def test_fetch_model_cached(publish, monkeypatch):
    publish("ddpm-test")
    entry = load_registry().model("ddpm-test")
    folder = fetch_model(entry)
    monkeypatch.delenv("MEDZOO_MIRROR")
    assert fetch_model(entry) == folder


def test_fetch_model_removes_what_killed_runs_left(entry):
    left = temporary_name(cache_folder(entry) / "model.safetensors")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert sorted(path.name for path in fetch_model(entry).iterdir()) == sorted(file.name for file in entry.files)


def test_fetch_model_missing(publish):
    publish("ddpm-test", mirror=False)
    entry = load_registry().model("ddpm-test")
    assert locate(entry) == ("missing", None)
    with pytest.raises(HubError, match="medzoo pull ddpm-test --from DIR"):
        fetch_model(entry)


def test_fetch_model_from_a_given_folder(publish):
    published = publish("ddpm-test", mirror=False)
    entry = load_registry().model("ddpm-test")
    with pytest.raises(HubError, match="no source has"):
        fetch_model(entry, source="bundled")
    assert fetch_model(entry, source=str(published.mirror)) == cache_folder(entry)


def test_fetch_model_unknown_source(entry):
    with pytest.raises(ConfigError, match="neither 'bundled', 'hub' nor a folder"):
        fetch_model(entry, source="bundle")


def test_fetch_model_corrupt_source(publish):
    published = publish("ddpm-test")
    flip(published.path("model.safetensors"))
    entry = load_registry().model("ddpm-test")
    with pytest.raises(IntegrityError, match=r"model\.safetensors is corrupt: its sha256 .*expected"):
        fetch_model(entry)
    assert not list(cache_folder(entry).glob("*model.safetensors*"))
    assert published.path("model.safetensors").is_file()


def test_fetch_model_truncated_source(publish):
    published = publish("ddpm-test")
    published.path("config.json").write_bytes(b"{")
    with pytest.raises(IntegrityError, match="has 1 bytes"):
        fetch_model(load_registry().model("ddpm-test"))


def test_fetch_model_corrupt_bundled_file(publish, monkeypatch, tmp_path, logged):
    published = publish("ddpm-test")
    card = tmp_path / "cards" / "ddpm-test"
    card.mkdir(parents=True)
    for name, data in published.files.items():
        (card / name).write_bytes(data)
    flip(card / "model.safetensors")
    monkeypatch.setattr("medzoo.hub.sources.bundled_root", lambda: tmp_path)
    entry = load_registry().model("ddpm-test")
    folder = fetch_model(entry)
    verify_folder(folder, entry)
    assert len(logged) == 1
    assert "instead" in logged[0]


def test_fetch_model_replaces_a_corrupt_file(entry, logged):
    folder = fetch_model(entry)
    flip(folder / "model.safetensors")
    fetch_model(entry)
    verify_folder(folder, entry)
    assert logged == [f"{folder / 'model.safetensors'} is corrupt; fetching it again"]


def test_fetch_model_removes_a_corrupt_file(entry, monkeypatch):
    folder = fetch_model(entry)
    flip(folder / "model.safetensors")
    monkeypatch.delenv("MEDZOO_MIRROR")
    with pytest.raises(HubError):
        fetch_model(entry)
    assert not (folder / "model.safetensors").exists()
    assert (folder / "config.json").exists()


def test_fetch_model_prints_nothing(entry, capsys):
    flip(fetch_model(entry) / "config.json", at=0)
    fetch_model(entry)
    assert capsys.readouterr() == ("", "")


def test_cache_folder_depends_on_the_files(publish):
    publish("ddpm-test")
    first = cache_folder(load_registry().model("ddpm-test"))
    publish("ddpm-test", extra=f'repo = "acme/m"\nrevision = "{"0" * 40}"')
    assert cache_folder(load_registry().model("ddpm-test")) != first


def test_verify_folder(entry):
    folder = fetch_model(entry)
    verify_folder(folder, entry)
    flip(folder / "README.md")
    with pytest.raises(IntegrityError, match=r"README\.md"):
        verify_folder(folder, entry)
    (folder / "README.md").unlink()
    with pytest.raises(HubError, match="is missing"):
        verify_folder(folder, entry)


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only")]
)
def test_fetch_model_from_its_place_if_the_cache_cannot_be_written(publish, monkeypatch, logged, number, reason):
    published = publish("ddpm-test")
    entry = load_registry().model("ddpm-test")

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", refuse)
        assert fetch_model(entry) == published.mirror / "ddpm-test"
        (warning,) = logged
        assert reason in warning
        assert "MEDZOO_CACHE" in warning
        fetch_model(entry)
        assert len(logged) == 1
        flip(published.path("config.json"))
        with pytest.raises(ResourceError, match=reason):
            fetch_model(entry)
    assert list(cache_folder(entry).iterdir()) == []


def test_fetch_model_bundled_needs_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file"))
    entry = load_registry().default_for("ddpm")
    folder = fetch_model(entry)
    verify_folder(folder, entry)
    assert folder == bundled_root() / "cards" / entry.id


def test_fetch_model_cache_is_a_file(publish, monkeypatch, tmp_path):
    publish("ddpm-test", mirror=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="a file is in the way") as caught:
        fetch_model(load_registry().model("ddpm-test"))
    assert caught.value.hint == "set MEDZOO_CACHE to a writable folder"


def test_fetch_model_never_writes_through_a_link(entry, tmp_path):
    folder = fetch_model(entry)
    other = tmp_path / "other.txt"
    other.write_text("of somebody else")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(other)
    assert fetch_model(entry) == folder
    assert not (folder / "config.json").is_symlink()
    assert other.read_text() == "of somebody else"


def test_fetch_model_never_follows_a_link_out_of_the_cache(publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    entry = load_registry().model("ddpm-test")
    outside = tmp_path / "outside"
    outside.mkdir()
    cache_folder(entry).parent.parent.mkdir(parents=True)
    cache_folder(entry).parent.symlink_to(outside, target_is_directory=True)
    assert fetch_model(entry) == published.mirror / "ddpm-test"
    monkeypatch.delenv("MEDZOO_MIRROR")
    with pytest.raises(ResourceError, match=f"leads out of the cache, to {outside}"):
        fetch_model(entry)
    assert list(outside.iterdir()) == []


def test_cache_root_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("MEDZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "medzoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "medzoo"


def test_cache_root_without_a_home(monkeypatch):
    def no_user(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", no_user)
    for variable in ("MEDZOO_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert load_registry().ids
    assert cached_entries() == []
    with pytest.raises(ResourceError, match="this user has no home folder") as caught:
        write_atomic(cache_root() / "file", b"")
    assert "MEDZOO_CACHE" in caught.value.hint
    fetch_model(load_registry().default_for("ddpm"))
    monkeypatch.setenv("MEDZOO_CACHE", "~/cache")
    assert cache_root().name == "cache"


@pytest.mark.parametrize("damaged", [False, True])
def test_fetch_model_in_parallel(entry, damaged):
    if damaged:
        flip(fetch_model(entry) / "model.safetensors")
    program = (
        "from medzoo.hub.sources import fetch_model, verify_folder; from medzoo.hub.registry import load_registry\n"
        "entry = load_registry().model('ddpm-test')\n"
        "verify_folder(fetch_model(entry), entry)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(4)]
    for process in running:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err.decode()
    assert {path.name for path in cache_folder(entry).iterdir()} == {file.name for file in entry.files}
