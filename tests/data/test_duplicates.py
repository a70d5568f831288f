"""Equal and nearly equal images, and the report on a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_folder, write_npz
from PIL import Image

from medzoo.data import duplicates
from medzoo.data.checks import Duplicates, check_dataset
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.duplicates import (
    THRESHOLD,
    components,
    duplicate_groups,
    equal_pairs,
    just_below,
    near_pairs,
    resemble,
    standardized,
    thumbnails,
)


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


def test_standardized_thumbnails() -> None:
    rows = thumbnails(in_memory([scan(0), scan(1)]), in_memory([np.full((96, 96), 70, np.uint8)]))
    assert (rows.shape, rows.dtype) == ((3, 1024), np.uint8)
    found = standardized(rows)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0], atol=1e-5)


def mixtures(count: int, *, seed: int, looks: int = 6) -> np.ndarray:
    """Thumbnails of scans much alike, on both sides of the threshold in few low frequencies and in all; two blank."""
    rng = np.random.default_rng(seed)
    bases = np.stack([scan(number, 32) for number in range(looks)]).astype(np.float64)
    mixed = np.einsum("nk,khw->nhw", rng.dirichlet(np.full(looks, 0.3), count), bases)
    mixed += rng.standard_normal(mixed.shape) * rng.uniform(0, 6, (count, 1, 1))
    mixed[[3, count // 2]] = 40
    return np.clip(mixed, 0, 255).astype(np.uint8).reshape(count, -1)


def sorted_pairs(blocks: Iterable[np.ndarray]) -> list[list[int]]:
    return sorted(pair for block in blocks for pair in block.tolist())


@pytest.mark.parametrize("above", [THRESHOLD, 0.95, 0.5])
def test_near_pairs_are_those_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch, above: float) -> None:
    rows = mixtures(300, seed=1)
    vectors = standardized(rows)
    expected = np.argwhere(np.triu(vectors @ vectors.T > above, k=1)).tolist()
    assert len(expected) > 100
    assert sorted_pairs(near_pairs(rows, above=above)) == expected
    for name, value in (("_ROWS", 16), ("_PAIRS", 100)):
        monkeypatch.setattr(duplicates, name, value)
    assert sorted_pairs(near_pairs(rows, above=above)) == expected
    chosen = np.arange(0, 300, 2)
    even = [pair for pair in expected if not (pair[0] % 2 or pair[1] % 2)]
    assert sorted_pairs(near_pairs(rows, rows=chosen, above=above)) == even


def test_near_pairs_of_two_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = mixtures(150, seed=1), mixtures(90, seed=2)
    monkeypatch.setattr(duplicates, "_ROWS", 40)
    alike = standardized(first) @ standardized(second).T
    expected = np.argwhere(alike > 0.95).tolist()
    assert len(expected) > 100
    assert sorted_pairs(near_pairs(first, second, above=0.95)) == expected
    assert resemble(first, second, above=0.95).tolist() == (alike > 0.95).any(axis=1).tolist()
    assert not resemble(first, second[:0]).any()
    assert not list(near_pairs(first[:0]))


def test_just_below_takes_the_correlation_itself() -> None:
    assert just_below(0.95) < np.float32(0.95)
    assert np.nextafter(np.float32(just_below(0.95)), np.float32(1)) == np.float32(0.95)


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
    assert components([pairs], count=7).tolist() == [0, 1, 1, 2, 1, 3, 3]
    assert components([], count=3).tolist() == [0, 1, 2]
    assert equal_pairs(["x", "y", "x", "z", "x"]).tolist() == [[0, 2], [0, 4]]


def test_components_of_more_pairs_than_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_LINKS", 3)
    blocks = [np.array([[k, k + 2]]) for k in range(18)] * 3
    assert components(iter(blocks), count=20).tolist() == [0, 1] * 10


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


def test_check_dataset_counts_the_pairs_of_copies() -> None:
    """Three copies of a scan in two classes and a brighter one twice: each copy of one is near each of the other."""
    bright = scan(0) // 2 + 100
    data = Dataset(
        path=Path("memory"),
        classes=("a", "b"),
        labels=np.array([0, 0, 1, 0, 1]),
        names=tuple("vwxyz"),
        array=np.stack([scan(0), scan(0), scan(0), bright, bright]),
    )
    report = check_dataset(data)
    assert report.exact == Duplicates(pairs=3, across_classes=2, across_parts=0)
    assert report.near == Duplicates(pairs=6, across_classes=3, across_parts=0)
    assert report.groups == (("v (a)", "w (a)", "x (b)", "y (a)", "z (b)"),)


def test_check_dataset_clean_set_has_no_problems(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d.npz", train_images=noise(6, 32, 32, 3), train_labels=np.arange(6) % 2)
    report = check_dataset(open_dataset(path))
    assert report.problems == ()
    assert report.groups == ()
    assert report.counts == {"all": {"0": 3, "1": 3}}
    assert report.sizes == {"32x32": 6}
    assert report.kinds == {"RGB, 8 bit": 6}
