"""Every image that is sampled into a file is marked as synthetic, deterministically, and no real image is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.augmentation import rows
from helpers.certificates import write_certificate

import medzoo as package
from medzoo.data.images import decode
from medzoo.data.marks import ALGORITHMIC, ALTERED, COMPOSITE, EDITED, TRAINED, Mark, png_chunks
from medzoo.errors import ConfigError, DataError
from medzoo.generation import run as filling
from medzoo.generation.mixture import make_source
from medzoo.models.loading import load_by_name
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ImageSpec

QUIET = {"progress": lambda done, total: None}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def without_mark(data: bytes, mark: Mark) -> bytes:
    """A PNG as it was written before there were marks."""
    bare = data.replace(png_chunks(mark), b"")
    assert len(bare) < len(data)
    return bare


def strip(job: filling.Job, count: int | None = None) -> None:
    """Take the marks away from the first `count` images."""
    for image in list(job.plan.images())[:count]:
        path = job.folder / image.file
        if path.exists():
            path.write_bytes(without_mark(path.read_bytes(), job.sampler.mark(image)))


def test_run_marks_synthetic_images_and_no_others(fill, images):
    outcome = fill(originals="copy")
    found = {each.path.relative_to(outcome.folder).as_posix(): each for each in package.identify(outcome.folder)}
    for row in rows(outcome.folder):
        each = found[row["file_name"]]
        assert each.verdict == ("synthetic" if row["origin"] == "synthetic" else "no mark")
        if row["origin"] == "synthetic":
            assert each.source_type == TRAINED
            assert each.facts == {
                "program": "medzoo",
                "generator": row["generator"],
                "weights_sha256": row["weights_sha256"],
                "seed": int(row["seed"]),
                "label": row["label"],
            }
    [sheet] = package.identify(outcome.sheet)
    assert sheet.source_type == COMPOSITE


def test_run_in_gray_leaves_originals_unmarked(fill):
    folder = fill(originals="gray", target=10).folder
    verdicts = {row["file_name"]: row["origin"] for row in rows(folder)}
    for each in package.identify(folder):
        real = verdicts[each.path.relative_to(folder).as_posix()] == "real"
        assert each.verdict == ("no mark" if real else "synthetic")


def test_run_marks_variations_as_edited(fill, model):
    folder = fill(generators=(f"{model}@0.5",), target=5).folder
    [first, *_] = [each for each in package.identify(folder) if each.verdict == "synthetic"]
    assert first.source_type == EDITED
    assert first.facts["strength"] == 0.5
    assert first.facts["generator"] == "tiny-0.5"
    # A real image's name may identify a patient, so metadata.csv alone has it.
    assert rows(folder)[-1]["source_image"].encode() not in first.path.read_bytes()


@pytest.mark.parametrize("name", ["classic", "duplicate"])
def test_run_marks_altered_images(fill, name):
    folder = fill(generators=(name,), target=5).folder
    verdicts = {each.path.name.startswith("synthetic-"): each.verdict for each in package.identify(folder)}
    assert verdicts == {True: "altered", False: "no mark"}


def test_digital_source_type_of_an_untrained_algorithm():
    source, image = make_source(load_plugins(), device="cpu"), ImageSpec(size=8, channels=1, classes=("a",))
    model = load_by_name("classic", image=image, plugins=source.plugins, device=source.device, registry=source.registry)
    assert model.digital_source_type == ALTERED
    assert replace(model, spec=replace(model.spec, needs_init_images=False)).digital_source_type == ALGORITHMIC


def test_run_continues_a_folder_without_marks(prepare, fill, tmp_path, logged):
    whole = content(fill(out=tmp_path / "whole").folder)
    job = prepare(shard=(1, 2))
    filling.run(job, **QUIET)
    strip(prepare(), count=5)
    assert content(job.folder) != {name: whole[name] for name in content(job.folder)}
    fill()
    assert content(job.folder) == whole
    assert f"{job.folder}: 5 images of an earlier version of medzoo had no mark; marked as synthetic now" in logged


def test_run_leaves_a_finished_folder_without_marks(fill, tmp_path, monkeypatch, logged):
    """As an earlier version left it: its files are those that metadata.csv lists."""
    write = filling.ImageWriter.write
    with monkeypatch.context() as patch:
        patch.setattr(filling.ImageWriter, "write", lambda self, path, pixels, mark: write(self, path, pixels))
        folder = fill().folder
    before = content(folder)
    assert fill().already_done
    assert content(folder) == before
    [line] = [line for line in logged if "finished by an earlier version" in line]
    assert "its images are not marked as synthetic; another --out has the same images marked" in line
    other = fill(out=tmp_path / "other").folder
    for name in before:
        np.testing.assert_array_equal(decode(other / name), decode(folder / name))


def test_run_as_dicom(prepare, fill, tmp_path, logged):
    pytest.importorskip("pydicom")
    folder = fill(format="dicom").folder
    plain = fill(out=tmp_path / "plain").folder
    made = sorted(folder.glob("*/synthetic-*"))
    assert len(made) == 20
    for path in made:
        png = plain / path.parent.name / f"{path.stem}.png"
        np.testing.assert_array_equal(decode(path), decode(png))
    assert {row["file_name"] for row in rows(folder)} >= {path.relative_to(folder).as_posix() for path in made}
    assert any("real images keep their formats and all that their files say" in line for line in logged)
    again = prepare(format="dicom")
    assert not again.damaged
    assert filling.run(again, **QUIET).already_done
    with pytest.raises(DataError, match="holds another job: its format is dicom"):
        prepare()


def test_run_as_dicom_resumes(prepare, fill, tmp_path):
    pytest.importorskip("pydicom")
    whole = {path.name: path.read_bytes() for path in fill(format="dicom", out=tmp_path / "w").folder.rglob("*.dcm")}
    folder = filling.run(prepare(format="dicom", shard=(1, 2)), **QUIET).folder
    first = min(folder.glob("*/synthetic-*"))
    first.write_bytes(first.read_bytes()[:-30])
    fill(format="dicom")
    assert {path.name: path.read_bytes() for path in folder.rglob("*.dcm")} == whole


def test_prepare_unknown_format(prepare):
    with pytest.raises(ConfigError, match="--format cannot take 'nifti'"):
        prepare(format="nifti")


def test_run_signs_synthetic_images(prepare, fill, tmp_path):
    pytest.importorskip("c2pa")
    signing = write_certificate(tmp_path)
    filling.run(prepare(c2pa=signing, shard=(1, 2)), **QUIET)
    first = content(tmp_path / "out")
    folder = fill(c2pa=signing).folder
    resumed = content(folder)
    assert first.items() <= resumed.items()  # what was signed is not signed again
    verdicts = {each.path.name.startswith("synthetic-"): each for each in package.identify(folder)}
    assert verdicts[True].marks == ("XMP", "C2PA", "medzoo")
    assert verdicts[False].verdict == "no mark"
    assert fill(c2pa=signing).already_done
    assert content(folder) == resumed
    plain = fill(out=tmp_path / "plain").folder
    for path in folder.glob("*/synthetic-*"):
        np.testing.assert_array_equal(decode(path), decode(plain / path.relative_to(folder)))
    with pytest.raises(DataError, match="holds another job: its c2pa is"):
        prepare()


def test_prepare_refuses_what_is_not_signed(prepare, medzoo, model, tmp_path):
    pytest.importorskip("c2pa")
    signing = write_certificate(tmp_path)
    with pytest.raises(ConfigError, match="--c2pa signs PNGs, not --format dicom"):
        prepare(c2pa=signing, format="dicom")
    outcome = medzoo("sample", model, "--out", tmp_path / "s", "--c2pa", "chain.pem")
    assert outcome.code == 2
    assert "--c2pa cannot take 'chain.pem'" in outcome.err
    outcome = medzoo("sample", model, "--n", 1, "--out", tmp_path / "s", "--c2pa", ",".join(map(str, signing)))
    assert outcome.code == 0, outcome.err
