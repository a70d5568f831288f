"""What was read of images, kept in the cache: never stale, never needed, and not damaged unseen."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_folder, write_npz
from PIL import Image

from medzoo.data import image_facts, images
from medzoo.data.checks import check_dataset
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.duplicates import thumbnails
from medzoo.errors import DataError, ResourceError
from medzoo.hub.cache import cached_entries
from medzoo.storage import files
from medzoo.storage.paths import cache_root, thumbnails_root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, that keeps the facts of small sets, and of files written just now."""
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_facts, "_LEAST", 1)
    monkeypatch.setattr(image_facts, "_SETTLED", -1)
    monkeypatch.setattr(files, "_warned", set())
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    found, examine, probe = [], images._examine, image_facts.probe
    monkeypatch.setattr(
        images, "_examine", lambda path, *args, **how: (found.append(path.name), examine(path, *args, **how))[1]
    )
    monkeypatch.setattr(image_facts, "probe", lambda path, frame: (found.append(path.name), probe(path, frame))[1])
    return found


def facts(data: Dataset) -> tuple[object, ...]:
    return data.fingerprints(), data.headers, data.blank(), thumbnails(data).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Gray and color images, one of 12 bits, one blank."""
    write_folder(tmp_path / "set", {"a": 3, "b": 2})
    Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80)).save(tmp_path / "set" / "a" / "deep.png")
    Image.fromarray(noise(9, 12, 3)).save(tmp_path / "set" / "b" / "color.jpg")
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "set" / "b" / "blank.png")
    return tmp_path / "set"


def test_open_dataset_again_reads_no_file(folder: Path, read: list[str]) -> None:
    first = open_dataset(folder, skip_bad=True)
    report = check_dataset(first).to_dict()
    assert sorted(read) == sorted(Path(name).name for name in first.names)
    read.clear()
    again = open_dataset(folder, skip_bad=True)
    assert check_dataset(again).to_dict() == report
    assert facts(again) == facts(first)
    assert (again.depth, again.highest) == (12, 3999)
    assert open_dataset(folder).headers == first.headers
    assert read == []


def test_open_dataset_without_a_cache_finds_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = facts(open_dataset(folder, skip_bad=True))
    assert facts(open_dataset(folder)) == kept
    monkeypatch.setattr(image_facts, "_LEAST", 100)
    assert facts(open_dataset(folder)) == kept


def test_changed_file_of_the_same_size_and_time_is_read_again(folder: Path, read: list[str]) -> None:
    file, pixels = folder / "a" / "scan.bmp", noise(8, 8)
    Image.fromarray(pixels).save(file)
    open_dataset(folder, skip_bad=True)
    before = file.stat()
    Image.fromarray(255 - pixels).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    read.clear()
    changed = open_dataset(folder, skip_bad=True)
    assert read == ["scan.bmp"]
    assert changed.fingerprints()[changed.names.index("a/scan.bmp")] == image_facts.fingerprint_of(255 - pixels)


def test_file_changed_just_now_is_not_kept(folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_facts, "_SETTLED", 60_000_000_000)
    open_dataset(folder, skip_bad=True)
    read.clear()
    data = open_dataset(folder, skip_bad=True)
    assert len(read) == len(data)
    assert not thumbnails_root().exists()


def test_unreadable_file_is_read_each_time(folder: Path, read: list[str]) -> None:
    (folder / "a" / "broken.png").write_bytes(b"none")
    for _ in range(2):
        read.clear()
        assert [name for name, _ in open_dataset(folder, skip_bad=True).bad] == ["a/broken.png"]
    assert read == ["broken.png"]
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        open_dataset(folder)


def test_damaged_cache_is_removed(folder: Path, read: list[str], caplog: pytest.LogCaptureFixture, cache: Path) -> None:
    expected = facts(open_dataset(folder, skip_bad=True))
    (file,) = (cache / "thumbnails").iterdir()
    whole = file.read_bytes()
    for damaged in (b"no database" * 99, whole[:5000], None):
        if damaged is None:  # one pixel of a thumbnail, which SQLite cannot know of
            file.write_bytes(whole)
            with sqlite3.connect(file) as base:
                base.execute("UPDATE images SET thumbnail = zeroblob(1024)")
            base.close()
        else:
            file.write_bytes(damaged)
        caplog.clear()
        assert facts(open_dataset(folder, skip_bad=True)) == expected
        assert f"{file} is damaged" in caplog.text
        assert caplog.text.count("reading the images again") == 1
        read.clear()
        open_dataset(folder, skip_bad=True)
        assert read == []


def test_cache_that_cannot_be_written_warns_once(folder: Path, caplog: pytest.LogCaptureFixture, cache: Path) -> None:
    cache.mkdir()
    (cache / "thumbnails").write_text("in the way")
    assert len(facts(open_dataset(folder, skip_bad=True))) == 4
    assert caplog.text.count("continuing without the cache") == 1


def test_read_only_database_is_read(
    folder: Path, read: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_dataset(folder, skip_bad=True)
    Image.fromarray(noise(6, 6)).save(folder / "a" / "new.png")
    read.clear()
    connect = sqlite3.connect

    def read_only(path: object, **how: object) -> sqlite3.Connection:
        return connect(path, **how) if "mode=ro" in str(path) else connect(f"file:{path}?mode=ro", uri=True)

    monkeypatch.setattr(image_facts.sqlite3, "connect", read_only)
    open_dataset(folder, skip_bad=True)
    assert read == ["new.png"]
    assert "the disk is read-only; continuing without the cache" in caplog.text


def test_database_that_another_process_writes_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    expected = facts(open_dataset(folder, skip_bad=True))
    (file,) = (cache / "thumbnails").iterdir()
    monkeypatch.setattr(image_facts, "_PATIENCE", 0.0)
    other = sqlite3.connect(file)
    other.execute("BEGIN EXCLUSIVE")
    assert facts(open_dataset(folder, skip_bad=True)) == expected
    other.close()
    assert "cache" not in caplog.text
    assert file.is_file()


def test_thumbnails_of_an_array_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(7, 40, 40, 3)
    data = open_dataset(write_npz(tmp_path / "d.npz", train_images=pixels, train_labels=np.arange(7) % 2))
    first = thumbnails(data).tolist()
    monkeypatch.setattr(image_facts, "thumbnail_of", lambda _picture: pytest.fail("made again"))
    assert thumbnails(data.subset([6, 0])).tolist() == [first[6], first[0]]


def test_cached_entries_name_thumbnails(folder: Path) -> None:
    open_dataset(folder, skip_bad=True)
    (entry,) = [entry for entry in cached_entries() if entry.kind == "thumbnails"]
    assert (entry.name, entry.folder) == ("thumbnails", cache_root() / "thumbnails")


def test_read_files_in_processes_finds_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(9, 12), mode="L").save(folder / "a" / "t\udcffrn.png")  # a name that is not UTF-8
    (folder / "a" / "broken.png").write_bytes(b"none")
    (folder / "b" / "empty.png").write_bytes(b"")
    found = sorted(folder.rglob("*.*"))
    monkeypatch.setattr(image_facts, "_LEAST", 1000)
    expected = [str(row) for row in image_facts.read_files(found, None, window="")]
    monkeypatch.setattr(image_facts, "_MANY", 1)
    monkeypatch.setattr(image_facts, "_AT_ONCE", 4)
    monkeypatch.setattr(image_facts, "_IN_TURN", 2)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr(image_facts, "examine_all", lambda *_, **__: pytest.fail("read in threads"))
    assert [str(row) for row in image_facts.read_files(found, None, window="")] == expected
    assert sum("broken.png cannot be read" in row or "empty.png is empty" in row for row in expected) == 2


def test_read_files_worker_that_dies_raises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_facts, "_MANY", 1)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr(image_facts, "_facts_of", lambda _image: os._exit(1))
    monkeypatch.setattr(image_facts, "_AT_ONCE", 4)
    with pytest.raises(ResourceError, match="a worker process died"):
        list(image_facts.read_files(sorted(folder.rglob("*.*")), None, window=""))


def test_examine_all_few_large_images_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for path in paths:
        Image.fromarray(noise(20, 20)).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 900)
    monkeypatch.setattr(images, "_IN_TURN", 1)
    monkeypatch.setattr(images.os, "cpu_count", lambda: 8)
    together, active = threading.Barrier(2), []

    def watched(image: images.Examined) -> int:
        active.append(image)
        together.wait(timeout=60)  # breaks if fewer than two are read together
        assert len(active) <= 2
        together.wait(timeout=60)
        active.clear()
        together.wait(timeout=60)
        return image.header.width

    assert list(images.examine_all(paths, [""] * 6, read=watched, window="")) == [20] * 6
