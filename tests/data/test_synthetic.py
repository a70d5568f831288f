"""Synthetic images are known by medzoo's table, by their names, and by marks inside files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.image_sets import noise, write_csv, write_folder
from PIL import Image, PngImagePlugin

from medzoo.data.dataset import open_dataset

XMP = "<x:xmpmeta>http://cv.iptc.org/newscodes/digitalsourcetype/{}</x:xmpmeta>"


def synthetic(path: Path) -> set[str]:
    return set(open_dataset(path, log=False).synthetic)


def test_synthetic_by_file_name(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "001.png").rename(tmp_path / "a" / "synthetic-dcgan-busi-000000.png")
    assert synthetic(tmp_path) == {"a/synthetic-dcgan-busi-000000.png"}
    summary = open_dataset(tmp_path).summary()
    assert summary.synthetic == 1
    assert "2 images of 1 class (a 2), 1 of them synthetic" in summary.line()


def test_synthetic_by_table(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "synthetic-looking.png")
    rows = ("a/synthetic-looking.png;real", "a/001.png;Synthetic")
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name;origin", *rows]), encoding="utf-8-sig")
    assert synthetic(tmp_path) == {"a/001.png"}


def test_synthetic_in_a_table_of_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 3})
    table = write_csv(tmp_path / "l.csv", "file_name,label,origin", "a/000.png,x,real", "a/001.png,y,synthetic")
    assert synthetic(table) == {"a/001.png"}
    assert not open_dataset(table).findings.unused_columns


@pytest.mark.parametrize(
    ("chunks", "made"),
    [
        ({"parameters": "a lesion\nSteps: 20, Sampler: Euler a, Seed: 1"}, True),
        ({"prompt": '{"3": {"class_type": "KSampler"}}'}, True),
        ({"XML:com.adobe.xmp": XMP.format("trainedAlgorithmicMedia")}, True),
        ({"XML:com.adobe.xmp": XMP.format("compositeWithTrainedAlgorithmicMedia")}, True),
        ({"XML:com.adobe.xmp": XMP.format("digitalCapture")}, False),
        ({"parameters": "gain 3 dB"}, False),
        ({"Software": "ImageJ"}, False),
    ],
)
def test_synthetic_by_marks_in_png(tmp_path: Path, chunks: dict[str, str], made: bool) -> None:
    write_folder(tmp_path, {"a": 1})
    texts = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        texts.add_itxt(key, value)
    Image.fromarray(noise(9, 9)).save(tmp_path / "a" / "made.png", pnginfo=texts)
    assert synthetic(tmp_path) == ({"a/made.png"} if made else set())


def test_synthetic_by_marks_in_jpeg(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    Image.fromarray(noise(9, 9)).save(tmp_path / "a" / "made.jpg", xmp=XMP.format("trainedAlgorithmicMedia").encode())
    assert synthetic(tmp_path) == {"a/made.jpg"}


def test_subset_keeps_the_synthetic_images_it_has(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "a" / "001.png").rename(tmp_path / "a" / "synthetic-x-000000.png")
    found = open_dataset(tmp_path)
    assert found.subset([0]).synthetic == frozenset()
    assert found.subset([1]).synthetic == {"a/synthetic-x-000000.png"}
