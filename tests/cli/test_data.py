"""`medzoo data`: what each command writes, prints and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.image_sets import noise, write_folder
from PIL import Image

from medzoo.data.dataset import open_dataset
from medzoo.data.phantom import CLASSES

Medzoo = Callable[..., Any]


def test_data_phantom_writes_requested_counts(medzoo: Medzoo, tmp_path: Path) -> None:
    answer = medzoo("data", "phantom", tmp_path / "even", "--per-class", 2, "--size", 32)
    assert answer.code == 0
    assert "writing 8 images" in answer.err
    assert "writing" not in answer.out
    assert open_dataset(tmp_path / "even").counts() == dict.fromkeys(sorted(CLASSES), 2)
    answer = medzoo("data", "phantom", tmp_path / "odd", "--counts", "normal=3, thick-wall=1", "--size", 32, "--json")
    expected = {"normal": 3, "thick-wall": 1}
    assert json.loads(answer.out) == {"folder": f"{tmp_path}/odd", "counts": expected, "size": 32, "seed": 0}
    assert open_dataset(tmp_path / "odd").counts() == expected
    assert open_dataset(tmp_path / "odd").pixels(0).shape == (32, 32)


@pytest.mark.parametrize(
    ("counts", "code", "message"),
    [
        ("normal", 2, "--counts cannot take 'normal'"),
        ("normal=x", 2, "--counts cannot take 'normal=x'"),
        ("normal=1,normal=2", 2, "--counts cannot take 'normal=2'"),
        ("normal=0", 2, "at least one image"),
        ("norml=3", 2, "did you mean normal?"),
    ],
)
def test_data_phantom_invalid_counts(medzoo: Medzoo, tmp_path: Path, counts: str, code: int, message: str) -> None:
    answer = medzoo("data", "phantom", tmp_path / "x", "--counts", counts)
    assert answer.code == code
    assert message in answer.err
    assert not (tmp_path / "x").exists()


def test_data_split_prints_and_writes_parts(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 20, "b": 10})
    (tmp_path / "images" / "b" / "broken.png").write_bytes(b"")
    refused = medzoo("data", "split", tmp_path / "images", "--out", tmp_path / "out")
    assert refused.code == 5
    assert "broken.png is empty" in refused.err
    assert "--skip-bad" in refused.err
    answer = medzoo("data", "split", tmp_path / "images", "--out", tmp_path / "out", "--skip-bad", "--json")
    assert answer.code == 0
    assert "left out b/broken.png" in answer.err
    result = json.loads(answer.out)
    assert result["counts"] == {
        "train": {"a": 16, "b": 8},
        "val": {"a": 2, "b": 1},
        "test": {"a": 2, "b": 1},
    }
    assert result["left_out"][0][0] == "b/broken.png"
    assert open_dataset(tmp_path / "out").counts() == result["counts"]["train"]
    again = medzoo("data", "split", tmp_path / "images", "--out", tmp_path / "out", "--skip-bad")
    assert again.code == 5
    assert "holds other files" in again.err


def test_data_split_fractions(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 10})
    shares = ("--train", 0.5, "--val", 0, "--test", 0.5)
    answer = medzoo("data", "split", tmp_path / "images", "--out", tmp_path / "out", *shares)
    assert answer.out.split() == ["class", "train", "test", "a", "5", "5"]
    wrong = medzoo("data", "split", tmp_path / "images", "--out", tmp_path / "other", "--train", 0.5)
    assert wrong.code == 2
    assert "add up to 1" in wrong.err


def test_data_check_fails_only_when_strict(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 12, "b": 3})
    clean = medzoo("data", "check", tmp_path, "--strict")
    assert clean.code == 0
    assert "problems: none" in clean.out
    for index in range(11):
        Image.fromarray(noise(12, 12, seed=index + 1)).save(tmp_path / "b" / f"copy-{index}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"")
    answer = medzoo("data", "check", tmp_path)
    assert answer.code == 0
    assert "broken.png is empty" in answer.out
    assert "duplicate groups: 11" in answer.out
    assert "a/000.png (a), b/copy-0.png (b)" in answer.out
    assert "and 1 more (--json lists all)" in answer.out
    assert "pairs of exact duplicates: 11 (11 across classes, 0 across parts)" in answer.out
    strict = medzoo("data", "check", tmp_path, "--strict", "--json")
    assert strict.code == 5
    assert "has problems: unreadable images: 1; pairs of exact" in strict.err
    assert len(json.loads(strict.out)["groups"]) == 11


def test_data_check_missing_folder(medzoo: Medzoo, tmp_path: Path) -> None:
    answer = medzoo("data", "check", tmp_path / "nowhere")
    assert answer.code == 5
    assert "does not exist" in answer.err


def test_data_check_writes_a_report_and_names_what_was_left_out(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a": 3, "A": 1})
    (tmp_path / "set" / "a" / "1.nrrd").touch()
    answer = medzoo("data", "check", tmp_path / "set", "--out", tmp_path / "report")
    assert answer.code == 0
    assert answer.out.startswith(f"{tmp_path}/set: 4 images of 2 classes (A 1, a 3); no parts; patients unknown; gray")
    assert "1 .nrrd, such as a/1.nrrd" in answer.out
    assert "problems: class names that differ only in case" in answer.out
    assert answer.out.endswith(f"{tmp_path}/report/report.html\n")
    found = json.loads(medzoo("data", "check", tmp_path / "set", "--json").out)
    assert found["summary"]["left_out"] == [{"what": ".nrrd", "count": 1, "examples": ["a/1.nrrd"], "expected": False}]
    assert found["report"] is None


def test_data_check_of_images_without_class_folders(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 3})
    answer = medzoo("data", "check", tmp_path / "a")
    assert answer.code == 0
    assert "3 images of 1 class (all images 3)" in answer.out


def test_data_verbs_take_masks(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a": 10})
    for index in range(4):
        Image.fromarray(noise(12, 12, seed=90 + index)).save(tmp_path / "set" / "a" / f"{index:03d}_mask.png")
    shares = ("--train", 0.5, "--val", 0, "--test", 0.5, "--json")
    split = json.loads(medzoo("data", "split", tmp_path / "set", "--out", tmp_path / "out", *shares).out)
    assert split["data"]["images"] == 10
    assert split["data"]["left_out"][0]["what"] == "masks"
    every = json.loads(medzoo("data", "check", tmp_path / "set", "--masks", "as-images", "--json").out)
    assert every["summary"]["images"] == 14
    refused = medzoo("data", "check", tmp_path / "set", "--masks", "refuse")
    assert refused.code == 5
    assert "holds 4 masks beside its images, such as a/000_mask.png" in refused.err
    assert medzoo("data", "check", tmp_path / "set", "--masks", "keep").code == 2
