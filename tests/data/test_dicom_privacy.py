"""No name, number, date or UID of a patient leaves a DICOM file: markers in all such attributes appear nowhere."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom.config
import pytest
from helpers.dicom_files import write_dicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset as Attributes

from medzoo.data import dicom
from medzoo.data.dataset import open_dataset
from medzoo.data.duplicates import image_groups
from medzoo.data.reading import Reading
from medzoo.data.splits import split_dataset
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.folds import join_parts

TEXT, UID, DATE, TIME = "ZZQ", "1.2.840.99887766", "19410723", "042424"
MARKERS = {
    **dict.fromkeys(("PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE"), TEXT),
    **{"UI": UID, "DA": DATE, "TM": TIME, "DT": DATE + TIME, "AS": "088Y"},
}
GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4008)
NOT_MARKED = {"SOPClassUID", "SpecificCharacterSet", "Manufacturer"}


def marked() -> dict[int, tuple[str, str]]:
    """Return every standard attribute of the groups that describe patients and studies, with its VR and a marker."""
    return {
        tag: (facts[0], MARKERS[facts[0]])
        for tag, facts in DicomDictionary.items()
        if tag >> 16 in GROUPS and facts[0] in MARKERS and facts[4] not in NOT_MARKED and "Retired" not in facts[3]
    }


def write_patient(path: Path, patient: int, *, seed: int, **more: object) -> Path:
    """Write an image with markers in all attributes that may identify someone, and in private ones."""
    pixels = np.random.default_rng(seed).integers(0, 1000, (3, 20, 20)).astype(np.uint16)
    write_dicom(path, pixels, **more)
    found = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for place in (found, inner := Attributes()):
            for tag, (kind, marker) in marked().items():
                place.add_new(tag, kind, marker)
            block = place.private_block(0x0011, f"{TEXT} CREATOR", create=True)
            block.add_new(1, "LO", f"{TEXT}PRIVATE")
            block.add_new(2, "UN", f"{TEXT}UNKNOWN ".encode())
        found.PatientID, found.PatientName = f"{TEXT}ID{patient}", f"{TEXT}NAME^{patient}"
        found.StudyInstanceUID = f"{UID}.{patient}"
        found.StudyDate = "ZZQ no date"
        found.BodyPartExamined = "CHEST" if patient % 2 else "HEAD"
        found.BurnedInAnnotation = "YES"
        found.RequestAttributesSequence = [inner]
        found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
        found.file_meta.SourceApplicationEntityTitle = TEXT
        found.save_as(path)
    return path


@pytest.fixture(scope="module")
def written_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six patients each, with two files of three frames each."""
    folder = tmp_path_factory.mktemp("written")
    for patient in range(12):
        for image in range(2):
            place = folder / ("ill", "well")[patient % 2] / f"{patient}-{image}.dcm"
            write_patient(place, patient, seed=patient * 2 + image)
    return folder


