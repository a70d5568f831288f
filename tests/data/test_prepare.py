"""Cropping, resizing and writing of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise

from medzoo.data.images import decode, encode_png, write_image
from medzoo.data.pixels import contact_sheet, grid, prepare, to_float, to_uint8
from medzoo.errors import ConfigError, DataError

# Preparing


def test_prepare_matching_image_is_unchanged() -> None:
    pixels = noise(16, 16)
    for crop in ("none", "center"):
        np.testing.assert_array_equal(prepare(pixels, size=16, channels=1, crop=crop)[0], pixels)


def test_prepare_antialiases_when_downscaling() -> None:
    # Stripes of one pixel are finer than the small image can show: their mean is left. Point sampling gives 0 or 255.
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    small = prepare(stripes, size=16, channels=1, crop="none")[0]
    np.testing.assert_allclose(small[:, 1:-1], 127.5, atol=1)


def test_prepare_downscaling_keeps_low_frequencies() -> None:
    # One period of a cosine over 256 pixels, averaged over 16 pixels a sample by the bicubic kernel.
    wave = 127.5 + 100 * np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256)
    small = prepare(np.tile(np.rint(wave).astype(np.uint8), (256, 1)), size=16, channels=1, crop="none")[0]
    expected = 127.5 + 100 * np.cos(2 * np.pi * (np.arange(16) + 0.5) / 16)
    np.testing.assert_allclose(small[8, 2:-2], expected[2:-2], atol=3)


def test_prepare_center_crop() -> None:
    pixels = noise(10, 16)
    np.testing.assert_array_equal(prepare(pixels, size=10, channels=1, crop="center")[0], pixels[:, 3:13])
    np.testing.assert_array_equal(prepare(pixels.T, size=10, channels=1, crop="center")[0], pixels[:, 3:13].T)


def test_prepare_crop_none_ignores_aspect_ratio() -> None:
    pixels = np.zeros((8, 32), np.uint8)
    pixels[:, 16:] = 200
    small = prepare(pixels, size=8, channels=1, crop="none")[0]
    assert small[:, :3].max() < 20
    assert small[:, 5:].min() > 180


@pytest.mark.parametrize("turned", [False, True])
def test_prepare_pad_keeps_the_aspect_on_black(turned: bool) -> None:
    pixels = np.full((6, 12), 200, np.uint8)
    pixels[:, :3] = 100
    shown = prepare(pixels.T if turned else pixels, size=12, channels=1, crop="pad")[0]
    shown = shown.T if turned else shown
    np.testing.assert_array_equal(shown[3:9], pixels)
    assert shown[:3].max() == shown[9:].max() == 0
    # The smaller side is odd by one, and the larger one resized.
    color = prepare(np.full((97, 130, 3), 255, np.uint8), size=65, channels=3, crop="pad")
    assert color[:, 32].min() == 255
    assert [int(count) for count in (color[0] > 127).sum(axis=0)] == [49] * 65


def test_prepare_dark_border_crops_disc_to_square() -> None:
    rows, columns = np.mgrid[:240, :400]
    retina = np.where((rows - 120) ** 2 + (columns - 250) ** 2 < 90**2, 180, 4).astype(np.uint8)
    retina[5, 7] = 255  # a hot pixel is not the retina
    found = prepare(np.stack([retina] * 3, axis=2), size=90, channels=3, crop="dark-border")
    assert found.shape == (3, 90, 90)
    # A disc fills pi/4 of its box and touches all four sides.
    assert (found[0] > 100).mean() == pytest.approx(np.pi / 4, abs=0.01)
    assert min(found[0, 1, 45], found[0, -2, 45], found[0, 45, 1], found[0, 45, -2]) > 100


def test_prepare_dark_border_pads_cut_disc() -> None:
    pixels = np.full((40, 80), 200, np.uint8)
    wide = prepare(pixels, size=80, channels=1, crop="dark-border")[0]
    np.testing.assert_array_equal(wide[20:60], pixels)
    assert wide[:20].max() == wide[60:].max() == 0


def test_prepare_dark_border_black_image() -> None:
    assert prepare(np.zeros((20, 30), np.uint8), size=8, channels=1, crop="dark-border").max() == 0


def test_prepare_channel_conversion() -> None:
    gray = noise(4, 4)
    np.testing.assert_array_equal(prepare(gray, size=4, channels=3, crop="none"), np.stack([gray] * 3))
    color = noise(4, 4, 3)
    luma = color @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(prepare(color, size=4, channels=1, crop="none")[0], luma, atol=0.51)


def test_prepare_invalid_arguments_raise() -> None:
    with pytest.raises(ConfigError, match="unknown crop 'square'"):
        prepare(noise(4, 4), size=4, channels=1, crop="square")
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        prepare(noise(4, 4), size=4, channels=2, crop="none")
    for wrong in (noise(4, 4, 4), np.zeros((4, 4), np.float32)):
        with pytest.raises(DataError, match="expected uint8 pixels"):
            prepare(wrong, size=4, channels=1, crop="none")


# Floats


def test_to_uint8_clips_scales_and_rounds() -> None:
    values = np.array([-1, 0, 0.4 / 255, 0.6 / 255, 0.5, 254.4 / 255, 1, 7], np.float32)
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 128, 254, 255, 255])


def test_to_float_round_trip() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = to_float(pixels)
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (0, 1)
    np.testing.assert_array_equal(to_uint8(floats), pixels)


def test_to_uint8_accepts_tensors() -> None:
    torch = pytest.importorskip("torch")
    images = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    np.testing.assert_array_equal(to_uint8(images), [[[[0, 255]]]])
    np.testing.assert_array_equal(to_uint8(images.to(torch.bfloat16)), [[[[0, 255]]]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_to_uint8_non_finite_raises(bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        to_uint8(np.array([0.5, bad], np.float32))


# Writing


@pytest.mark.parametrize("channels", [1, 3])
def test_encode_png_is_deterministic_and_lossless(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels, 11, 7)
    assert encode_png(pixels) == encode_png(pixels.copy(order="F"))
    write_image(tmp_path / "new" / "a.png", pixels)
    decoded = decode(tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(decoded, pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))


def test_encode_png_invalid_pixels_raise() -> None:
    for wrong in (noise(4, 4), noise(2, 4, 4), np.zeros((1, 4, 4), np.float32)):
        with pytest.raises(DataError, match="expected uint8 pixels"):
            encode_png(wrong)


# Sheets


def test_grid_places_images_row_by_row() -> None:
    images = np.stack([np.full((1, 4, 4), value, np.uint8) for value in (10, 60, 110)])
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (3, 11, 11)
    assert sheet[0, 2, 2] == 10
    assert sheet[0, 2, 7] == 60
    assert sheet[0, 7, 2] == 110
    assert sheet[0, 7, 7] > 200  # nothing there: the light ground


def test_contact_sheet_labels_rows_and_scales_pixels() -> None:
    images = noise(3, 3, 20, 20)
    named = contact_sheet([("normal", images), ("ill", images[:1])], columns=3, scale=2)
    margin = named.shape[2] - 3 * 42 - 2
    assert margin > 40
    assert named.shape[1] == 2 * 42 + 2
    assert named[:, :42, :margin].min() < 60  # dark text
    np.testing.assert_array_equal(named[:, 2:42:2, margin + 2 : margin + 42 : 2], images[0])
    np.testing.assert_array_equal(named[:, 3:43:2, margin + 3 : margin + 43 : 2][:, :20, :20], images[0])


def test_contact_sheet_small_images_leave_room_for_labels() -> None:
    sheet = contact_sheet([("two\nlines", noise(1, 1, 8, 8)), ("x", noise(1, 1, 8, 8))], columns=1)
    assert sheet.shape[1] > 40


def test_contact_sheet_empty_raises() -> None:
    with pytest.raises(DataError, match="at least one row"):
        contact_sheet([], columns=2)
