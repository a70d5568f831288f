"""Folders as archives, disks and people make them: nothing is taken for what it is not, and nothing vanishes unsaid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.image_sets import write_folder

from medzoo.data.dataset import open_dataset, open_unlabeled
from medzoo.errors import DataError


def left_out(path: Path) -> dict[str, int]:
    return {one.what: one.count for one in open_dataset(path, log=False).findings.left_out}


# Parts


def test_folder_of_tables_names_the_table(tmp_path: Path) -> None:
    for name in ("split", "test", "train"):
        (tmp_path / f"{name}.csv").write_text("file,label\n")
    with pytest.raises(DataError, match=r"it has 3 \.csv") as caught:
        open_dataset(tmp_path)
    assert caught.value.hint == f"did you mean --data {tmp_path / 'split.csv'}?"
    (tmp_path / "split.csv").unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert "did you mean" not in caught.value.hint


@pytest.mark.parametrize(
    "folders",
    [
        ("TRAIN", "VAL", "TEST"),
        ("Training", "valid", "Testing"),
        ("01_train", "02_dev", "03_eval"),
        ("train set", "val set", "test set"),
    ],
)
def test_parts_by_the_words_of_hugging_face(tmp_path: Path, folders: Sequence[str]) -> None:
    for count, folder in zip((3, 1, 2), folders, strict=True):
        write_folder(tmp_path / folder, {"a": count, "b": 1})
    found = open_dataset(tmp_path)
    assert found.counts() == {"a": 3, "b": 1}
    assert {part: images.counts()["a"] for part, images in found.held_out.items()} == {"val": 1, "test": 2}
    assert found.findings.folders == dict(zip(("train", "val", "test"), folders, strict=True))


def test_parts_beside_a_train_folder_are_called_alike(tmp_path: Path) -> None:
    write_folder(tmp_path / "train-busi", {"a": 2})
    write_folder(tmp_path / "test-chest", {"c": 1})
    assert not open_dataset(tmp_path / "train-busi").held_out
    write_folder(tmp_path / "test-busi", {"a": 1})
    assert list(open_dataset(tmp_path / "train-busi").held_out) == ["test"]


@pytest.mark.parametrize(
    ("folders", "message", "hint"),
    [
        (
            ["set/train/a", "set/train/b", "set/test/a"],
            "set is no class: it holds the parts",
            "--data {}/set?",
        ),
        (["x/y/a", "x/y/b"], "has one folder, x, which holds the folders a, b", "--data {}/x/y?"),
        (["a/train", "a/test", "b/train", "b/test"], "a is no class: it holds the parts", "Parts come before classes"),
        (["test/a", "test/b"], "holds test/ but no part to train on", "--data {}/test?"),
        (["train", "test"], "the parts test/ and train/ without class folders", "put images in class folders"),
        (["north/a", "north/b", "south/a", "south/b"], "each of which holds the folders a, b", "--data {}/north?"),
    ],
)
def test_folders_that_are_no_classes_are_refused(
    tmp_path: Path, folders: Sequence[str], message: str, hint: str
) -> None:
    write_folder(tmp_path, dict.fromkeys(folders, 2))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path)
    assert hint.format(tmp_path) in caught.value.hint


def test_folders_of_patients_within_classes_stay(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{name}/patient {k}": 1 for name in ("a", "b") for k in range(3)})
    assert open_dataset(tmp_path).counts() == {"a": 3, "b": 3}


# What lies beside


def test_folders_of_systems_are_passed_over(tmp_path: Path) -> None:
    write_folder(
        tmp_path, {"a": 1, "a/@eaDir/000.png": 1, "#recycle/a": 1, "System Volume Information": 1, "LOST+FOUND": 0}
    )
    (tmp_path / "a" / "Thumbs.db").touch()
    assert open_dataset(tmp_path).names == ("a/000.png",)
    assert left_out(tmp_path) == {}


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    for name in ("a/1.NRRD", "a/2.nrrd", "a/x/3.svg", "notes.txt", "a/IM0001", "run.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_folder(tmp_path / "more", {"x": 1}).joinpath("x/000.png").rename(tmp_path / "loose.png")
    (tmp_path / "more" / "x").rmdir()
    (tmp_path / "more").rmdir()
    expected = {"images beside the class folders": 1, ".nrrd": 2, ".svg": 1, "without a suffix": 1, ".txt": 1}
    assert left_out(tmp_path) == expected
    assert "left out: 1 image beside the class folders, 2 .nrrd" in open_dataset(tmp_path).summary().line()


def test_only_texts_beside_images_call_for_no_look(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    for name in ("README", "labels.csv"):
        (tmp_path / name).touch()
    summary = open_dataset(tmp_path).summary()
    assert not summary.notable
    assert "left out: 1 .csv, 1 without a suffix" in summary.line()


def test_folders_beside_parts_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 1})
    write_folder(tmp_path, {"test": 3, "extra": 2})
    assert left_out(tmp_path) == {"images in extra/ beside the parts": 2, "images in test/ beside the parts": 3}


def test_empty_class_folder_says_what_it_holds(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 0})
    (tmp_path / "b" / "1.nrrd").touch()
    with pytest.raises(DataError, match=r"class folder .*b holds no images .*; it has 1 \.nrrd"):
        open_dataset(tmp_path)


# Links and permissions


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "store", {"series": 2, "b": 1})
    root = write_folder(tmp_path / "set", {"a": 1})
    (root / "b").symlink_to(tmp_path / "store" / "b")
    (root / "a" / "more").symlink_to(tmp_path / "store" / "series")
    (root / "a" / "again").symlink_to("more")
    (root / "a" / "round").symlink_to(root / "a")
    found = open_dataset(root)
    assert found.counts() == {"a": 3, "b": 1}
    assert {one.what: one.examples for one in found.findings.left_out} == {
        "links to a folder that was read already": ("a/more", "a/round")
    }


@pytest.mark.parametrize("target", ["missing", "series"])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, target: str) -> None:
    write_folder(tmp_path, {"a": 1})
    (tmp_path / "a" / "series").symlink_to(target)
    with pytest.raises(DataError, match="series is a link that leads nowhere"):
        open_dataset(tmp_path)


def test_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"a": 1, "a/closed": 1})
    scan = os.scandir

    def guarded(folder: Any) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match="closed cannot be opened: permission denied"):
        open_dataset(tmp_path)


# Folders without class folders


def test_open_unlabeled_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 2})
    (tmp_path / "x" / "@eaDir").mkdir()
    (tmp_path / "x" / "1.nrrd").touch()
    found = open_unlabeled(tmp_path / "x", as_class="all")
    assert found is not None
    assert found.names == ("000.png", "001.png")
    assert found.labels.tolist() == [0, 0]
    assert [one.what for one in found.findings.left_out] == [".nrrd"]
    assert open_unlabeled(tmp_path, as_class="all") is None
    one = open_unlabeled(tmp_path / "x" / "000.png", classes=("a", "b"))
    assert one is not None
    assert one.labels.tolist() == [[0, 0]]


# What medzoo wrote


@pytest.mark.parametrize(
    "mark", [".medzoo-plan.json", "run.json", "experiment.json", "model.safetensors", "report.html"]
)
@pytest.mark.parametrize("place", ["run", "a/run"])
def test_open_dataset_with_a_run_inside(tmp_path: Path, place: str, mark: str) -> None:
    write_folder(tmp_path, {"a": 2, "b": 1})
    write_folder(tmp_path / place, {"samples": 2})
    (tmp_path / place / mark).write_text("{}")
    assert open_dataset(tmp_path).counts() == {"a": 2, "b": 1}
    assert left_out(tmp_path) == {"folders that medzoo wrote": 1}


def test_open_dataset_with_a_run_called_like_a_part(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 1})
    write_folder(tmp_path / "train", {"samples": 2})
    (tmp_path / "train" / "run.json").write_text("{}")
    assert open_dataset(tmp_path).counts() == {"a": 2, "b": 1}


def test_open_dataset_with_augmented_training_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 2, "b": 1})
    write_folder(tmp_path / "test", {"a": 1})
    (tmp_path / "train" / "run.json").write_text("{}")
    (tmp_path / "train" / "metadata.csv").write_text("file_name\n")
    assert list(open_dataset(tmp_path).held_out) == ["test"]


def test_open_dataset_of_runs_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "filled", {"a": 1})
    (tmp_path / "filled" / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds no class folders, but filled/, .*--data .*/filled"):
        open_dataset(tmp_path)
