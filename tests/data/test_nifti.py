"""NIfTI volumes as images: slices as a radiologist sees them, of generated files and of nibabel's."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.image_sets import write_folder

from medzoo.data import nifti
from medzoo.data.dataset import open_dataset
from medzoo.data.duplicates import image_groups
from medzoo.data.images import decode, no_picture, probe
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError

SAMPLES = Path(nibabel.__file__).parent / "tests" / "data"


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def volume(seed: int = 0) -> np.ndarray:
    """Return an int16 volume (6, 8, 10) that tells its axes and directions apart."""
    x, y, z = np.meshgrid(np.arange(6), np.arange(8), np.arange(10), indexing="ij")
    return (x * 100 + y * 10 + z + seed).astype(np.int16)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_decode_shows_slices_the_same_whatever_the_orientation(tmp_path: Path, signs: tuple[int, ...]) -> None:
    data = volume()[tuple(slice(None, None, sign) for sign in signs)]
    path = save(tmp_path / "v.nii.gz", np.ascontiguousarray(data), np.diag([*signs, 1]).astype(float))
    axial = decode(path, frame="axial-0009", depth=None)
    # Anterior is at the top, superior at the top, and the patient's right at the left.
    assert axial.shape == (8, 6)
    assert (axial[0, 0], axial[-1, -1]) == (579, 9)
    coronal = decode(path, frame="coronal-0007", depth=None)
    assert (coronal.shape, coronal[0, 0], coronal[-1, -1]) == ((10, 6), 579, 70)
    sagittal = decode(path, frame="sagittal-0005", depth=None)
    assert (sagittal.shape, sagittal[0, 0], sagittal[-1, -1]) == ((10, 8), 579, 500)


def test_decode_windows_by_the_whole_volume_and_makes_voxels_square(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", volume(), np.diag([1.0, 1.0, 3.0, 1.0]))
    low, high = np.percentile(volume(), (0.5, 99.5))
    expected = np.rint(np.clip((volume()[::-1, ::-1, 4].T - low) / (high - low), 0, 1) * 255)
    assert np.abs(decode(path, frame="axial-0004") - expected).max() <= 1
    assert decode(path, frame="coronal-0000").shape == (30, 6)
    assert probe(path, "coronal-0000")[:3] == (6, 30, "L")
    assert decode(path, frame="axial-0004", window="5000,10")[0, 0] == 0
    with pytest.raises(DataError, match="has no axial slice 10"):
        decode(path, frame="axial-0010")
    with pytest.raises(DataError, match="has no slice 'oblique-1'"):
        decode(path, frame="oblique-1")


def test_open_dataset_takes_slices_by_rule(tmp_path: Path, logged: list[str]) -> None:
    data = volume()
    data[:, :, [0, 1, 8, 9]] = 0
    save(tmp_path / "a" / "sub-01_T1w.nii.gz", data)
    save(tmp_path / "b" / "sub-01_T2w.nii", volume(3))
    save(tmp_path / "b" / "other.nii", np.stack([volume(7)] * 2, axis=-1))
    found = open_dataset(tmp_path)
    assert found.names == ("a/sub-01_T1w.nii.gz#axial-0005", "b/other.nii#axial-0005", "b/sub-01_T2w.nii#axial-0005")
    assert found.patients == ("P0001", "P0002", "P0001")
    assert "3 images of 2 classes (a 1, b 2); no parts; 2 patients by their NIfTI files; gray, 16 bit" in logged[0]
    assert "gray window percentile (--window)" in logged[0]
    assert "axial slices taken: middle (--plane, --slices); NIfTI files of several volumes 1" in logged[0]
    filled = open_dataset(tmp_path, reading=Reading(slices="nonempty"))
    assert [name[-4:] for name in filled.names[:6]] == ["0002", "0003", "0004", "0005", "0006", "0007"]
    assert len(set(image_groups(filled)[: filled.names.index("b/other.nii#axial-0000")].tolist())) == 1
    every = open_dataset(tmp_path, reading=Reading(plane="sagittal", slices="every:3"))
    assert every.names[:2] == ("a/sub-01_T1w.nii.gz#sagittal-0000", "a/sub-01_T1w.nii.gz#sagittal-0003")
    table = tmp_path / "t.csv"
    table.write_text("file,label\na/sub-01_T1w.nii.gz#sagittal-0003,x\nb/other,y\n")
    assert open_dataset(table).names == ("a/sub-01_T1w.nii.gz#sagittal-0003", "b/other#axial-0005")
    with pytest.raises(ConfigError, match="--plane cannot take 'oblique'"):
        open_dataset(tmp_path, reading=Reading(plane="oblique"))


def test_open_dataset_leaves_out_label_maps(tmp_path: Path) -> None:
    save(tmp_path / "a" / "scan.nii", volume())
    save(tmp_path / "a" / "labels.nii", (volume() % 4).astype(np.uint8))
    save(tmp_path / "b" / "case.nii.gz", volume(5))
    save(tmp_path / "b" / "case_seg.nii.gz", volume(6))
    data = open_dataset(tmp_path)
    assert data.names == ("a/scan.nii#axial-0005", "b/case.nii.gz#axial-0005")
    assert [(one.what, one.count) for one in data.findings.left_out] == [("masks", 2)]
    with pytest.raises(DataError, match="holds 2 masks"):
        open_dataset(tmp_path, masks="refuse")
    assert len(open_dataset(tmp_path, masks="as-images")) == 4


def test_mixed_formats_group_images_of_unknown_patients_by_duplicates(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 2})
    copy = root / "a" / "copy.png"
    copy.write_bytes((root / "a" / "000.png").read_bytes())
    save(root / "a" / "v.nii", volume())
    data = open_dataset(root, reading=Reading(slices="every:5"))
    assert data.patients == ("", "", "", "P0001", "P0001")
    groups = image_groups(data).tolist()
    assert groups[0] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


def test_decode_files_of_nibabel() -> None:
    found = {}
    for path in sorted(SAMPLES.glob("*.nii*")):
        found[path.name] = no_picture(path) or f"{decode(path).shape} {decode(path).mean():.0f}"
    assert found == {
        "anatomical.nii": "(41, 33) 162",
        "example4d.nii.gz": "(96, 128) 65",
        "example_nifti2.nii.gz": "(20, 32) 137",
        "functional.nii": "(21, 17) 164",
        "reoriented_anat_moved.nii": "(26, 21) 111",
        "resampled_anat_moved.nii": "(21, 17) 136",
        "row_major.dconn.nii": "files without a picture (CIFTI)",
        "standard.nii.gz": "masks",
    }


def test_nifti_files_that_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a" / "1.nii.gz", volume())
    save(tmp_path / "b" / "2.nii.gz", volume())
    whole = path.read_bytes()
    for broken, why in (
        (whole[:-60], "is damaged or incomplete"),
        (b"no volume" * 99, "header is broken"),
        (b"", "empty"),
    ):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=rf"1\.nii\.gz .*{why}"):
            open_dataset(tmp_path)
    assert open_dataset(tmp_path, skip_bad=True).names == ("b/2.nii.gz#axial-0005",)
    path.write_bytes(whole)
    nifti._import.cache_clear()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError) as error:
        open_dataset(tmp_path)
    assert str(error.value) == "reading NIfTI files needs nibabel (pip install 'medzoo[nifti]')"
