"""DICOM files as images: the picture that a viewer shows, of generated files and of pydicom's."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_files import SECONDARY_CAPTURE, sample_folders, write_dicom
from helpers.image_sets import write_folder
from pydicom.dataset import Dataset as Attributes
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medzoo.data import dicom
from medzoo.data.checks import check_dataset
from medzoo.data.dataset import open_dataset, open_unlabeled
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import decode, frames_of, no_picture, probe, volumes_of
from medzoo.data.reading import Reading, chosen
from medzoo.errors import ConfigError, DataError, MedzooError, UnknownName

TABLE = Path(__file__).with_name("dicom_files.csv")
RAMP = np.arange(0, 1600, 100, dtype=np.int16).reshape(4, 4)


def test_decode_every_file_of_pydicom() -> None:
    """Hold what is made of each file: the kind it is left out as, or size, mode, frames, bits, window and gray."""
    with TABLE.open(newline="") as file:
        expected = list(csv.DictReader(file))
    changed = []
    for row in expected:
        path = next(found for folder in sample_folders() if (found := folder / row["file"]).is_file())
        try:
            if what := no_picture(path):
                found = {"left_out": what}
            else:
                header, pixels = probe(path), decode(path)
                found = {
                    "size": f"{header.width}x{header.height}",
                    "mode": header.mode,
                    "frames": str(volumes_of(path)),
                    "bits": str(header.bits),
                    "window": header.window or "-",
                }
                gray = np.array([pixels.min(), pixels.max(), pixels.mean()])
                # Lossy codecs differ a little between versions.
                if np.abs(gray - np.array(row["min_max_mean"].split() or (999,) * 3, float)).max() > 1.0:
                    found["min_max_mean"] = str(gray)
        except MedzooError as error:
            found = {"left_out": error.message.replace(str(path), "FILE")}
        if any(row[key] != value for key, value in found.items()):
            changed.append((row, found))
    assert len(expected) > 140
    assert changed == []


# Gray


def shown(path: Path, window: str = "") -> list[int]:
    return decode(path, window=window).ravel().tolist()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_decode_applies_rescale_and_the_first_window(tmp_path: Path, dtype: type, syntax) -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": [0, 5], "WindowWidth": [2001, 10]}
    path = write_dicom(tmp_path / "a.dcm", RAMP.astype(dtype), syntax=syntax, **tags)
    expected = np.rint(np.clip((RAMP.ravel() * 2.0 - 1000 + 0.5) / 2000 + 0.5, 0, 1) * 255)
    assert shown(path) == expected.tolist()
    assert probe(path)[:3] == (4, 4, "L")
    assert (probe(path).bits, probe(path).window) == (16, "the file's")


def test_decode_inverts_monochrome1_and_blackens_padding(tmp_path: Path) -> None:
    pixels = np.array([[0, 50], [100, 2000]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=2000, WindowCenter=50.5, WindowWidth=101)
    assert shown(path) == [0, 128, 255, 0]
    path = write_dicom(
        tmp_path / "b.dcm",
        pixels,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=2000,
        WindowCenter=50.5,
        WindowWidth=101,
    )
    assert shown(path) == [255, 127, 0, 0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [("LINEAR_EXACT", [0, 0, 128, 255]), ("SIGMOID", [1, 5, 128, 250]), ("LINEAR", [0, 0, 130, 255])],
)
def test_decode_window_functions(tmp_path: Path, function: str, expected: list[int]) -> None:
    pixels = np.array([[-140, -100, 0, 100]], np.int16)
    path = write_dicom(tmp_path / "a.dcm", pixels, WindowCenter=0, WindowWidth=100, VOILUTFunction=function)
    found = shown(path)
    assert np.abs(np.array(found) - expected).max() <= 1
    assert found == sorted(found)


def lookup_table(first: int, entries: list[int], bits: int) -> list[Attributes]:
    item = Attributes()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = np.array(entries, "<u2").tobytes()
    item["LUTData"].VR = "OW"
    return [item]


def test_decode_applies_modality_and_voi_tables(tmp_path: Path) -> None:
    pixels = np.array([[0, 1, 2, 3]], np.uint8)
    modality = lookup_table(1, [10, 20], 16)
    path = write_dicom(tmp_path / "a.dcm", pixels, ModalityLUTSequence=modality, WindowCenter=15.5, WindowWidth=11)
    assert shown(path) == [0, 0, 255, 255]
    path = write_dicom(tmp_path / "b.dcm", pixels, VOILUTSequence=lookup_table(0, [0, 4095, 2000, 100], 12))
    assert shown(path) == [0, 255, 125, 6]


def test_decode_without_a_window(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "8.dcm", np.array([[3, 100, 200]], np.uint8))
    assert shown(plain) == [3, 100, 200]
    assert shown(plain, "percentile") == [0, 126, 255]
    signed = write_dicom(tmp_path / "signed.dcm", np.array([[-100, 0, 100]], np.int8))
    assert shown(signed) == [0, 128, 255]
    twelve = write_dicom(tmp_path / "12.dcm", RAMP.astype(np.uint16), BitsStored=12, HighBit=11)
    assert (shown(twelve)[0], shown(twelve)[-1]) == (0, 255)
    assert (probe(twelve).bits, probe(twelve).window) == (12, "percentile")


def test_decode_given_windows(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ct.dcm", np.array([[-2000, -600, 200]], np.int16), WindowCenter=0, WindowWidth=1)
    assert shown(path, "lung") == [0, 128, 255]
    assert shown(path, "-600,1500") == shown(path, "LUNG")
    other = write_dicom(tmp_path / "mr.dcm", RAMP, Modality="MR")
    with pytest.raises(DataError, match=r"mr\.dcm is MR, and the window 'lung' is one of CT"):
        decode(other, window="lung")
    for text in ("lungs", "1", "1,0", "1,-5", "1,nan", "1,2,3"):
        with pytest.raises(ConfigError, match=f"window cannot take '{text}'"):
            decode(path, window=text)


# Color, frames, geometry


def test_decode_color(tmp_path: Path) -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    path = write_dicom(tmp_path / "rgb.dcm", pixels, SOPClassUID=SECONDARY_CAPTURE)
    assert decode(path).tolist() == pixels.tolist()
    assert probe(path).mode == "RGB"
    planar = write_dicom(tmp_path / "planar.dcm", pixels, PlanarConfiguration=1)
    stored = pixels.transpose(2, 0, 1).tobytes()
    planar = write_dicom(tmp_path / "planar.dcm", pixels, PlanarConfiguration=1, PixelData=stored)
    assert decode(planar).tolist() == pixels.tolist()
    wide = write_dicom(tmp_path / "wide.dcm", pixels.astype(np.uint16) * 257)
    assert decode(wide).tolist() == pixels.tolist()
    strange = write_dicom(tmp_path / "cmyk.dcm", pixels, PhotometricInterpretation="CMYK")
    with pytest.raises(DataError, match="has the colors CMYK, which are not read"):
        probe(strange)


@pytest.mark.parametrize("wide", [False, True])
def test_decode_palettes(tmp_path: Path, wide: bool) -> None:
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color, entries in {"Red": [255, 0, 9], "Green": [0, 255, 9], "Blue": [1, 2, 9]}.items():
        tags[f"{color}PaletteColorLookupTableDescriptor"] = [3, 10, 16 if wide else 8]
        values = np.array(entries, "<u2") * 257 if wide else np.array([*entries, 0], np.uint8)
        tags[f"{color}PaletteColorLookupTableData"] = values.tobytes()
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 10, 11, 200]], np.uint8), **tags)
    assert decode(path).tolist() == [[[255, 0, 1], [255, 0, 1], [0, 255, 2], [9, 9, 9]]]


@pytest.mark.parametrize(
    ("tags", "size"),
    [
        ({"PixelSpacing": [2.0, 1.0]}, (4, 8)),
        ({"PixelSpacing": [0.5, 1.0]}, (8, 4)),
        ({"PixelAspectRatio": [3, 1]}, (4, 12)),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, (4, 4)),
        ({"PixelSpacing": [1.0, 1.0], "PixelAspectRatio": [3, 1]}, (4, 4)),
    ],
)
def test_decode_makes_pixels_square(tmp_path: Path, tags: dict[str, object], size: tuple[int, int]) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, **tags)
    assert probe(path)[:2] == size
    assert decode(path).shape == size[::-1]
    assert decode(path, depth=None).tolist() == RAMP.tolist()


def test_open_dataset_takes_frames_by_rule(tmp_path: Path) -> None:
    cine = np.arange(5, dtype=np.uint8)[:, None, None] * np.full((1, 6, 6), 50, np.uint8)
    write_dicom(tmp_path / "set" / "a" / "cine.dcm", cine)
    write_dicom(tmp_path / "set" / "b" / "one.dcm", cine[0])
    assert [chosen(5, rule) for rule in ("first", "middle", "every:2")] == [[0], [2], [0, 2, 4]]
    middle = open_dataset(tmp_path / "set")
    assert middle.names == ("a/cine.dcm#0003", "b/one.dcm")
    assert middle.pixels(0)[0, 0] == 100
    assert "DICOM files of several frames 1, frames taken: middle (--frames)" in middle.summary().line()
    every = open_dataset(tmp_path / "set", reading=Reading(frames="every:2"))
    assert every.names[:3] == ("a/cine.dcm#0001", "a/cine.dcm#0003", "a/cine.dcm#0005")
    assert [int(pixels[0, 0]) for pixels in every.all_pixels()] == [0, 100, 200, 0]
    table = tmp_path / "set" / "t.csv"
    table.write_text("file,label\na/cine.dcm#0005,x\nb/one,y\n")
    assert [int(pixels[0, 0]) for pixels in open_dataset(table).all_pixels()] == [200, 0]
    table.write_text("file,label\na/cine.dcm#0006,x\n")
    with pytest.raises(DataError, match="has no frame 0006"):
        open_dataset(table)
    with pytest.raises(ConfigError, match="--frames cannot take 'last'"):
        frames_of(tmp_path, Reading.of({"frames": "last"}))
    with pytest.raises(UnknownName, match="unknown key of `reading` 'frame'"):
        Reading.of({"frame": "all"})


# Folders


def test_open_dataset_with_other_images_and_files_without_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 1})
    write_dicom(tmp_path / "a" / "1.2.840.55", RAMP, WindowCenter=50, WindowWidth=400)
    write_dicom(tmp_path / "b" / "IM0001", RAMP)
    write_dicom(tmp_path / "b" / "report.dcm", None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    write_dicom(tmp_path / "b" / "seg", RAMP[:2] > 0, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    data = open_dataset(tmp_path)
    assert data.names == ("a/000.png", "a/001.png", "a/1.2.840.55", "b/000.png", "b/IM0001")
    summary = data.summary()
    assert {one.what: one.count for one in summary.findings.left_out} == {
        "masks": 1,
        "files without a picture (DICOM reports)": 1,
    }
    assert summary.windows == {"the file's": 1, "percentile": 1}
    assert summary.to_dict()["reading"]["frames"] == "middle"
    assert "gray window the file's 1 and percentile 1 (--window)" in summary.line()
    assert data.image_settings()["image.window"] == "file"
    assert check_dataset(data).kinds["DICOM L, 16 bit"] == 2
    lung = open_dataset(tmp_path, reading=Reading(window="lung"))
    assert lung.summary().windows == {"lung (center -600, width 1500)": 2}
    assert lung.fingerprints() == data.fingerprints()
    assert not np.array_equal(lung.pixels(2), data.pixels(2))


def test_open_dataset_says_that_text_is_burned_in(tmp_path: Path, logged: list[str]) -> None:
    write_dicom(tmp_path / "a" / "1.dcm", RAMP, BurnedInAnnotation="YES")
    write_dicom(tmp_path / "b" / "2.dcm", RAMP + 1, BurnedInAnnotation="NO")
    summary = open_dataset(tmp_path).summary()
    assert "1 image with text burned in by the DICOM header" in logged[0]
    assert (summary.burned_in, summary.notable, summary.to_dict()["burned_in"]) == (1, True, 1)


def test_open_unlabeled_dicom(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "IM1", RAMP)
    found = open_unlabeled(path, classes=("a",))
    assert found is not None
    assert found.names == ("IM1",)
    report = write_dicom(tmp_path / "sr.dcm", None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    with pytest.raises(DataError, match="is not an image: it is among the files without a picture"):
        open_unlabeled(report)


def test_dicom_files_that_are_broken(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a" / "1.dcm", RAMP)
    write_dicom(tmp_path / "b" / "2.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-8])
    data = open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"1\.dcm cannot be read as DICOM: its pixels are damaged"):
        data.verify()
    assert open_dataset(tmp_path, skip_bad=True).names == ("b/2.dcm",)
    path.write_bytes(b"no DICOM at all, whatever its name says" * 10)
    with pytest.raises(DataError, match=r"1\.dcm cannot be read as DICOM: its header is broken or incomplete"):
        open_dataset(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        open_dataset(tmp_path)


def test_dicom_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom(tmp_path / "a" / "1.dcm", RAMP)
    dicom.import_pydicom.cache_clear()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError) as error:
        open_dataset(tmp_path)
    assert str(error.value) == "reading DICOM files needs pydicom (pip install 'medzoo[dicom]')"


# Models


def test_a_model_reads_later_sets_with_its_window(tmp_path: Path, logged: list[str]) -> None:
    write_dicom(tmp_path / "a" / "1.dcm", RAMP)
    write_dicom(tmp_path / "b" / "2.dcm", RAMP + 1)
    data = open_dataset(tmp_path, log=False)
    lung = data.with_window("lung", whose="'ct'")
    assert lung.window == "lung"
    assert logged == [f"{tmp_path}: 'ct' shows DICOM and NIfTI images with the window lung (center -600, width 1500)"]
    assert lung.with_window("-600,1500", whose="'ct'").window == "-600,1500"
    with pytest.raises(ConfigError, match=r"'ct' shows images with the window brain .*, but lung .* is given"):
        lung.with_window("brain", whose="'ct'")
    png = open_dataset(write_folder(tmp_path / "png", {"a": 1}))
    assert png.with_window("lung", whose="'ct'") is png
    assert "image.window" not in png.image_settings()


def test_decoded_keeps_windows_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "cache"))
    write_dicom(tmp_path / "set" / "a" / "1.dcm", RAMP)
    data = open_dataset(tmp_path / "set")
    found = [Decoded(one, size=8, channels=1, crop="none") for one in (data, data.with_window("200,100", whose="it"))]
    assert found[0].fingerprints() == found[1].fingerprints() == data.fingerprints()
    assert not np.array_equal(found[0][:], found[1][:])
