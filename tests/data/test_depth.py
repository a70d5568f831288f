"""Tests of a set's bit depth and color."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.errors import DataError


def write_set(folder: Path, *, highest: int, dtype: type = np.uint16, suffix: str = "png") -> Path:
    """Write two classes of two images with values up to `highest`, one of which reaches it."""
    rng = np.random.default_rng(highest)
    for number, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        values = rng.integers(0, highest // 2 + 1, (16, 16)).astype(dtype)
        if number == 3:
            values[0, 0] = highest
        path = folder / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return folder


@pytest.mark.parametrize(
    ("highest", "bits", "dtype", "suffix"),
    [
        (1000, 10, np.uint16, "png"),
        (4095, 12, np.uint16, "tif"),
        (30000, 15, np.uint16, "png"),
        (65535, 16, np.uint16, "png"),
        (255, 8, np.int32, "tif"),
        (255, 8, np.float32, "tif"),
    ],
)
def test_open_dataset_takes_the_depth_of_the_whole_set(
    tmp_path: Path, highest: int, bits: int, dtype: type, suffix: str
) -> None:
    data = open_dataset(write_set(tmp_path / "set", highest=highest, dtype=dtype, suffix=suffix))
    assert (data.depth, data.highest) == (bits, highest)
    brightest = max(int(pixels.max()) for pixels in data.all_pixels())
    assert brightest == round(highest / (2**bits - 1) * 255)
    # Not by each image's own extremes: the images that stay below half are half as bright.
    assert data.pixels(0).max() <= brightest / 2 + 1


def test_open_dataset_says_the_depth(tmp_path: Path, logged: list[str]) -> None:
    folder = write_set(tmp_path / "set", highest=4000)
    summary = open_dataset(folder).summary()
    assert "gray, 16 bit read as 12 bit (highest value 4000; change it with image.depth)" in logged[0]
    assert (summary.to_dict()["depth"], summary.to_dict()["highest"]) == (12, 4000)


def test_open_dataset_with_a_given_depth(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", highest=1000)
    assert open_dataset(folder, depth=12).pixels(3).max() == round(1000 / 4095 * 255)
    with pytest.raises(DataError, match=r"values up to 1000, more than the 8 bits") as caught:
        open_dataset(folder, depth=8)
    assert "image.depth=10" in caught.value.hint


def test_open_dataset_depth_counts_held_out_parts(tmp_path: Path) -> None:
    write_set(tmp_path / "set" / "train", highest=900)
    write_set(tmp_path / "set" / "test", highest=4000)
    data = open_dataset(tmp_path / "set")
    assert data.depth == data.held_out["test"].depth == 12


def test_fingerprints_do_not_depend_on_the_depth(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", highest=200)
    shallow, deep = open_dataset(folder), open_dataset(folder, depth=16)
    assert shallow.depth == 8
    assert shallow.fingerprints() == deep.fingerprints()
    assert len(set(shallow.fingerprints())) == 4
    squares = [Decoded(data, size=16, channels=1, crop="none") for data in (shallow, deep)]
    assert squares[0].fingerprints() == squares[1].fingerprints() == shallow.fingerprints()
    assert squares[0][[3]].max() > 100
    assert squares[1][[3]].max() <= 1


def write_color(folder: Path, *, colored: int, gray: int) -> Dataset:
    rng = np.random.default_rng(0)
    (folder / "a").mkdir(parents=True)
    for index in range(colored + gray):
        pixels = rng.integers(60, 255, (12, 12, 1)) * np.array((1.0, 0.6, 0.3) if index < colored else (1, 1, 1))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "a" / f"{index}.png")
    return open_dataset(folder)


def test_channels_follow_what_images_show(tmp_path: Path) -> None:
    assert write_color(tmp_path / "color", colored=5, gray=0).channels == 3
    assert write_color(tmp_path / "stored", colored=0, gray=5).channels == 1
    assert write_color(tmp_path / "few", colored=1, gray=5).channels == 1


def test_summary_says_gray_stored_as_rgb(tmp_path: Path) -> None:
    assert write_color(tmp_path / "stored", colored=0, gray=5).summary().channels == {"gray stored as RGB": 5}
    assert write_color(tmp_path / "color", colored=5, gray=0).summary().channels == {"color": 5}


def test_open_dataset_of_floats_from_0_to_1(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, values in enumerate(([0.0, 0.5], [0.0, 0.0])):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a" / f"{number}.tif")
    data = open_dataset(tmp_path)
    assert data.highest is None
    assert "floats from 0 to 1 read as black to white" in data.summary().line()
    assert [pixels.tolist() for pixels in data.all_pixels()] == [[[0, 128]], [[0, 0]]]


def test_open_dataset_of_two_kinds_of_floats_raises(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, values in enumerate(([0.0, 0.5], [0.0, 900.0])):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a" / f"{number}.tif")
    with pytest.raises(DataError, match="floats from 0 to 1 beside images of values up to 900"):
        open_dataset(tmp_path)
