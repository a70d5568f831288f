"""The one line that says what a path was taken for, the same in JSON, and when it calls for a look."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_csv, write_folder, write_npz
from PIL import Image

from medzoo.data.dataset import open_dataset, open_unlabeled


def logged_line(path: Path, caplog: pytest.LogCaptureFixture) -> tuple[int, str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="medzoo"):
        open_dataset(path)
    ((_, level, line),) = caplog.record_tuples
    return level, line


def test_open_dataset_logs_one_line_that_points_to_the_check(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, {"a": 3, "b": 1})
    assert logged_line(tmp_path, caplog) == (
        logging.INFO,
        f"{tmp_path}: 4 images of 2 classes (a 3, b 1); no parts; patients unknown; gray, 8 bit; "
        f"`medzoo data check {tmp_path}` shows all",
    )


def test_summary_of_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, {"x": 3})
    Image.fromarray(noise(9, 9)).save(tmp_path / "x" / "other.png")
    Image.fromarray(noise(9, 9).astype(np.uint16) * 257).save(tmp_path / "x" / "deep.png")
    lines = ["000,a,1,train,7", "001,b,1,train,7", "other,a,2,test,8", "deep,a,3,test,8"]
    table = write_csv(tmp_path / "l.csv", "image,dx,Patient,set,case_nr", *(f"x/{line}" for line in lines))
    level, line = logged_line(table, caplog)
    assert level == logging.WARNING  # images of one case_nr belong to two patients
    assert line.startswith(
        f"{table}: 4 images of 2 classes (a 3, b 1); parts train 2, test 2; 3 patients (column Patient); "
        "gray, 8 bit 3 and 16 bit 1; suffix added to 4 names; "
        "column not used but like a patient's: case_nr; "
    )
    summary = json.loads(json.dumps(open_dataset(table, log=False).summary().to_dict()))
    assert summary["images"] == 4
    assert summary["parts"] == {"train": 2, "test": 2}
    assert summary["counts"]["test"] == {"a": 2, "b": 0}
    assert summary["patients"] == 3
    assert summary["columns"] == {"file": "image", "label": "dx", "part": "set", "patient": "Patient"}
    assert summary["channels"] == {"gray": 4}
    assert summary["bits"] == {"8": 3, "16": 1}
    assert summary["warnings"] == ["column not used but like a patient's: case_nr"]


def test_summary_of_arrays(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "d.npz",
        train_images=noise(3, 5, 5, 1),
        train_labels=np.eye(3, dtype=int)[[2, 0, 2]],
        train_masks=noise(3, 5, 5),
    )
    found = open_dataset(path)
    assert found.labels.tolist() == [2, 0, 2]
    assert found.pixels(0).shape == (5, 5)
    assert "gray, 8 bit; arrays (N, H, W, 1) taken for gray; one-hot labels taken for one label per image; " in (
        line := found.summary().line()
    )
    assert line.endswith("left out: 1 array")
    assert found.summary().to_dict()["left_out"][0]["examples"] == ["train_masks"]


def test_summary_warns_of_class_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, {"Benign": 1, "benign": 1})
    level, line = logged_line(tmp_path, caplog)
    assert level == logging.WARNING
    assert "differ only in case, spaces or accents' encoding: 'Benign' and 'benign'" in line


def test_summary_of_images_without_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    found = open_unlabeled(tmp_path / "a", classes=("x", "y"))
    assert found is not None
    assert found.summary().line().startswith(f"{tmp_path}/a: 2 images without labels; no parts")


def test_summary_says_that_images_are_not_square(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    Image.fromarray(noise(97, 130)).save(tmp_path / "a" / "wide.png")
    summary = open_dataset(tmp_path).summary()
    line = "1 not square: squeezed to squares unless image.crop is center, dark-border or pad"
    assert line in summary.line()
    assert summary.to_dict()["not_square"] == 1