@pytest.fixture
def scans(written_scans: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return Path(shutil.copytree(written_scans, tmp_path / "scans"))


def leaks(data: bytes) -> list[str]:
    """Return the markers in what medzoo wrote, and plain hashes of patients' numbers."""
    numbers = [f"{TEXT}ID{patient}".encode() for patient in range(12)]
    hashes = [make(number).hexdigest()[:12] for number in numbers for make in (hashlib.md5, hashlib.sha256)]
    return [word for word in (TEXT, "99887766", DATE, TIME, "088Y", *hashes) if word.encode() in data]


def test_no_attribute_of_a_patient_is_written(
    medzoo: Callable, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(marked()) > 390
    assert leaks((scans / "ill" / "0-0.dcm").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "out" / "cache"))
    reading = ("--frames", "all", "--window", "500,1000", "--json")
    commands = [
        ("data", "check", "scans", "--out", "out/check", *reading),
        ("data", "split", "scans", "--out", "out/split", "--val", "0", "--train", "0.5", "--test", "0.5", *reading),
        ("data", "check", "scans", "--label-tag", "BodyPartExamined", "--out", "out/tags", "--json"),
        ("augment", "--gen", "classic", "--data", "scans", "--to", "16", "--out", "out/augmented", "--json"),
        ("evaluate", "--real", "scans", "--fake", "scans", "--metric", "ssim", "--out", "out/evaluated", "--json"),
        ("train", "dcgan", "--preset", "tiny", "--data", "scans", "--out", "out/gan", *reading[2:]),
        ("classify", "train", "cnn", "--preset", "tiny", "--data", "scans", "--out", "out/cnn", *reading[2:]),
        ("classify", "predict", "out/cnn", "--data", "scans/ill/0-0.dcm", "--out", "out/one.csv"),
        ("classify", "predict", "out/cnn", "--data", "scans", "--out", "out/all.csv"),
    ]
    for command in commands:
        answer = medzoo(*command)
        assert (command, answer.code) == (command, 0), answer.err
        assert (command, leaks((answer.out + answer.err).encode())) == (command, [])
    broken = scans / "ill" / "0-0.dcm"
    broken.write_bytes(broken.read_bytes()[:-900])
    answer = medzoo("classify", "predict", "out/cnn", "--data", broken, "--out", "out/none.csv", "--frames", "all")
    assert answer.code == 5
    assert "0-0.dcm cannot be read as DICOM: its pixels are damaged" in answer.err
    assert leaks(answer.err.encode()) == []
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert [(file.name, found) for file in written if (found := leaks(file.read_bytes()))] == []
    assert [file.name for file in written if file.suffix == ".dcm"] == []
    assert len(written) > 40
    assert json.loads((tmp_path / "out" / "gan" / "config.json").read_text())["config"]["image.window"] == "500,1000"
    rows = (tmp_path / "out" / "split" / "split.csv").read_text().splitlines()
    assert rows[0] == "file,label,patient,group,split,seed,fingerprint"
    assert rows[1].startswith("../../scans/ill/0-0.dcm#0001,ill,P0001,0,")
    answer = medzoo(
        "classify", "predict", "out/cnn", "--data", "scans/ill/2-0.dcm", "--out", "x.csv", "--window", "1,2"
    )
    assert answer.code == 2
    assert "'cnn' shows images with the window center 500, width 1000, but center 1, width 2 is given" in answer.err


def test_patients_keep_together_the_same_way_in_every_process(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": 0.5, "test": 0.5}
    found = []
    for salt in (b"1", b"2"):
        monkeypatch.setattr(dicom, "_SALT", salt)
        dicom._read_header.cache_clear()
        data = open_dataset(scans)
        assert data.patients is not None
        assert len(set(data.patients)) == 12
        assert data.patients[:3] == ("P0001", "P0001", "P0002")
        found.append((image_groups(data).tolist(), split_dataset(data, fractions=parts, seed=1)["test"].names, data))
    assert found[0][:2] == found[1][:2]
    assert found[0][2].patient_keys != found[1][2].patient_keys
    test = {name.split("-")[0] for name in found[0][1]}
    train = {name.split("-")[0] for name in split_dataset(found[1][2], fractions=parts, seed=1)["train"].names}
    assert not test & train


def test_patients_without_a_number_are_told_apart_by_study(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for place, (number, study) in enumerate(
        {"": "1.2.3", "ANONYMOUS": "1.2.4", "Anonymous": "1.2.3", "A": "1.2.4"}.items()
    ):
        write_dicom(tmp_path / "a" / f"{place}.dcm", pixels + place, PatientID=number, StudyInstanceUID=study)
    write_dicom(tmp_path / "b" / "cine.dcm", np.stack([pixels, pixels + 9]))
    write_dicom(tmp_path / "b" / "one.dcm", pixels + 5)
    data = open_dataset(tmp_path, reading=Reading(frames="all"))
    assert data.patients == ("P0001", "P0002", "P0001", "P0003", "P0004", "P0004", "")
    assert "patient unknown of 1 images" in data.summary().line()


@pytest.mark.parametrize(
    "tag",
    ["PatientID", "0010,0010", "StudyDate", "SOPInstanceUID", "AccessionNumber", "PatientComments", "0011,0010", "x"],
)
def test_label_tag_refuses_what_identifies_patients(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ConfigError, match="--label-tag cannot take"):
        open_dataset(tmp_path, reading=Reading(label_tag=tag))


def test_label_tag_gives_labels(scans: Path, logged: list[str]) -> None:
    write_dicom(scans / "bare.dcm", np.zeros((4, 4), np.uint8))
    data = open_dataset(scans, reading=Reading(label_tag="(0018,0015)"))
    assert data.counts() == {"CHEST": 12, "HEAD": 12}
    assert "labels by (0018,0015)" in logged[0]
    assert ("images without (0018,0015)", 1) in [(one.what, one.count) for one in data.findings.left_out]
    (scans / "ill").rename(scans / "train")
    (scans / "well").rename(scans / "test")
    with pytest.raises(DataError, match="class 'CHEST' in part test is not among the training images"):
        open_dataset(scans, reading=Reading(label_tag="BodyPartExamined"))
    with pytest.raises(DataError, match="has a value of Manufacturer"):
        open_dataset(scans, reading=Reading(label_tag="Manufacturer"))


def test_folders_of_patients_are_not_taken_for_classes_unsaid(tmp_path: Path) -> None:
    for patient in range(3):
        for image in range(2):
            pixels = np.full((4, 4), patient * 2 + image, np.uint8)
            write_dicom(tmp_path / f"p{patient}" / f"{image}.dcm", pixels, PatientID=f"id{patient}")
    warnings = open_dataset(tmp_path).summary().warnings
    assert any("are its folders patients?" in warning for warning in warnings)
    write_dicom(tmp_path / "p1" / "9.dcm", pixels, PatientID="7")
    assert not open_dataset(tmp_path).summary().warnings


def test_join_parts_knows_patients_of_sets_that_were_opened_apart(tmp_path: Path) -> None:
    cine = np.arange(2, dtype=np.uint8)[:, None, None] + np.full((2, 4, 4), 9, np.uint8)
    for place, number in (("one/1.dcm", "x1"), ("one/2.dcm", "x2"), ("two/2.dcm", "x2"), ("two/3.dcm", "x3")):
        write_dicom(tmp_path / Path(place).parent / "a" / Path(place).name, cine, PatientID=number)
    opened = [open_dataset(tmp_path / name, reading=Reading(frames="all")) for name in ("one", "two")]
    joined = join_parts(opened)
    assert joined.patients == ("P0001",) * 2 + ("P0002",) * 4 + ("P0003",) * 2
    assert [int(pixels[0, 0]) for pixels in joined.all_pixels()] == [9, 10] * 4


def test_pydicom_logs_nothing(scans: Path) -> None:
    open_dataset(scans)
    assert not logging.getLogger("pydicom").isEnabledFor(logging.CRITICAL)
