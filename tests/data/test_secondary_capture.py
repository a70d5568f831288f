"""Synthetic images as DICOM: readable by pydicom, dcmdump and medzoo, deterministic, and of no patient."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise

from medzoo import identify
from medzoo.data.dataset import open_unlabeled
from medzoo.data.dicom import import_pydicom
from medzoo.data.images import decode, probe, write_image
from medzoo.data.marks import ALTERED, TRAINED, Mark, describe_mark, read_description
from medzoo.data.secondary_capture import encode_dicom, is_whole_dicom
from medzoo.errors import ConfigError

pydicom = pytest.importorskip("pydicom")

FACTS = {"generator": "ddpm-busi", "weights_sha256": "b" * 64, "seed": 11, "label": "Größe|b"}
MARK = Mark(source_type=TRAINED, **FACTS)


@pytest.mark.parametrize(("channels", "colors"), [(1, "MONOCHROME2"), (3, "RGB")])
def test_encode_dicom_is_a_secondary_capture(tmp_path: Path, channels: int, colors: str) -> None:
    pixels = noise(channels, 7, 5)  # an odd number of bytes
    path = tmp_path / "a.dcm"
    write_image(path, pixels, MARK)
    found = pydicom.dcmread(path)
    assert found.SOPClassUID == found.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID
    assert list(found.ImageType) == ["DERIVED", "SECONDARY"]
    assert (found.PhotometricInterpretation, found.ConversionType, found.BitsStored) == (colors, "SYN", 8)
    assert str(found.PatientName) == "Synthetic^Image"
    assert found.PatientID.startswith("SYNTHETIC-")
    [equipment] = found.ContributingEquipmentSequence
    assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("medzoo", "ddpm-busi")
    assert found.ImageComments == "Synthetic image: not of a patient, not for diagnosis"
    assert "Größe|b" in found.DerivationDescription
    shown = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(found.pixel_array, shown)
    np.testing.assert_array_equal(decode(path), shown)


def test_encode_dicom_depends_on_pixels_and_mark_alone() -> None:
    pixels = noise(1, 6, 6)
    data = encode_dicom(pixels, MARK)
    assert data == encode_dicom(pixels, MARK)
    others = [
        encode_dicom(255 - pixels, MARK),
        encode_dicom(pixels, Mark(source_type=TRAINED, **{**FACTS, "seed": 12})),
    ]
    found = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(each)) for each in (data, *others)]
    for uid in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert len({each[uid].value for each in found}) == 3
    uids = [found[0][uid].value for uid in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    assert len(set(uids)) == 3
    assert all(pydicom.uid.UID(uid).is_valid for uid in uids)
    assert not any(element.VR in ("DA", "TM", "DT") and element.value for element in found[0].iterall())


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmdump of DCMTK is not installed")
def test_encode_dicom_is_read_by_dcmdump(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", noise(3, 5, 5), MARK)
    done = subprocess.run(["dcmdump", tmp_path / "a.dcm"], capture_output=True, check=True)
    text = done.stdout.decode()
    assert not done.stderr
    assert "SecondaryCaptureImageStorage" in text
    assert "[Synthetic^Image]" in text
    assert "ContributingEquipmentSequence" in text


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="dcm2pnm of DCMTK is not installed")
def test_encode_dicom_is_shown_by_dcmtk(tmp_path: Path) -> None:
    for name, pixels in (("gray", noise(1, 9, 6)), ("color", noise(3, 9, 7))):
        write_image(tmp_path / f"{name}.dcm", pixels, MARK)
        subprocess.run(
            ["dcm2pnm", "+op", tmp_path / f"{name}.dcm", tmp_path / f"{name}.ppm"], capture_output=True, check=True
        )
        np.testing.assert_array_equal(decode(tmp_path / f"{name}.ppm"), decode(tmp_path / f"{name}.dcm"))


def test_dicom_is_identified(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", noise(1, 6, 6), MARK)
    write_image(tmp_path / "b.dcm", noise(1, 6, 6, seed=1), Mark(source_type=ALTERED, generator="classic", seed=1))
    found = identify(tmp_path)
    assert [each.verdict for each in found] == ["synthetic", "altered"]
    assert found[0].facts == {"program": "medzoo", **FACTS}
    assert found[0].marks == ("medzoo",)
    assert probe(tmp_path / "a.dcm").synthetic
    assert open_unlabeled(tmp_path).synthetic == {"a.dcm", "b.dcm"}


def test_real_dicom_has_no_mark(tmp_path: Path) -> None:
    found = pydicom.dcmread(pydicom.filebase.DicomBytesIO(encode_dicom(noise(1, 6, 6), MARK)))
    found.DerivationDescription = "Lossy compression by {another} program"
    found.save_as(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(b"x")
    assert [each.verdict for each in identify(tmp_path)] == ["no mark", "unreadable"]


def test_read_description() -> None:
    assert read_description(describe_mark(MARK)).facts == {"program": "medzoo", **FACTS}
    for text in ("", "made by medzoo", "made by medzoo {1}", 'made by medzoo {"source": 1}'):
        assert not read_description(text).marks


def test_is_whole_dicom() -> None:
    data = encode_dicom(noise(3, 7, 5), MARK)
    assert is_whole_dicom(data)
    assert not is_whole_dicom(data[:-40])
    assert not is_whole_dicom(b"x")


def test_encode_dicom_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    import_pydicom.cache_clear()
    with pytest.raises(ConfigError, match="writing DICOM files needs pydicom") as caught:
        encode_dicom(noise(1, 6, 6), MARK)
    assert caught.value.hint == "pip install 'medzoo[dicom]'"
