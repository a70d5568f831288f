"""Masks beside images are left out, refused or taken, and no image is taken for a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_csv, write_folder
from PIL import Image

from medzoo.data.dataset import open_dataset
from medzoo.errors import ConfigError, DataError


def save_image(path: Path, *, seed: int = 0, side: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(side, side, seed=seed)).save(path)


def save_mask(path: Path, *, side: int = 12, levels: tuple[int, ...] = (0, 255), quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side), levels[0], np.uint8)
    for k, level in enumerate(levels[1:]):
        pixels[2 + 2 * k : 4 + 2 * k, 3:9] = level
    Image.fromarray(pixels).save(path, quality=quality)


def names(path: Path, **options: str) -> tuple[str, ...]:
    return open_dataset(path, log=False, **options).names


@pytest.mark.parametrize(
    "mask",
    [
        "benign (1)_mask.png",
        "benign (1)_mask_1.png",
        "benign (1)_MASK2.png",
        "benign (1)-segmentation.png",
        "benign (1) ground truth.bmp",
        "benign (1)_gt.tif",
        "benign (1)mask.png",
        "mask_benign (1).png",
        "benign (1)_seg_left_2.png",
    ],
)
def test_masks_by_name_beside_their_image(tmp_path: Path, mask: str) -> None:
    save_image(tmp_path / "a" / "benign (1).png")
    save_image(tmp_path / "a" / "benign (2).png", seed=2)
    save_mask(tmp_path / "a" / mask)
    found = open_dataset(tmp_path)
    assert found.names == ("a/benign (1).png", "a/benign (2).png")
    assert [(one.what, one.count, one.examples) for one in found.findings.left_out] == [("masks", 1, (f"a/{mask}",))]
    assert found.summary().notable
    assert "left out: 1 mask" in found.summary().line()


@pytest.mark.parametrize("mask", ["scan_lesion.png", "scan_1.png", "scan_tumour_03.png", "scan.bmp"])
def test_masks_by_pixels_beside_their_image(tmp_path: Path, mask: str) -> None:
    save_image(tmp_path / "a" / "scan.png")
    save_mask(tmp_path / "a" / mask)
    assert names(tmp_path) == ("a/scan.png",)


def test_masks_may_be_empty_where_others_are_not(tmp_path: Path) -> None:
    for k in range(3):
        save_image(tmp_path / "a" / f"s{k}.png", seed=k)
        save_mask(tmp_path / "a" / f"s{k}_tumour.png", levels=(0,) if k == 1 else (0, 255))
    assert names(tmp_path) == ("a/s0.png", "a/s1.png", "a/s2.png")


def test_images_called_like_others_stay(tmp_path: Path) -> None:
    save_image(tmp_path / "a" / "scan.png")
    save_image(tmp_path / "a" / "scan_2.png", seed=2)
    save_image(tmp_path / "a" / "scan.bmp", seed=3)
    save_mask(tmp_path / "a" / "scan_3.png", side=8)  # two levels, but of another size
    save_mask(tmp_path / "a" / "unlike_mask.png")  # beside no image that it could belong to
    assert len(names(tmp_path)) == 5


@pytest.mark.parametrize("folder", ["masks", "Mask", "ground-truth", "GT", "segmentations"])
@pytest.mark.parametrize("file", ["{}.png", "{}_mask.png", "{}_Segmentation.png"])
def test_masks_in_a_folder_in_each_class(tmp_path: Path, folder: str, file: str) -> None:
    for name in ("covid", "normal"):
        for k in range(3):
            save_image(tmp_path / name / "images" / f"{name}-{k}.png", seed=k)
            save_mask(tmp_path / name / folder / file.format(f"{name}-{k}"))
    found = open_dataset(tmp_path)
    assert found.counts() == {"covid": 3, "normal": 3}
    assert found.findings.left_out[0].count == 6


@pytest.mark.parametrize("folder", ["masks", "outlines"])
def test_masks_in_a_folder_within_each_class(tmp_path: Path, folder: str) -> None:
    for k, name in enumerate(("a", "b", "a", "b")):
        save_image(tmp_path / name / f"{k}.png", seed=k)
        save_mask(tmp_path / name / folder / f"{k}.png")
    assert open_dataset(tmp_path).counts() == {"a": 2, "b": 2}


def test_masks_in_one_folder_beside_the_classes(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b", "a", "b")):
        save_image(tmp_path / name / f"{k}.jpg", seed=k, side=32)
        save_mask(tmp_path / "masks" / f"{k}.jpg", side=32, quality=60)  # JPEG: near two levels
    assert open_dataset(tmp_path).counts() == {"a": 2, "b": 2}


def test_masks_in_a_tree_of_their_own(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for k, name in enumerate(("a", "b")):
            save_image(tmp_path / part / name / f"{k}.png", seed=k)
            save_mask(tmp_path / part / f"{name}_masks" / f"{k}.png", levels=(0, 1, 2))
    found = open_dataset(tmp_path)
    assert found.counts() == {"a": 1, "b": 1}
    assert found.held_out["test"].counts() == {"a": 1, "b": 1}


def test_masks_in_a_folder_of_any_name_by_pixels(tmp_path: Path) -> None:
    for k in range(4):
        save_image(tmp_path / "pictures" / f"{k}.png", seed=k)
        save_mask(tmp_path / "outlines" / f"{k}.png")
    assert open_dataset(tmp_path).counts() == {"pictures": 4}


def test_classes_called_after_masks_stay_where_they_hold_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path, {"with_mask": 3, "without_mask": 3})
    assert open_dataset(tmp_path).counts() == {"with_mask": 3, "without_mask": 3}
    assert not open_dataset(tmp_path).findings.left_out


def test_masks_in_a_table(tmp_path: Path) -> None:
    save_image(tmp_path / "s" / "1.png")
    save_mask(tmp_path / "s" / "1_mask.png")
    table = write_csv(tmp_path / "l.csv", "file,label", "s/1.png,a", "s/1_mask.png,a")
    assert names(table) == ("s/1.png",)
    assert names(table, masks="as-images") == ("s/1.png", "s/1_mask.png")


def test_masks_refused_or_taken(tmp_path: Path) -> None:
    save_image(tmp_path / "a" / "1.png")
    save_mask(tmp_path / "a" / "1_mask.png")
    with pytest.raises(DataError, match=r"holds 1 masks beside its images, such as a/1_mask\.png") as caught:
        names(tmp_path, masks="refuse")
    assert "--masks as-images" in caught.value.hint
    assert names(tmp_path, masks="as-images") == ("a/1.png", "a/1_mask.png")
    with pytest.raises(ConfigError, match="masks cannot take 'keep'"):
        names(tmp_path, masks="keep")
