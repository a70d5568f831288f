"""Splits that keep groups whole and classes in proportion, and what they write."""

from __future__ import annotations

import csv
import errno
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_csv, write_folder, write_npz
from PIL import Image

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.splits import assign_groups, split_dataset, write_split
from medzoo.errors import ConfigError, DataError

SHARES = np.array([0.8, 0.1, 0.1])


def in_memory(labels: list[int] | np.ndarray, *, patients: list[str] | None = None, side: int = 8) -> Dataset:
    """A dataset of random images in memory, with the classes c0, c1, ..."""
    labels = np.asarray(labels, np.int64)
    return Dataset(
        path=Path("memory"),
        classes=tuple(f"c{k}" for k in range(int(labels.max()) + 1)),
        labels=labels,
        names=tuple(f"{index:04d}" for index in range(len(labels))),
        array=noise(len(labels), side, side),
        patients=tuple(patients) if patients is not None else None,
    )


@pytest.mark.parametrize("seed", range(25))
def test_assign_groups_keeps_groups_and_class_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, groups_of_class = int(rng.integers(2, 6)), rng.integers(12, 120, 5)
    sizes = [rng.integers(1, 5, count) for count in groups_of_class[:classes]]
    labels = np.concatenate([np.full(size.sum(), k) for k, size in enumerate(sizes)])
    groups = np.repeat(np.arange(sum(map(len, sizes))), np.concatenate(sizes))
    shuffled = rng.permutation(len(labels))
    labels, groups = labels[shuffled], groups[shuffled]
    shares = SHARES if seed % 2 else np.array([0.5, 0.2, 0.3])

    parts = assign_groups(labels[:, None] == np.arange(classes), groups, shares=shares, seed=seed)

    assert set(parts) == {0, 1, 2}
    for group in np.unique(groups):
        assert len(set(parts[groups == group])) == 1
    for k in range(classes):
        got = np.bincount(parts[labels == k], minlength=3)
        # Groups hold up to four images, so no part need be more than two images off.
        np.testing.assert_allclose(got, shares * got.sum(), atol=2)


@pytest.mark.parametrize("seed", range(5))
def test_assign_groups_rounds_to_nearest_count(seed: int) -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    parts = assign_groups(labels[:, None] == np.arange(3), np.arange(150), shares=SHARES, seed=seed)
    assert [np.bincount(parts[labels == k]).tolist() for k in range(3)] == [[80, 10, 10], [32, 4, 4], [8, 1, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_assign_groups_multi_label_reaches_every_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hot = rng.random((300, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0]
    hot[:3, 5] = True
    parts = assign_groups(hot, np.arange(300), shares=SHARES, seed=seed)
    for k in range(6):
        assert set(parts[hot[:, k]]) == {0, 1, 2}
    assert np.abs(np.bincount(parts) / 300 - SHARES).max() < 0.04


def test_assign_groups_unlabeled_images() -> None:
    hot = np.zeros((100, 2), np.bool_)
    hot[:20, 0] = hot[20:40, 1] = True
    parts = assign_groups(hot, np.arange(100), shares=SHARES, seed=0)
    np.testing.assert_allclose(np.bincount(parts[40:]), [48, 6, 6], atol=1)


def test_split_dataset_repeats_by_seed() -> None:
    dataset = in_memory(np.repeat([0, 1], 40))
    first, again, other = (split_dataset(dataset, seed=seed) for seed in (1, 1, 2))
    assert list(first) == ["train", "val", "test"]
    assert [part.names for part in first.values()] == [part.names for part in again.values()]
    assert first["test"].names != other["test"].names
    together = sorted(name for part in first.values() for name in part.names)
    assert together == sorted(dataset.names)


def test_split_dataset_separates_patients() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{k}" for k in rng.integers(0, 40, 200)]
    parts = split_dataset(in_memory(rng.integers(0, 2, 200), patients=patients), seed=0)
    seen = [set(part.patients or ()) for part in parts.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set(patients))


def test_split_dataset_keeps_duplicates_together_across_classes() -> None:
    dataset = in_memory(np.repeat([0, 1], 30), side=48)
    array = np.asarray(dataset.array).copy()
    # Each second image has a darker, brightened copy in the other class.
    for index in range(0, 60, 2):
        array[(index + 31) % 60] = array[index] // 2 + 60
    copies = Dataset(
        path=dataset.path, classes=dataset.classes, labels=dataset.labels, names=dataset.names, array=array
    )
    for seed in range(4):
        part_of = {name: part for part, images in split_dataset(copies, seed=seed).items() for name in images.names}
        for index in range(0, 60, 2):
            assert part_of[f"{index:04d}"] == part_of[f"{(index + 31) % 60:04d}"]


def test_split_dataset_part_may_be_empty() -> None:
    parts = split_dataset(in_memory([0, 1] * 20), fractions={"train": 0.75, "val": 0, "test": 0.25}, seed=0)
    assert {part: len(images) for part, images in parts.items()} == {"train": 30, "test": 10}


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.0, 0.0, 0.0)])
def test_split_dataset_fractions_must_sum_to_1(fractions: tuple[float, ...]) -> None:
    named = dict(zip(("train", "val", "test"), fractions, strict=True))
    with pytest.raises(ConfigError, match="add up to 1"):
        split_dataset(in_memory([0, 1]), fractions=named, seed=0)


