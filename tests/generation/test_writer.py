"""Writing while drawing: bounded, honest about a full disk; originals linked, copied or written."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.images import decode, encode_png
from medzoo.errors import ResourceError
from medzoo.generation import writer
from medzoo.generation.writer import (
    ImageWriter,
    is_damaged_original,
    is_whole_png,
    is_written,
    original_files,
    place_originals,
)

PIXELS = np.zeros((1, 4, 4), np.uint8)


def test_image_writer_finishes(tmp_path):
    with ImageWriter() as pictures:
        for index in range(20):
            pictures.write(tmp_path / f"{index}.png", PIXELS + index)
    assert [decode(tmp_path / f"{index}.png")[0, 0] for index in range(20)] == list(range(20))


def test_image_writer_max_pending(tmp_path, monkeypatch):
    submitted, done, most = [], [], []

    def slow(path, pixels, mark):
        time.sleep(0.002)
        done.append(path)

    monkeypatch.setattr(writer, "write_image", slow)
    with ImageWriter(threads=2, max_pending=3) as pictures:
        for index in range(30):
            pictures.write(tmp_path / f"{index}.png", PIXELS)
            submitted.append(index)
            most.append(len(submitted) - len(done))
    assert len(done) == 30
    assert max(most) <= 3


def test_image_writer_in_the_background(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(writer, "write_image", lambda path, pixels, mark: names.append(threading.current_thread().name))
    with ImageWriter() as pictures:
        pictures.write(tmp_path / "a.png", PIXELS)
    assert names
    assert threading.current_thread().name not in names


def full(source, target):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("count", [1, 100])
def test_image_writer_on_a_full_disk(tmp_path, monkeypatch, count):
    monkeypatch.setattr(os, "replace", full)

    def fill():
        with ImageWriter(max_pending=4) as pictures:
            for index in range(count):
                pictures.write(tmp_path / f"{index}.png", PIXELS)

    with pytest.raises(ResourceError, match="the disk is full"):
        fill()
    assert not list(tmp_path.iterdir())


def test_image_writer_after_an_interrupt(tmp_path):
    def interrupted():
        with ImageWriter(threads=1, max_pending=100) as pictures:
            for index in range(50):
                pictures.write(tmp_path / f"{index}.png", PIXELS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(list(tmp_path.iterdir())) == 50


def test_image_writer_drops_after_a_failure(tmp_path, monkeypatch):
    tried = []

    def failing(path, pixels, mark):
        tried.append(path)
        time.sleep(0.01)
        raise ResourceError("no")

    def fill():
        with ImageWriter(threads=1, max_pending=20) as pictures:
            for index in range(50):
                pictures.write(tmp_path / f"{index}.png", PIXELS)

    monkeypatch.setattr(writer, "write_image", failing)
    with pytest.raises(ResourceError):
        fill()
    assert len(tried) < 10


def test_is_there_empty_file(tmp_path):
    (tmp_path / "a").touch()
    assert not is_written(tmp_path / "a")
    assert not is_written(tmp_path / "a" / "b")
    (tmp_path / "a").write_bytes(b"x")
    assert is_written(tmp_path / "a")


def test_place_originals_links(images, tmp_path):
    data = open_dataset(images)
    files = original_files(data)
    assert place_originals(data, files, tmp_path, how="link") == "link"
    for index, name in enumerate(files):
        assert (tmp_path / name).samefile(data.file(index))
    assert place_originals(data, files, tmp_path, how="link") == "link"


def test_place_originals_copies(images, tmp_path, monkeypatch):
    def other_disk(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    data = open_dataset(images)
    files = original_files(data)
    assert place_originals(data, files, tmp_path, how="link") == "copy"
    for index, name in enumerate(files):
        assert (tmp_path / name).read_bytes() == data.file(index).read_bytes()
        assert not (tmp_path / name).samefile(data.file(index))


def test_place_originals_symbolic_links(images, tmp_path):
    linked = tmp_path / "linked"
    for folder in images.iterdir():
        (linked / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            (linked / folder.name / file.name).symlink_to(file)
    data = open_dataset(linked)
    place_originals(data, original_files(data), tmp_path / "out", how="link")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_place_originals_arrays(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    names = tuple(f"train/{index:05d}" for index in range(4))
    data = Dataset(path=Path("x.npz"), classes=("0", "1"), labels=np.array([1, 0, 1, 1]), names=names, array=array)
    files = original_files(data)
    assert files == ["1/real-00000.png", "0/real-00001.png", "1/real-00002.png", "1/real-00003.png"]
    place_originals(data, files, tmp_path, how="link")
    assert all((decode(tmp_path / name) == array[index]).all() for index, name in enumerate(files))


def test_place_originals_same_name(tmp_path):
    files = [tmp_path / "p1" / "a.png", tmp_path / "p2" / "a.png", tmp_path / "synthetic-tiny-000000.png"]
    data = Dataset(
        path=tmp_path, classes=("x",), labels=np.zeros(3, np.int64), names=("p1/a.png", "p2/a.png", "s"), files=files
    )
    assert original_files(data) == ["x/a.png", "x/a-2.png", "x/real-synthetic-tiny-000000.png"]


def test_is_whole_png_any_flipped_bit():
    content = encode_png(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))
    assert is_whole_png(content)
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        assert not is_whole_png(bytes(changed))
    for size in range(len(content)):
        assert not is_whole_png(content[:size])
    assert not is_whole_png(content + b"\0")


def test_is_damaged_original_compares_with_its_source(tmp_path):
    source, link, copied, other = (tmp_path / name for name in ("source.jpg", "link.jpg", "copied.jpg", "other.jpg"))
    for path, content in ((source, b"pixels"), (copied, b"pixels"), (other, b"pixelS")):
        path.write_bytes(content)
    os.link(source, link)
    damaged = [is_damaged_original(path, None, source) for path in (link, copied, other, tmp_path / "none.jpg")]
    assert damaged == [False, False, True, False]
    assert is_damaged_original(copied, "0" * 64, source)
