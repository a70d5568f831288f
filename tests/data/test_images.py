"""Decoding, resizing and encoding of pixels."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise
from PIL import Image

from medzoo.data.images import (
    Header,
    decode,
    decode_all,
    probe,
)
from medzoo.errors import DataError


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3)])
def test_decode_lossless_formats(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    decoded = decode(save(tmp_path / f"a.{suffix}", pixels))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_decode_16_bit_scales_full_range(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257, 1000, 32768, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(save(tmp_path / f"a.{suffix}", values)), [[0, 0, 1, 1, 4, 128, 255]])
    # A dim image stays dim: stretching it would give gray levels up to 255.
    assert decode(save(tmp_path / f"b.{suffix}", values[:, :5])).max() == 4


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_decode_32_bit_integers_within_16_bit_range_only(tmp_path: Path, dtype: type) -> None:
    whole = save(tmp_path / "whole.tif", np.array([[0, 257, 65535]], dtype))
    np.testing.assert_array_equal(decode(whole), [[0, 1, 255]])
    for values in ([[0, 65536]], [[-1, 5]]):
        with pytest.raises(DataError, match=r"wide\.tif has pixel values that are fractions or outside"):
            decode(save(tmp_path / "wide.tif", np.array(values, dtype)))


def test_decode_float_pixels_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fractions") as caught:
        decode(save(tmp_path / "a.tif", np.array([[0.25, 1.0]], np.float32)))
    assert "8 or 16 bits" in caught.value.hint


def test_decode_palette_as_rgb(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), [[[10, 20, 30], [200, 100, 50]]])
    image.save(tmp_path / "b.png", transparency=1)
    np.testing.assert_array_equal(decode(tmp_path / "b.png"), [[[10, 20, 30], [0, 0, 0]]])
    # Several transparent entries make Pillow warn on a plain conversion.
    image.save(tmp_path / "c.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(decode(tmp_path / "c.png"), [[[0, 0, 0], [200, 100, 50]]])


def test_decode_alpha_on_black(tmp_path: Path) -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], np.uint8)
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", rgba)), [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]])
    gray = np.array([[[200, 255], [200, 0], [200, 51]]], np.uint8)
    np.testing.assert_array_equal(decode(save(tmp_path / "b.png", gray)), [[200, 0, 40]])


def test_decode_1_bit_and_cmyk(tmp_path: Path) -> None:
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", np.array([[True, False]]))), [[255, 0]])
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "b.jpg", quality=100)
    red = decode(tmp_path / "b.jpg")
    assert red.shape == (8, 8, 3)
    np.testing.assert_allclose(red[4, 4], [255, 0, 0], atol=3)


def test_decode_applies_exif_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    upright = decode(save(tmp_path / "a.jpg", pixels, exif=exif, quality=95))
    assert upright.shape == (16, 8)
    assert upright[:6].max() < 30
    assert upright[-6:].min() > 220


def test_probe_size_and_mode(tmp_path: Path) -> None:
    assert probe(save(tmp_path / "a.png", noise(5, 7, 3))) == Header(7, 5, "RGB")


# Files that cannot be used


def forged_png(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has next to no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("width", [10_001, 20_001, 2**31 - 1])
def test_decode_huge_image_raises_from_header(tmp_path: Path, width: int) -> None:
    with pytest.raises(DataError, match=r"a\.png has more than 100 megapixels"):
        decode(forged_png(tmp_path / "a.png", width, 10_000))


def test_probe_large_image_within_limit_does_not_warn(tmp_path: Path) -> None:
    # 95 megapixels: Pillow by itself warns of a decompression bomb from 89 on.
    assert probe(forged_png(tmp_path / "a.png", 9_500, 10_000))[0] == 9_500


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_decode_truncated_file_raises_with_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"cut.{suffix}", noise(64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"cut\.{suffix} cannot be read: ") as caught:
        decode(path)
    assert "--skip-bad" in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_decode_corrupt_bytes_succeed_or_raise_data_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = save(tmp_path / f"a.{['png', 'jpg', 'bmp', 'tif'][seed % 4]}", noise(32, 32, 3))
    content = bytearray(path.read_bytes())
    for position in rng.integers(0, len(content), 8):
        content[position] = int(rng.integers(256))
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert decode(path).dtype == np.uint8


def test_decode_empty_missing_and_foreign_files_raise(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    for name, message in (
        ("empty.png", "is empty \\(0 bytes\\)"),
        ("text.png", "cannot be read: it is not a PNG"),
        ("missing.png", "is not a file"),
        ("", "is not a file"),
    ):
        with pytest.raises(DataError, match=message):
            decode(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "tif", "gif"])
def test_decode_multiple_frames_raise(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    path = tmp_path / f"film.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"film.* holds several frames"):
        decode(path)


def test_decode_all_keeps_order_and_yields_errors(tmp_path: Path) -> None:
    images = [noise(6, 6, seed=seed) for seed in range(70)]
    paths = [save(tmp_path / f"{index}.png", pixels) for index, pixels in enumerate(images)]
    paths[66].write_bytes(b"broken")
    before = list(warnings.filters)
    for index, decoded in enumerate(decode_all(paths)):
        assert list(warnings.filters) == before
        if index == 66:
            assert isinstance(decoded, DataError)
        else:
            np.testing.assert_array_equal(decoded, images[index])