def test_split_dataset_too_few_groups_raises() -> None:
    patients = [f"p{index}" for index in range(20)] + ["q1", "q2", "q2", "q2"]
    few = in_memory([0] * 20 + [1] * 4, patients=patients)
    with pytest.raises(DataError, match="class 'c1' has too few separate groups") as caught:
        split_dataset(few, seed=0)
    assert "--val 0" in caught.value.hint
    assert split_dataset(few, fractions={"train": 0.8, "test": 0.2}, seed=0)["test"].counts()["c1"] > 0


def test_split_dataset_already_split_raises(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 3, "b": 3})
    write_folder(tmp_path / "test", {"a": 1, "b": 1})
    with pytest.raises(DataError, match="already has parts: test"):
        split_dataset(open_dataset(tmp_path), seed=0)


def test_split_dataset_refuses_synthetic_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 6, "b": 6})
    (tmp_path / "a" / "005.png").rename(tmp_path / "a" / "synthetic-classic-000000.png")
    with pytest.raises(DataError, match=r"holds a synthetic image, such as a/synthetic-classic-000000\.png") as caught:
        split_dataset(open_dataset(tmp_path), seed=0)
    assert "split the real images alone" in caught.value.hint


def test_split_dataset_refuses_a_column_like_a_patients(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 20})
    lines = [f"x/{index:03d}.png,{'ab'[index % 2]},{index // 4}" for index in range(20)]
    table = write_csv(tmp_path / "l.csv", "file,label,Patientennummer", *lines)
    with pytest.raises(
        DataError, match="the column 'Patientennummer' is not used but looks like a patient's"
    ) as caught:
        split_dataset(open_dataset(table), seed=0)
    assert caught.value.hint == "rename it to patient, or drop it if it is not: Patientennummer"
    write_csv(table, "file,label,PatientID", *lines)
    parts = split_dataset(open_dataset(table), fractions={"train": 0.6, "test": 0.4}, seed=0)
    assert not {*(parts["train"].patients or ())} & {*(parts["test"].patients or ())}


# Writing


