"""The report of `medzoo data check`: what images were taken for, a picture of each class, nothing unescaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.html_page import Page
from helpers.image_sets import noise, write_csv, write_folder, write_npz
from PIL import Image

from medzoo.data.checks import check_dataset
from medzoo.data.dataset import open_dataset
from medzoo.errors import DataError
from medzoo.report.data.report import write_data_report


def page_of(path: Path, out: Path) -> Page:
    dataset = open_dataset(path, skip_bad=True, log=False)
    return Page(write_data_report(check_dataset(dataset), dataset, out).read_text("utf-8"))


def test_write_data_report_shows_classes_and_what_was_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "scans" / "Train", {"<b>a": 12, "b": 2})
    write_folder(tmp_path / "scans" / "TEST", {"b": 1})
    mask = np.zeros((12, 12), np.uint8)
    mask[3:6] = 255
    Image.fromarray(mask).save(tmp_path / "scans" / "Train" / "b" / "000_mask.png")
    Image.new("L", (20, 9), 7).save(tmp_path / "scans" / "Train" / "b" / "empty.png")
    (tmp_path / "scans" / "Train" / "b" / "broken.png").write_bytes(b"")
    (tmp_path / "scans" / "Train" / "b" / "x.nrrd").touch()
    page = page_of(tmp_path / "scans", tmp_path / "out")
    assert "16 images of 2 classes (<b>a 12, b 4); parts train 15, test 1; patients unknown" in page.text
    assert "train 15 (folder Train), test 1 (folder TEST)" in page.text
    assert "1 masks, such as b/000_mask.png" in page.text
    assert "1 .nrrd, such as b/x.nrrd" in page.text
    assert "broken.png is empty" in page.text
    assert "images without content (one color all over, or all transparent): 1" in page.text.lower()
    pictures = [image["alt"] for image in page.all("img")]
    assert len(pictures) == 8 + 3 + 1 + 2  # the last two are duplicates of each other
    assert pictures[0] == "<b>a: <b>a/000.png"
    assert not page.all("b")
    assert not page.all("script")


def test_write_data_report_names_columns(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 2})
    table = write_csv(tmp_path / "l.csv", "Image,dx,PatientID,age", "x/000.png,a,1,50", "x/001.png,b,2,60")
    text = page_of(table, tmp_path / "out").text
    assert "Column of the patient PatientID" in text
    assert "Columns not used age" in text
    assert "Patients 2" in text


def test_write_data_report_of_arrays_and_many_classes(tmp_path: Path) -> None:
    labels = np.arange(60) % 30
    path = write_npz(tmp_path / "d.npz", train_images=noise(60, 8, 8, 3), train_labels=labels)
    page = page_of(path, tmp_path / "out")
    assert len(page.all("img")) == 60
    assert "60 images of 30 classes" in page.text


def test_write_data_report_inside_the_data_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    with pytest.raises(DataError, match="is inside the data folder"):
        page_of(tmp_path, tmp_path / "a" / "report")
    assert not (tmp_path / "a" / "report").exists()


def test_write_data_report_shows_duplicates_beside_each_other(tmp_path: Path) -> None:
    write_folder(tmp_path / "scans" / "train", {"a": 3, "b": 3})
    write_folder(tmp_path / "scans" / "test", {"a": 1})
    first = sorted((tmp_path / "scans" / "train" / "a").iterdir())[0]
    (tmp_path / "scans" / "train" / "b" / "copy.png").write_bytes(first.read_bytes())
    page = page_of(tmp_path / "scans", tmp_path / "out")
    pictures = [image["alt"] for image in page.all("img")]
    assert {f"train/a/{first.name} (a)", "train/b/copy.png (b)"} <= set(pictures)
