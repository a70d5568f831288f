"""Decoding, resizing and encoding of pixels."""

from __future__ import annotations

import contextlib
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.image_sets import noise
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from medzoo.data import images
from medzoo.data.dataset import open_dataset
from medzoo.data.images import Header, decode, decode_all, depth_of, highest_values, probe
from medzoo.errors import DataError, ResourceError


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


def test_decode_floats_from_0_to_1(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.array([[0, 0.25, 1.0]], np.float32))
    np.testing.assert_array_equal(decode(path, depth=12), [[0, 64, 255]])
    np.testing.assert_array_equal(decode(path, depth=None), [[0, 16384, 65535]])
    assert list(highest_values([path])) == [-1]


@pytest.mark.parametrize("values", [[0.25, 1.01], [-0.1, 0.5], [0.5, np.nan]])
def test_decode_other_floats_raise(tmp_path: Path, values: list[float]) -> None:
    with pytest.raises(DataError, match="fractions") as caught:
        decode(save(tmp_path / "a.tif", np.array([values], np.float32)))
    assert "8 or 16 bits per pixel, or as floats from 0 to 1" in caught.value.hint


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


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def save_16_bit_color(path: Path, pixels: np.ndarray) -> Path:
    """Write uint16 (H, W, 3) as PNG or TIFF, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    if path.suffix == ".png":
        lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*each) for each in chunks))
        return path
    data = pixels.astype("<u2").tobytes() + struct.pack("<HHH", 16, 16, 16)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + len(data) - 6), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data) - 6)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode_16_bit_color_by_its_upper_8_bits(tmp_path: Path, suffix: str) -> None:
    shown = noise(5, 4, 3)
    path = save_16_bit_color(tmp_path / f"a{suffix}", shown.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(path), shown)
    header = probe(path)
    assert header == Header(4, 5, "RGB;16")
    assert (header.bits, header.reduced, header.gray) == (16, True, False)


def test_open_dataset_of_16_bit_color(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    save_16_bit_color(tmp_path / "a" / "0.png", noise(5, 4, 3).astype(np.uint16) * 257)
    summary = open_dataset(tmp_path).summary()
    assert summary.bits == {16: 1}
    assert "of the 16 bits of color the upper 8 read" in summary.line()


def test_open_dataset_of_12_bit_color_raises(tmp_path: Path) -> None:
    """Its pictures would be all but black."""
    (tmp_path / "a").mkdir()
    save_16_bit_color(tmp_path / "a" / "0.png", noise(5, 4, 3).astype(np.uint16) * 16)
    with pytest.raises(DataError, match="color images of 16 bits a channel that use 12 of them") as caught:
        open_dataset(tmp_path)
    assert "8 bits a channel, scaled to their whole range" in caught.value.hint


def test_probe_size_and_mode(tmp_path: Path) -> None:
    assert probe(save(tmp_path / "a.png", noise(5, 7, 3))) == Header(7, 5, "RGB")


# Files that cannot be used


def forged_png(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has next to no pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b""))
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


def test_decode_scales_from_the_depth(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2048, 4095]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", depth=12), [[0, 0, 128, 255]])
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", depth=16), [[0, 0, 8, 16]])


def test_decode_32_bit_from_8_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 255]], np.int32)).save(tmp_path / "wide.tif")
    np.testing.assert_array_equal(decode(tmp_path / "wide.tif", depth=8), [[0, 7, 255]])


def test_decode_values_above_the_depth_raise(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 5000]], np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has values up to 5000, more than the 12 bits") as caught:
        decode(tmp_path / "deep.png", depth=12)
    assert caught.value.hint == "--set image.depth=14"


@pytest.mark.parametrize(("highest", "bits"), [(0, 8), (255, 8), (256, 10), (1023, 10), (4000, 12), (32767, 15)])
def test_depth_of(highest: int, bits: int) -> None:
    assert depth_of(highest) == bits


def test_highest_values(tmp_path: Path) -> None:
    Image.fromarray(np.array([[3, 900]], np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[3, 200]], np.int32)).save(tmp_path / "b.tif")
    assert list(highest_values([tmp_path / "a.png", tmp_path / "b.tif"])) == [900, 200]


@pytest.mark.parametrize("bits", [8, 16])
def test_decode_white_is_zero_is_inverted(tmp_path: Path, bits: int) -> None:
    shown = np.array([[0, 64, 255]], np.uint8)
    stored = (255 - shown) if bits == 8 else (65535 - shown.astype("<u2") * 257)
    (tmp_path / "film.tif").write_bytes(white_is_zero_tiff(stored, bits=bits))
    np.testing.assert_array_equal(decode(tmp_path / "film.tif"), shown)


def white_is_zero_tiff(stored: np.ndarray, *, bits: int) -> bytes:
    """Encode (H, W) as a TIFF of PhotometricInterpretation 0, which Pillow does not write."""
    height, width = stored.shape
    data = stored.tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0), (273, 8), (277, 1), (278, height)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(data))]]
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)


def test_decode_camera_file_with_a_second_picture(tmp_path: Path) -> None:
    first, second = (Image.fromarray(noise(32, 32, seed=seed)) for seed in range(2))
    first.save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    with Image.open(tmp_path / "camera.jpg") as image:
        assert image.format == "MPO"
    first.save(tmp_path / "first.jpg", quality=95)
    np.testing.assert_array_equal(decode(tmp_path / "camera.jpg"), decode(tmp_path / "first.jpg"))


def test_decode_tiff_with_a_reduced_copy(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(32, 32, seed=0))
    copy = picture.resize((8, 8))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(tmp_path / "slide.tif", save_all=True, append_images=[copy])
    np.testing.assert_array_equal(decode(tmp_path / "slide.tif"), np.asarray(picture))


@pytest.mark.parametrize(("limit", "at_once"), [(500, 1), (900, 2), (10_000, 6)])
def test_decode_all_few_large_images_at_once(tmp_path, monkeypatch, limit, at_once):
    files = [tmp_path / f"{index}.png" for index in range(6)]
    for file in files:
        Image.fromarray(noise(20, 20)).save(file)
    monkeypatch.setattr(images, "MAX_PIXELS", limit)
    monkeypatch.setattr(images.os, "cpu_count", lambda: 8)
    decode_one, together, active = images._decode, threading.Barrier(at_once), []

    def watched(path: Path, frame: str, **how: Any) -> np.ndarray:
        active.append(path)
        together.wait(timeout=60)  # breaks if fewer than `at_once` are decoded together
        assert len(active) <= at_once
        pixels = decode_one(path, frame, **how)
        together.wait(timeout=60)
        active.remove(path)
        return pixels

    monkeypatch.setattr(images, "_decode", watched)
    assert [found.shape for found in images.decode_all(files)] == [(20, 20)] * 6


def test_decode_out_of_memory(tmp_path, monkeypatch):
    def full(self: Image.Image) -> None:
        raise MemoryError

    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImageFile, "load", full)
    with pytest.raises(ResourceError, match=r"out of memory reading .*a\.png, 30 x 20 pixels"):
        decode(tmp_path / "a.png")