def read_record(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_write_split_links_class_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", {"a": 10, "b": 20})
    Image.fromarray(noise(12, 12, seed=1)).save(root / "a" / "copy.png")  # the same image as a/000.png
    dataset = open_dataset(root)
    parts = write_split(dataset, out=tmp_path / "new" / "split", seed=3).parts

    found = open_dataset(tmp_path / "new" / "split")
    written = {"train": found, **found.held_out}
    for part, images in parts.items():
        assert written[part].names == images.names
        assert written[part].counts() == images.counts()
        for index in range(len(images)):
            assert os.path.samefile(str(written[part].file(index)), str(images.file(index)))
    rows = read_record(tmp_path / "new" / "split" / "split.csv")
    assert list(rows[0]) == ["file", "label", "group", "split", "seed", "fingerprint"]
    assert len(rows) == 31
    assert {row["seed"] for row in rows} == {"3"}
    for row, digest in zip(rows, dataset.fingerprints(), strict=True):
        assert row["fingerprint"] == digest
        assert (tmp_path / "new" / "split" / row["file"]).is_file()
        assert row["file"].startswith(f"{row['split']}/{row['label']}/")
    twins = [row for row in rows if row["file"].endswith(("a/000.png", "a/copy.png"))]
    assert twins[0]["group"] == twins[1]["group"]
    assert twins[0]["split"] == twins[1]["split"]
    assert len({row["group"] for row in rows}) == 30
    again = open_dataset(tmp_path / "new" / "split" / "split.csv")
    assert {part: len(images) for part, images in again.held_out.items()} == {
        part: len(images) for part, images in parts.items() if part != "train"
    }


def test_write_split_copies_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    root = write_folder(tmp_path / "images", {"a": 4, "b": 4})
    write_split(open_dataset(root), out=tmp_path / "out", fractions={"train": 0.5, "test": 0.5}, seed=0)
    copies = open_dataset(tmp_path / "out")
    assert len(copies) + len(copies.held_out["test"]) == 8
    assert not os.path.samefile(str(copies.file(0)), root / copies.names[0])
    np.testing.assert_array_equal(copies.pixels(0), open_dataset(root).pixels(0))


def test_write_split_csv_with_resolvable_paths(tmp_path: Path) -> None:
    write_folder(tmp_path / "scans", {"x": 30})
    lines = [f"scans/x/{index:03d}.png,{'ab'[index % 2]},p{index // 2}" for index in range(30)]
    dataset = open_dataset(write_csv(tmp_path / "list.csv", "file,label,patient", *lines))
    parts = write_split(dataset, out=tmp_path / "elsewhere" / "split", seed=0).parts
    for part, images in parts.items():
        found = open_dataset(tmp_path / "elsewhere" / "split" / f"{part}.csv")
        assert found.patients == images.patients
        assert found.fingerprint() == images.fingerprint()
    whole = open_dataset(tmp_path / "elsewhere" / "split" / "split.csv")
    assert whole.held_out["test"].fingerprint() == parts["test"].fingerprint()
    assert whole.held_out["test"].patients == parts["test"].patients


def test_write_split_multi_label_csv(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 40})
    lines = [
        f"x/{index:03d}.png,{('a', 'b', 'a|b', '')[index % 4] if index < 8 else 'ab'[index % 2]}" for index in range(40)
    ]
    dataset = open_dataset(write_csv(tmp_path / "list.csv", "file,label", *lines))
    parts = write_split(dataset, out=tmp_path / "out", seed=1).parts
    for part, images in parts.items():
        found = open_dataset(tmp_path / "out" / f"{part}.csv")
        assert found.multi_label
        np.testing.assert_array_equal(found.labels, images.labels)


def test_write_split_npz(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d.npz", train_images=noise(20, 6, 6), train_labels=np.arange(20)[:, None] % 2)
    split = write_split(open_dataset(path, classes=("no", "yes")), out=tmp_path / "out", seed=0)
    parts = split.parts
    assert split.counts == {part: images.counts() for part, images in parts.items()}
    found = open_dataset(tmp_path / "out" / "split.npz")
    assert found.classes == ("no", "yes")
    for part, images in ({"train": found} | dict(found.held_out)).items():
        assert images.fingerprint() == parts[part].fingerprint()
    assert len(read_record(tmp_path / "out" / "split.csv")) == 20


def test_write_split_npz_copies_no_pixels(tmp_path: Path) -> None:
    pixels = np.repeat(noise(400, 160, 1), 160, axis=2)
    dataset = open_dataset(write_npz(tmp_path / "d.npz", train_images=pixels, train_labels=np.arange(400) % 2))
    tracemalloc.start()
    write_split(dataset, out=tmp_path / "out", seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7 * pixels.nbytes


def test_write_split_overwrites_nothing_and_leaves_no_partial_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(write_folder(tmp_path / "images", {"a": 10, "b": 10}))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match="out holds other files"):
        write_split(dataset, out=out, seed=0)
    (out / "mine.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("medzoo.data.splits._write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_split(dataset, out=out, seed=0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images", "out"]
    assert not list(out.iterdir())
    write_split(dataset, out=out, seed=0)
    assert (out / "split.csv").is_file()
