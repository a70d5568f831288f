"""Everyday images as other programs write them: libjpeg, libtiff, libwebp, OpenJPEG, gifsicle and ExifTool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzoo.data.dataset import open_dataset
from medzoo.data.images import decode, probe
from medzoo.errors import DataError

ROWS, COLUMNS = np.mgrid[0:24, 0:40]
GRAY = (COLUMNS * 6).astype(np.uint8)
COLOR = np.stack([COLUMNS * 6, ROWS * 10, COLUMNS + ROWS], axis=2).astype(np.uint8)


@pytest.fixture
def run(tmp_path: Path):
    """Run a program in a folder with source.ppm, source.pgm, color.tif and gray.tif; skip where there is none."""
    Image.fromarray(COLOR).save(tmp_path / "source.ppm")
    Image.fromarray(GRAY).save(tmp_path / "source.pgm")
    Image.fromarray(COLOR).save(tmp_path / "color.tif")
    Image.fromarray(GRAY).save(tmp_path / "gray.tif")

    def call(command: str, *, out: str = "") -> Path:
        program, *words = command.split()
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, check=True)
        if out:
            (tmp_path / out).write_bytes(done.stdout)
        return tmp_path / (out or words[-1])

    return call


def check_shows(path: Path, expected: np.ndarray, *, within: float = 0.0) -> None:
    """Check that a file shows these pixels, within a mean difference of gray levels."""
    found = decode(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() <= within


@pytest.mark.parametrize("options", ["", "-progressive", "-arithmetic", "-rgb", "-sample 2x2"])
def test_decode_jpeg_of_libjpeg(run, options: str) -> None:
    check_shows(run(f"cjpeg -quality 97 {options} source.ppm", out="a.JPG"), COLOR, within=2)


def test_decode_gray_jpeg_of_libjpeg(run) -> None:
    check_shows(run("cjpeg -quality 97 -grayscale source.pgm", out="a.jpe"), GRAY, within=2)


@pytest.mark.parametrize("options", ["-c lzw", "-c zip -p separate", "-c zip -t -w 16 -l 16", "-c packbits", "-B"])
def test_decode_tiff_of_libtiff(run, options: str) -> None:
    check_shows(run(f"tiffcp {options} color.tif out.TIF"), COLOR)
    check_shows(run(f"tiffcp {options} gray.tif out.TIF"), GRAY)


def test_decode_tiff_of_several_pages_raises(run) -> None:
    with pytest.raises(DataError, match="several frames"):
        decode(run("tiffcp color.tif gray.tif pages.tif"))


@pytest.mark.parametrize(("options", "within"), [("-lossless", 0), ("-q 95", 4)])
def test_decode_webp(run, options: str, within: float) -> None:
    check_shows(run(f"cwebp -quiet {options} source.ppm -o a.webp"), COLOR, within=within)


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_decode_jpeg_2000(run, suffix: str) -> None:
    check_shows(run(f"opj_compress -n 2 -i source.ppm -o a.{suffix}"), COLOR)
    check_shows(run(f"opj_compress -n 2 -i source.pgm -o b.{suffix}"), GRAY)


def test_decode_jpeg_2000_of_12_bits(run, tmp_path: Path) -> None:
    """It states its bits, so it is scaled from them."""
    (tmp_path / "deep.pgm").write_bytes(b"P5\n40 24\n4095\n" + (COLUMNS * 100).astype(">u2").tobytes())
    path = run("opj_compress -n 2 -i deep.pgm -o deep.jp2")
    assert probe(path).bits == 16
    check_shows(path, np.rint(COLUMNS * 100 / 4095 * 255), within=0.6)
    check_shows(tmp_path / "deep.pgm", np.rint(COLUMNS * 100 / 4095 * 255), within=0.6)


def test_decode_gif_of_gifsicle(run, tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "in.gif")
    path = run("gifsicle -O3 in.gif -o out.gif")
    check_shows(path, np.stack([GRAY] * 3, axis=2))
    with pytest.raises(DataError, match="several frames"):
        decode(run("gifsicle --delay 9 in.gif out.gif -o moving.gif"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, COLOR[::-1, ::-1]), (6, np.rot90(COLOR, -1))])
def test_decode_turns_by_exif_of_exiftool(run, tmp_path: Path, suffix: str, orientation: int, turned) -> None:
    Image.fromarray(COLOR).save(
        tmp_path / f"a.{suffix}", **({"quality": 97} if suffix == "jpg" else {"lossless": True})
    )
    check_shows(run(f"exiftool -q -n -Orientation={orientation} a.{suffix}"), turned, within=2)


def test_open_dataset_of_many_formats(run, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    for name in ("a.PGM", "b.webp", "c.JPEG", "d.jfif", "e.gif", "f.Tif", "g.bmp"):
        formats = {".jfif": "JPEG", ".PGM": "PPM"}
        Image.fromarray(GRAY).save(folder / name, format=formats.get(Path(name).suffix))
    assert len(open_dataset(tmp_path / "set")) == 7
