"""Decoded images: the same pixels as decoding each, once only, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading

import numpy as np
import pytest

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import write_image
from medzoo.data.pixels import prepare
from medzoo.errors import DataError, ResourceError
from medzoo.storage.files import temporary_name
from medzoo.storage.paths import pixels_root


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(5):
            write_image(tmp_path / "set" / label / f"{number}.png", random.integers(0, 256, (1, 20, 14), np.uint8))
    return tmp_path / "set"


def open_decoded(folder, **changes) -> Decoded:
    return Decoded(open_dataset(folder, log=False), **{"size": 8, "channels": 1, "crop": "none"} | changes)


def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(Dataset, "all_pixels", refuse)


def test_decoded_matches_prepare(folder):
    data = open_dataset(folder)
    images = open_decoded(folder, channels=3)
    expected = np.stack([prepare(data.pixels(k), size=8, channels=3, crop="none") for k in range(len(data))])
    assert np.array_equal(images[:], expected)
    assert np.array_equal(images[[7, 2, 2]], expected[[7, 2, 2]])
    assert np.array_equal(images[(0, 1, 2, 3, 4)], expected[:5])
    assert np.array_equal(images[3:5], expected[3:5])
    assert len(images[[]]) == 0
    assert images.fingerprints() == data.fingerprints()
    assert images.complete
    assert np.array_equal(images[:], expected)


def test_decoded_second_run_reads_the_cache(folder, monkeypatch):
    first = open_decoded(folder)
    pixels, digest = first[:], first.digest
    no_decoding(monkeypatch)
    second = open_decoded(folder)
    assert second.complete
    assert np.array_equal(second[:], pixels)
    assert (second.digest, second.fingerprints()) == (digest, first.fingerprints())


def test_decoded_digest_depends_on_pixels_not_folder(folder, tmp_path):
    digest = open_decoded(folder).digest
    folder.rename(tmp_path / "moved")
    assert open_decoded(tmp_path / "moved").digest == digest
    assert open_decoded(tmp_path / "moved", size=9).digest != digest


def test_decoded_changed_file_is_decoded_again(folder):
    before = open_decoded(folder)
    before_digest = before.digest
    write_image(folder / "a" / "0.png", np.zeros((1, 20, 14), np.uint8))
    after = open_decoded(folder)
    assert after.digest != before_digest
    assert not after[:1].any()


def test_decoded_yields_images_before_all_are_decoded(folder, monkeypatch):
    held, whole = threading.Event(), Dataset.all_pixels

    def slow(self):
        for place, pixels in enumerate(whole(self)):
            if place == 4:
                assert held.wait(120)
            yield pixels

    monkeypatch.setattr(Dataset, "all_pixels", slow)
    images = open_decoded(folder)
    first = images[:4]
    assert not images.complete
    held.set()
    assert images.digest
    assert np.array_equal(images[:][:4], first)


def test_decoded_unreadable_image_raises_and_leaves_no_entry(folder):
    images = Decoded(open_dataset(folder), size=8, channels=1, crop="none")
    assert images.digest
    data = open_dataset(folder)
    (folder / "b" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    broken = Decoded(data, size=8, channels=1, crop="none")
    with pytest.raises(DataError, match=r"3\.png"):
        broken[:]
    with pytest.raises(DataError, match=r"3\.png"):
        assert broken.digest
    assert len(list(pixels_root().iterdir())) == 1


@pytest.mark.parametrize("damage", ["index", "pixels", "shape"])
def test_decoded_corrupt_cache_entry_is_replaced(folder, damage):
    first = open_decoded(folder)
    digest = first.digest
    (entry,) = pixels_root().iterdir()
    if damage == "index":
        (entry / "index.json").write_text("{")
    elif damage == "pixels":
        (entry / "pixels.npy").write_bytes(b"no array")
    else:
        index = json.loads((entry / "index.json").read_text())
        (entry / "index.json").write_text(json.dumps(index | {"fingerprints": []}))
    second = open_decoded(folder)
    assert second.digest == digest
    assert np.array_equal(np.load(entry / "pixels.npy"), second[:])
    assert len(json.loads((entry / "index.json").read_text())["fingerprints"]) == 10
    assert open_decoded(folder).complete


def test_decoded_npz_is_cached_by_pixels(tmp_path):
    np.savez(
        tmp_path / "set.npz", train_images=np.arange(3 * 36, dtype=np.uint8).reshape(3, 6, 6), train_labels=[0, 1, 1]
    )
    first = open_decoded(tmp_path / "set.npz", size=6)
    assert first.digest
    assert np.array_equal(first[:].ravel(), np.arange(3 * 36))
    assert open_decoded(tmp_path / "set.npz", size=6).complete


def test_decoded_in_memory_if_the_cache_cannot_be_written(folder, tmp_path, monkeypatch, logged):
    expected = open_decoded(folder)
    pixels = expected[:]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file"))
    images = open_decoded(folder)
    assert np.array_equal(images[:], pixels)
    assert (images.digest, images.fingerprints()) == (expected.digest, expected.fingerprints())
    *_, warning = logged
    assert "continuing without the cache (set MEDZOO_CACHE to a writable folder)" in warning


def test_decoded_on_a_full_disk_leaves_nothing(folder, monkeypatch):
    def full(handle, start, size):
        assert size > 10 * 8 * 8
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        open_decoded(folder)
    assert "set MEDZOO_CACHE to a folder of another disk" in caught.value.hint
    assert list(pixels_root().iterdir()) == []


def test_decoded_never_follows_a_link_out_of_the_cache(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    pixels_root().parent.mkdir(parents=True, exist_ok=True)
    pixels_root().symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(ResourceError, match="leads out of the cache"):
        open_decoded(folder)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("damage", ["pixels", "cut", "fingerprint", "digest"])
def test_decoded_damaged_entry_is_decoded_again(folder, damage, logged):
    first = open_decoded(folder)
    pixels, digest, fingerprints = first[:], first.digest, first.fingerprints()
    (entry,) = pixels_root().iterdir()
    content, index = bytearray((entry / "pixels.npy").read_bytes()), (entry / "index.json").read_text()
    if damage == "pixels":
        content[-1] ^= 1
    elif damage == "cut":
        del content[-1]
    changed = {"fingerprint": fingerprints[3], "digest": digest}.get(damage, "")
    index = index.replace(changed, changed[::-1]) if changed else index
    (entry / "pixels.npy").write_bytes(content)
    (entry / "index.json").write_text(index)
    logged.clear()
    second = open_decoded(folder)
    assert (second.digest, second.fingerprints()) == (digest, fingerprints)
    assert np.array_equal(second[:], pixels)
    assert logged == [f"{entry} is damaged; decoding the images of {folder} again"]
    assert open_decoded(folder).complete


def test_decoded_entry_without_checksum_is_decoded_again(folder, monkeypatch, logged):
    assert open_decoded(folder).digest
    (entry,) = pixels_root().iterdir()
    index = json.loads((entry / "index.json").read_text())
    (entry / "index.json").write_text(json.dumps({key: index[key] for key in ("digest", "fingerprints")}))
    logged.clear()
    assert open_decoded(folder).digest == index["digest"]
    assert json.loads((entry / "index.json").read_text()) == index
    assert logged == []


def test_decoded_removes_what_killed_runs_left(folder, monkeypatch):
    held, whole = threading.Event(), Dataset.all_pixels

    def slow(self):
        assert held.wait(120)
        yield from whole(self)

    pixels_root().mkdir(parents=True)
    left = temporary_name(pixels_root() / "0123")
    left.mkdir()
    (left / "pixels.npy").write_bytes(bytes(1000))
    monkeypatch.setattr(Dataset, "all_pixels", slow)
    first, second = open_decoded(folder), open_decoded(folder, size=9)
    assert not left.exists()
    assert len(list(pixels_root().iterdir())) == 2  # those being filled stay
    held.set()
    assert first.digest != second.digest
    assert len([entry for entry in pixels_root().iterdir() if not entry.name.startswith(".")]) == 2


def test_decoded_survives_the_loss_of_its_part(folder, monkeypatch):
    held, whole = threading.Event(), Dataset.all_pixels

    def slow(self):
        assert held.wait(120)
        yield from whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "all_pixels", slow)
        images = open_decoded(folder)
        (part,) = pixels_root().iterdir()
        shutil.rmtree(part)
        held.set()
        digest = images.digest
    again = open_decoded(folder)
    assert again.digest == digest
    assert np.array_equal(again[:], images[:])
