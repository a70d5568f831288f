"""Marks in files: written deterministically behind a PNG's header, read from files of any program."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise
from PIL import Image, PngImagePlugin

from medzoo.data.images import encode_png
from medzoo.data.marks import ALTERED, EDITED, TRAINED, FoundMarks, Mark, is_marked, read_marks, with_mark
from medzoo.data.synthetic import has_synthetic_mark

MARK = Mark(source_type=EDITED, generator="ddpm-x@0.3", weights_sha256="a" * 64, seed=7, label="Ödem|b", strength=0.3)
FACTS = {"generator": "ddpm-x@0.3", "weights_sha256": "a" * 64, "seed": 7, "label": "Ödem|b", "strength": 0.3}
PIXELS = noise(9, 7)[None]


def read(data: bytes | Path) -> FoundMarks:
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        return read_marks(image)


def test_with_mark_leaves_the_pixels() -> None:
    bare, marked = encode_png(PIXELS), encode_png(PIXELS, MARK)
    assert marked == with_mark(bare, MARK) == encode_png(PIXELS, MARK)
    assert marked[:33] == bare[:33]
    assert marked.endswith(bare[33:])
    with Image.open(io.BytesIO(marked)) as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS[0])
    assert is_marked(marked, MARK)
    assert not is_marked(bare, MARK)
    assert not is_marked(marked, Mark(source_type=TRAINED))


def test_read_marks_returns_what_was_written() -> None:
    found = read(encode_png(PIXELS, MARK))
    assert found == FoundMarks(source_type=EDITED, marks=("XMP", "medzoo"), facts={"program": "medzoo", **FACTS})
    assert found.synthetic
    assert not found.altered


def test_mark_of_an_altered_image_is_not_synthetic() -> None:
    data = encode_png(PIXELS, Mark(source_type=ALTERED, generator="classic", seed=1, label="a"))
    found = read(data)
    assert found.altered
    assert not found.synthetic
    with Image.open(io.BytesIO(data)) as image:
        assert has_synthetic_mark(image)  # it must not test a model trained on its source


def test_altered_images_of_other_programs_count_as_real() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", f"http://cv.iptc.org/newscodes/digitalsourcetype/{ALTERED}")
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG", pnginfo=text)
    with Image.open(buffer) as image:
        assert read_marks(image).altered
        assert not has_synthetic_mark(image)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_marks_are_read_by_exiftool(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(PIXELS, MARK))
    done = subprocess.run(["exiftool", "-j", "-G1", tmp_path / "a.png"], capture_output=True, check=True)
    [found] = json.loads(done.stdout)
    assert found["XMP-iptcExt:DigitalSourceType"].endswith(f"/{EDITED}")
    assert json.loads(found["PNG:Medzoo"]) == {"source_type": EDITED, **FACTS}
    assert not any("Warning" in key for key in found)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_read_marks_of_xmp_in_other_formats(tmp_path: Path, suffix: str) -> None:
    with Image.open(io.BytesIO(encode_png(PIXELS, MARK))) as image:
        packet = image.info["XML:com.adobe.xmp"].encode()
    path = tmp_path / f"a.{suffix}"
    options = {"tiffinfo": {700: packet}} if suffix == "tif" else {"xmp": packet}
    Image.fromarray(PIXELS[0]).save(path, **options)
    assert read(path) == FoundMarks(source_type=EDITED, marks=("XMP",), facts={"program": "medzoo"})


def png_with_manifest(term: str) -> bytes:
    """A PNG with a chunk like that of a C2PA manifest, whose CBOR puts a letter behind the term."""
    info = PngImagePlugin.PngInfo()
    uri = f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}".encode()
    info.add(b"caBX", b"jumbdigitalSourceType\x78" + bytes([len(uri)]) + uri + b"mnext")
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_read_marks_of_c2pa_in_png() -> None:
    assert read(png_with_manifest(TRAINED)) == FoundMarks(source_type=TRAINED, marks=("C2PA",))
    assert read(png_with_manifest("digitalCapture")) == FoundMarks()


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "ascii"])
def test_read_marks_of_settings_in_exif(tmp_path: Path, encoding: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a lesion\nSteps: 20, Sampler: Euler a, Seed: 1".encode(encoding)
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.jpg", exif=exif)
    found = read(tmp_path / "a.jpg")
    assert (found.source_type, found.marks) == (TRAINED, ("settings",))
    assert found.facts == {"program": "Stable Diffusion web UI"}


def test_read_marks_of_a_camera() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture")
    text.add_text("medzoo", "not JSON")
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG", pnginfo=text)
    found = read(buffer.getvalue())
    assert found == FoundMarks(source_type="digitalCapture", marks=("XMP",))
    assert not found.synthetic
    assert not found.altered
