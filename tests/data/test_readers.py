"""Datasets opened from folders, CSVs and npz files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_csv, write_folder, write_npz
from PIL import Image

from medzoo.data import readers
from medzoo.data.dataset import open_dataset
from medzoo.errors import DataError

# Folders


def test_open_dataset_non_utf8_name_raises(tmp_path: Path) -> None:
    write_folder(tmp_path, {"normal": 1})
    os.rename(os.fsencode(tmp_path / "normal"), os.fsencode(tmp_path) + b"/\xd6dem")
    with pytest.raises(DataError, match=r"a name that is not UTF-8: \\udcd6dem/000.png"):
        open_dataset(tmp_path)


def test_open_dataset_class_folders_sorted(tmp_path: Path) -> None:
    write_folder(tmp_path, {"pneumonia": 2, "normal": 3})
    found = open_dataset(tmp_path)
    assert found.classes == ("normal", "pneumonia")
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.names == (
        "normal/000.png",
        "normal/001.png",
        "normal/002.png",
        "pneumonia/000.png",
        "pneumonia/001.png",
    )
    assert found.counts() == {"normal": 3, "pneumonia": 2}
    assert not found.multi_label
    assert found.patients is None
    assert found.file(3) == tmp_path / "pneumonia" / "000.png"
    np.testing.assert_array_equal(found.pixels(0), noise(12, 12, seed=3))


def test_open_dataset_nested_images_count_but_not_hidden_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    for name in ("a/series 2/x.PNG", "a/y.Jpeg", "a/z.TIFF", "a/w.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(8, 8)).save(tmp_path / name)
    for name in ("a/._x.png", "a/Thumbs.db", "a/.cache/x.png", ".git/x.png", "__MACOSX/a/x.png", "loose.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"not an image")
    assert open_dataset(tmp_path).names == ("a/000.png", "a/series 2/x.PNG", "a/w.bmp", "a/y.Jpeg", "a/z.TIFF")


@pytest.mark.parametrize("opened", ["", "train"])
def test_open_dataset_train_val_test_folders(tmp_path: Path, opened: str) -> None:
    for part, count in (("train", 3), ("valid", 1), ("test", 2)):
        write_folder(tmp_path / part, {"a": count, "b": 1}, seed=10 * count)
    found = open_dataset(tmp_path / opened)
    assert found.counts() == {"a": 3, "b": 1}
    assert list(found.held_out) == ["val", "test"]
    assert found.held_out["test"].counts() == {"a": 2, "b": 1}
    assert found.held_out["test"].file(0) == tmp_path / "test" / "a" / "000.png"


def test_open_dataset_held_out_classes_must_be_known(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    write_folder(tmp_path / "test", {"b": 1})
    assert open_dataset(tmp_path).held_out["test"].labels.tolist() == [1]
    write_folder(tmp_path / "val", {"B": 1})
    with pytest.raises(DataError, match="class 'B' in part val is not among the training images: a, b"):
        open_dataset(tmp_path)


def test_open_dataset_classes_order_and_completeness(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 2})
    assert open_dataset(tmp_path, classes=("b", "a", "c")).counts() == {"b": 2, "a": 1, "c": 0}
    with pytest.raises(DataError, match=r"class 'b' .* is not among the classes given: a"):
        open_dataset(tmp_path, classes=("a",))


def test_open_dataset_without_images_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images") as caught:
        open_dataset(tmp_path)
    assert "folder of class folders" in caught.value.hint
    (tmp_path / "data.txt").touch()
    with pytest.raises(DataError, match=r"data\.txt is not a dataset"):
        open_dataset(tmp_path / "data.txt")
    write_folder(tmp_path, {"full": 2})
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match=r"class folder .*hollow holds no images"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no class folders") as caught:
        open_dataset(tmp_path / "full")
    assert caught.value.hint.startswith("put images in class folders, give a CSV, or name the DICOM attribute")


# CSV


def test_csv_files_labels_and_patients(tmp_path: Path) -> None:
    write_folder(tmp_path / "scans", {"x": 3})
    path = tmp_path / "list.csv"
    path.write_bytes("\ufeffFile, Label,patient,note\r\n".encode() + b"scans/x/000.png,ill,p1,\r\n")
    with path.open("a") as stream:
        stream.write(f'"scans/x/001.png",well,p2,"a, b"\n{tmp_path}/scans/x/002.png,ill,p1,\n')
    found = open_dataset(path)
    assert found.classes == ("ill", "well")
    assert found.labels.tolist() == [0, 1, 0]
    assert found.patients == ("p1", "p2", "p1")
    assert found.names[0] == "scans/x/000.png"
    np.testing.assert_array_equal(found.pixels(2), noise(12, 12, seed=3))


def test_csv_multiple_labels_as_multi_hot(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 4})
    path = write_csv(tmp_path / "l.csv", "file,label", "x/000.png,b|a", "x/001.png,c", "x/002.png,", "x/003.png,c | c")
    found = open_dataset(path)
    assert found.multi_label
    assert found.labels.dtype == np.float32
    assert found.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert found.counts() == {"a": 1, "b": 1, "c": 2}


def test_csv_labels_column_is_multi_hot(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 2})
    found = open_dataset(write_csv(tmp_path / "l.csv", "file,labels", "x/000.png,a", "x/001.png,b"))
    assert found.labels.tolist() == [[1, 0], [0, 1]]


def test_csv_file_name_column(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 2})
    found = open_dataset(write_csv(tmp_path / "metadata.csv", "file_name,label", "x/000.png,a|b", "x/001.png,b"))
    assert found.names == ("x/000.png", "x/001.png")
    assert found.labels.tolist() == [[1, 1], [0, 1]]


def test_csv_split_column(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 4})
    lines = ["x/000.png,a,train", "x/001.png,a,TEST", "x/002.png,b,validation", "x/003.png,b,train"]
    found = open_dataset(write_csv(tmp_path / "l.csv", "file,label,split", *lines))
    assert found.names == ("x/000.png", "x/003.png")
    assert {part: images.names for part, images in found.held_out.items()} == {
        "val": ("x/002.png",),
        "test": ("x/001.png",),
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["scan,label", "x/000.png,a"], "needs the columns file and label; it has scan, label"),
        ([""], "needs the columns"),
        (["file,label"], "has no rows"),
        (["file,label", "x/000.png,a", "x/001.png"], "line 3 has more or fewer values"),
        (["file,label", "x/000.png,a,b"], "line 2 has more or fewer values"),
        (["file,label", "x/000.png,a", "x/001.png,"], "line 3 has no label"),
        (["file,label", ",a"], "line 2 names no file"),
        (["file,label", "x/000.png,a", "x/000.png,b"], r"line 3: x/000\.png is already on line 2"),
        (["file,label,patient", "x/000.png,a,"], "line 2 names no patient"),
        (["file,label,split", "x/000.png,a,trian"], "line 2: unknown split 'trian'"),
        (["file,label,split", "x/000.png,a,test"], "no rows whose split is train"),
        (["file,label", "x/000.png,a", "x/009.png,a"], r"x/009\.png is not a file"),
        (["file,label", '"x/000.png,a'], "not a CSV in UTF-8"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    write_folder(tmp_path, {"x": 2})
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(write_csv(tmp_path / "list.csv", *lines))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_csv_of_windows_in_western_europe(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 1})
    (tmp_path / "l.csv").write_bytes("file;label\nx/000.png;gesäuge\n".encode("cp1252"))
    found = open_dataset(tmp_path / "l.csv")
    assert found.classes == ("gesäuge",)
    assert found.findings.notes == ("separated by semicolons", "read as Windows-1252, for it is not UTF-8")


# npz


def test_npz_images_and_splits(tmp_path: Path) -> None:
    train, val = noise(3, 5, 5, 3), noise(2, 5, 5, 3, seed=1)
    path = write_npz(
        tmp_path / "d.npz",
        train_images=train,
        train_labels=np.array([[1], [0], [1]], np.uint8),
        val_images=val,
        val_labels=np.array([2, 0]),
    )
    found = open_dataset(path)
    assert found.classes == ("0", "1", "2")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.names[2] == "train/00002"
    assert found.file(0) is None
    np.testing.assert_array_equal(found.pixels(1), train[1])
    assert found.held_out["val"].names == ("val/00000", "val/00001")
    assert found.held_out["val"].labels.tolist() == [2, 0]
    assert open_dataset(path, classes=("x", "y", "z")).counts() == {"x": 1, "y": 2, "z": 0}
    with pytest.raises(DataError, match="has 3 classes but 2 names were given"):
        open_dataset(path, classes=("x", "y"))


def test_npz_class_names_and_multi_label(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "d.npz",
        train_images=noise(2, 4, 4),
        train_labels=np.array([[1, 0, 1], [0, 0, 0]]),
        classes=np.array(["edema", "mass", "nodule"]),
    )
    found = open_dataset(path)
    assert found.classes == ("edema", "mass", "nodule")
    assert found.labels.tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": noise(2, 4, 4)}, "has no array 'train_images'"),
        ({"train_images": noise(2, 4, 4)}, "has no array 'train_labels'"),
        ({"train_images": noise(2, 4, 4), "train_labels": np.zeros(3, int)}, "2 images and 3 labels"),
        ({"train_images": noise(2, 4, 4) / 255, "train_labels": np.zeros(2, int)}, "train_images is float64"),
        (
            {"train_images": noise(2, 4, 4, 2), "train_labels": np.zeros(2, int)},
            r"train_images is uint8 \(2, 4, 4, 2\)",
        ),
        ({"train_images": noise(2, 4, 4), "train_labels": np.zeros(2)}, "train_labels is float64"),
        ({"train_images": noise(2, 4, 4), "train_labels": np.array([0, -1])}, "holds -1"),
        ({"train_images": noise(2, 4, 4), "train_labels": np.array([None, 1])}, "cannot be read"),
    ],
)
def test_npz_errors_are_reported(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(write_npz(tmp_path / "d.npz", **arrays))


def test_npz_damaged_raises(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "d.npz", train_images=noise(9, 9, 9), train_labels=np.zeros(9, int))
    content = path.read_bytes()
    for damage in (content[: len(content) // 2], b"", content[:300] + b"?" * 9 + content[309:]):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"d\.npz cannot be read"):
            open_dataset(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match="it is not an npz"):
        open_dataset(path)


@pytest.mark.parametrize("seed", range(20))
def test_npz_corrupt_bytes_succeed_or_raise_data_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "d.npz"
    np.savez_compressed(path, train_images=noise(4, 6, 6), train_labels=np.array([0, 1, 0, 1]))
    content = bytearray(path.read_bytes())
    for position in rng.integers(0, len(content), 6):
        content[position] = int(rng.integers(256))
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert len(open_dataset(path)) == 4


def test_npz_of_numbers_that_are_no_classes(tmp_path):
    path = write_npz(tmp_path / "d.npz", train_images=noise(3, 8, 8), train_labels=np.array([0, 5, 10**7]))
    with pytest.raises(DataError, match=r"labels up to 10000000, and at most 10000 classes are possible"):
        open_dataset(path)


def test_npz_of_as_many_columns_as_no_classes(tmp_path):
    labels = np.ones((3, 10_001), np.uint8)
    path = write_npz(tmp_path / "d.npz", train_images=noise(3, 8, 8), train_labels=labels)
    with pytest.raises(DataError, match="labels of 10001 columns"):
        open_dataset(path)


def test_csv_of_names_that_are_no_classes(tmp_path, monkeypatch):
    write_folder(tmp_path, {"a": 4})
    monkeypatch.setattr(readers, "MAX_CLASSES", 3)
    names = [file.name for file in (tmp_path / "a").iterdir()]
    path = write_csv(tmp_path / "d.csv", "file,label", *(f"a/{name},{name.removesuffix('.png')}" for name in names))
    with pytest.raises(DataError, match=r"has 4 classes, such as '\w+', and at most 3 are possible"):
        open_dataset(path)
