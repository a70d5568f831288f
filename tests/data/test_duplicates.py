"""Equal and nearly equal images, and the report on a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_folder, write_npz
from PIL import Image

from medzoo.data import duplicates
from medzoo.data.checks import Duplicates, check_dataset
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.duplicates import THRESHOLD, components, duplicate_groups, equal_pairs, near_pairs, thumbnails


def in_memory(images: list[np.ndarray] | np.ndarray) -> Dataset:
    return Dataset(
        path=Path("memory"),
        classes=("a",),
        labels=np.zeros(len(images), np.int64),
        names=tuple(str(index) for index in range(len(images))),
        array=np.stack(list(images)),
    )


def scan(seed: int = 0, side: int = 96) -> np.ndarray:
    """A smooth picture: two dozen random patches, unlike noise the same when it is shrunk."""
    coarse = Image.fromarray(noise(5, 5, seed=seed))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def test_thumbnails_are_standardized() -> None:
    found = thumbnails(in_memory([scan(0), scan(1), np.full((96, 96), 70, np.uint8)]))
    assert found.shape == (3, 1024)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0], atol=1e-5)


def test_near_pairs_correlate_above_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((40, 1024))
    # Mixing in independent noise of variance v gives a correlation of 1 / sqrt(1 + v): .995 and .985 here.
    close = base[:5] + rng.standard_normal((5, 1024)) * np.sqrt(1 / 0.995**2 - 1)
    apart = base[5:10] + rng.standard_normal((5, 1024)) * np.sqrt(1 / 0.985**2 - 1)
    vectors = np.concatenate([base, close, apart])
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32)
    expected = [[index, 40 + index] for index in range(5)]
    for rows in (512, 7, 1):
        monkeypatch.setattr(duplicates, "_ROWS", rows)
        assert near_pairs(vectors).tolist() == expected
    assert near_pairs(vectors[:0]).shape == (0, 2)


@pytest.mark.parametrize("rows", [512, 16])
def test_near_pairs_finds_what_comparing_all_does(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Scans much alike, on both sides of the threshold, among blank ones: in few low frequencies and in all."""
    rng = np.random.default_rng(1)
    looks = np.stack([scan(seed, 32) for seed in range(6)]).astype(np.float64)
    mixed = np.einsum("nk,khw->nhw", rng.dirichlet(np.full(6, 0.3), 300), looks)
    mixed += rng.standard_normal(mixed.shape) * rng.uniform(0, 6, (300, 1, 1))
    vectors = thumbnails(in_memory(np.clip(mixed, 0, 255).astype(np.uint8)))
    vectors[[3, 100]] = 0
    expected = np.argwhere(np.triu(vectors @ vectors.T > THRESHOLD, k=1))
    assert len(expected) > 100
    monkeypatch.setattr(duplicates, "_ROWS", rows)
    monkeypatch.setattr(duplicates, "_PAIRS", 100)
    np.testing.assert_array_equal(near_pairs(vectors), expected)


def test_duplicate_groups_resaved_scans(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    original = Image.fromarray(scan(0))
    original.save(tmp_path / "a" / "0.png")
    original.save(tmp_path / "a" / "1.jpg", quality=60)
    original.resize((70, 70)).save(tmp_path / "a" / "2.png")
    original.point(lambda value: value * 0.7 + 20).convert("RGB").save(tmp_path / "a" / "3.png")
    for seed in range(1, 6):
        Image.fromarray(scan(seed)).save(tmp_path / "a" / f"{seed + 3}.png")
    assert duplicate_groups(open_dataset(tmp_path)).tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]


def test_duplicate_groups_blank_images_only_when_equal() -> None:
    blank = [np.full((32, 32), value, np.uint8) for value in (0, 200, 0)]
    assert duplicate_groups(in_memory(blank)).tolist() == [0, 1, 0]


def test_components_numbered_by_appearance() -> None:
    pairs = np.array([[4, 1], [1, 2], [5, 6]])
    assert components(pairs, count=7).tolist() == [0, 1, 1, 2, 1, 3, 3]
    assert components(np.empty((0, 2), np.int64), count=3).tolist() == [0, 1, 2]
    assert equal_pairs(["x", "y", "x", "z", "x"]).tolist() == [[0, 2], [0, 4]]


# The report


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A split set with an exact duplicate across parts, a near one across classes, and an unreadable file."""
    write_folder(tmp_path / "train", {"a": 3, "b": 2})
    write_folder(tmp_path / "test", {"a": 2, "b": 1}, seed=50)
    Image.fromarray(noise(12, 12, seed=1)).save(tmp_path / "test" / "a" / "leak.bmp")
    Image.fromarray(scan(0)).save(tmp_path / "train" / "a" / "scan.png")
    Image.fromarray(scan(0)).convert("RGB").save(tmp_path / "train" / "b" / "scan.jpg", quality=80)
    Image.fromarray(noise(9, 7).astype(np.uint16) * 257).save(tmp_path / "train" / "b" / "deep.png")
    (tmp_path / "test" / "a" / "broken.png").write_bytes(b"")
    return tmp_path


def test_check_dataset_counts_every_problem(faulty: Path) -> None:
    report = check_dataset(open_dataset(faulty, skip_bad=True))
    assert report.counts == {"train": {"a": 4, "b": 4}, "test": {"a": 3, "b": 1}}
    assert report.sizes == {"12x12": 9, "96x96": 2, "7x9": 1}
    assert report.kinds == {"L, 8 bit": 10, "RGB, 8 bit": 1, "I;16, 16 bit": 1}
    assert [name for name, _ in report.unreadable] == ["test/a/broken.png"]
    assert report.exact == Duplicates(pairs=1, across_classes=0, across_parts=1)
    assert report.near == Duplicates(pairs=1, across_classes=1, across_parts=0)
    assert report.groups == (
        ("train/a/000.png (a)", "test/a/leak.bmp (a)"),
        ("train/a/scan.png (a)", "train/b/scan.jpg (b)"),
    )
    assert report.problems == (
        "unreadable images: 1",
        "pairs of exact duplicates: 1 (0 across classes, 1 across parts)",
        "pairs of near duplicates: 1 (1 across classes, 0 across parts)",
    )
    assert report.to_dict()["problems"] == list(report.problems)


def test_check_dataset_clean_set_has_no_problems(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d.npz", train_images=noise(6, 32, 32, 3), train_labels=np.arange(6) % 2)
    report = check_dataset(open_dataset(path))
    assert report.problems == ()
    assert report.groups == ()
    assert report.counts == {"all": {"0": 3, "1": 3}}
    assert report.sizes == {"32x32": 6}
    assert report.kinds == {"RGB, 8 bit": 6}
