"""Filling a set: exact counts, whole records, and the same bytes however often the job is stopped or shared out."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.augmentation import rows
from PIL import Image

from medzoo.data.dataset import open_dataset
from medzoo.data.images import decode, encode_png
from medzoo.errors import DataError, ResourceError
from medzoo.generation import run as filling
from medzoo.generation import writer
from medzoo.generation.sampler import Sampler
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.storage.files import temporary_name

TARGET = 12
QUIET = {"progress": lambda done, total: None}


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a job but its record, which holds times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/synthetic-*.png"))


@pytest.fixture
def whole(fill, tmp_path):
    """The files of an uninterrupted job."""
    return content(fill(out=tmp_path / "whole").folder)


def test_run_reaches_the_target(fill, images, tmp_path):
    before = content(images)
    outcome = fill()
    assert {row.label: (row.real, row.synthetic) for row in outcome.classes} == {
        "narrow-canal": (3, 9),
        "normal": (9, 3),
        "thick-wall": (4, 8),
    }
    assert {folder.name: len(list(folder.iterdir())) for folder in outcome.folder.iterdir() if folder.is_dir()} == (
        dict.fromkeys(["narrow-canal", "normal", "thick-wall"], TARGET)
    )
    for name in before:
        assert (outcome.folder / name).samefile(images / name)
    assert content(images) == before
    assert outcome.sheet == tmp_path / "out.contact-sheet.png"
    assert decode(outcome.sheet).ndim == 3
    assert not outcome.missing


def test_metadata_has_a_row_per_file(fill, model):
    outcome = fill()
    table = rows(outcome.folder)
    assert sorted(row["file_name"] for row in table) == sorted(
        name for name in content(outcome.folder) if name.endswith(".png")
    )
    weights = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    for row in table:
        assert row["label"] == row["file_name"].partition("/")[0]
        assert row["sha256"] == hashlib.sha256((outcome.folder / row["file_name"]).read_bytes()).hexdigest()
        if row["origin"] == "real":
            assert (row["generator"], row["weights_sha256"], row["seed"]) == ("", "", "")
            assert row["source_image"] == row["file_name"]
        else:
            assert (row["origin"], row["generator"], row["weights_sha256"]) == ("synthetic", "tiny", weights)
            assert row["source_image"] == ""
    assert sum(row["origin"] == "real" for row in table) == 16
    assert len({row["seed"] for row in table}) == 1 + 20


def test_folder_is_read_by_torchvision_and_hugging_face(fill):
    from torchvision.datasets import ImageFolder

    folder = fill().folder
    found = ImageFolder(str(folder))
    assert found.classes == ["narrow-canal", "normal", "thick-wall"]
    assert len(found) == 3 * TARGET
    # Hugging Face's imagefolder (3.2) refuses a folder with an image that metadata.csv does not name.
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        ".medzoo-plan.json",
        "metadata.csv",
        "run.json",
    ]
    assert open_dataset(folder).counts() == dict.fromkeys(found.classes, TARGET)


def test_record_states_the_run(fill, model):
    outcome = fill()
    record = json.loads((outcome.folder / "run.json").read_text())
    assert record["job"] == "augment"
    assert record["plugins"]["ddpm"]["distribution"] == "medzoo"
    assert record["weights"] == {"tiny": load_model(model, plugins=load_plugins(), device="cpu").weights_sha256}
    assert record["config"]["tiny.sampling.num_inference_steps"] == 4
    assert record["origins"]["tiny.sampling.num_inference_steps"] == "model"
    assert record["data"]["counts"] == {"narrow-canal": 3, "normal": 9, "thick-wall": 4}
    assert record["counts"]["normal"] == {"real": 9, "synthetic": 3}
    assert record["seeds"] == {"seed": 0}
    assert record["originals"] == "link"
    for output in record["outputs"]:
        assert hashlib.sha256((outcome.folder / output["file"]).read_bytes()).hexdigest() == output["sha256"]


def test_run_writes_the_images_of_the_model(fill, model):
    """Though the data's classes are in another order than the model's."""
    folder = fill(batch_size=1).folder
    loaded = load_model(model, plugins=load_plugins(), device="cpu")
    assert loaded.image.classes != open_dataset(folder).classes
    for row in rows(folder):
        if row["origin"] == "synthetic":
            label = torch.tensor([loaded.image.classes.index(row["label"])])
            drawn = loaded.model.sample([int(row["seed"])], label)[0, 0].numpy()
            assert np.abs(decode(folder / row["file_name"]) - drawn * 255).max() <= 0.51


def test_run_of_a_finished_folder(fill):
    first = fill()
    files = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    again = fill()
    assert again.already_done
    assert not first.already_done
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == files
    assert again.sheet == first.sheet
    assert [row.synthetic for row in again.classes] == [row.synthetic for row in first.classes]


def test_run_replaces_missing_and_empty_files(fill, whole):
    folder = fill().folder
    lost, emptied = pictures(folder)[3], pictures(folder)[11]
    lost.unlink()
    emptied.write_bytes(b"")
    outcome = fill()
    assert not outcome.already_done
    assert 0 < sum(row.drawn for row in outcome.classes) <= 10
    assert content(folder) == whole


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def blacken(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((1, 16, 16), np.uint8)))


@pytest.mark.parametrize("damage", [flip, cut, blacken])
def test_run_of_a_finished_folder_repairs_damaged_images(fill, whole, damage, logged):
    folder = fill().folder
    broken = [pictures(folder)[3], pictures(folder)[11]]
    for path in broken:
        damage(path)
    outcome = fill()
    assert not outcome.already_done
    assert content(folder) == whole
    names = sorted(path.relative_to(folder).as_posix() for path in broken)
    assert f"{folder}: 2 files are damaged, such as {names[0]}; writing what is damaged again" in logged
    assert fill().already_done


@pytest.mark.parametrize("damage", [flip, cut])
def test_run_of_an_unfinished_folder_repairs_damaged_images(prepare, fill, whole, damage):
    """Nothing states their hashes yet: the checksums inside them tell."""
    folder = filling.run(prepare(shard=(1, 2)), **QUIET).folder
    there = pictures(folder)
    assert 0 < len(there) < 20
    damage(there[1])
    assert filling.run(prepare(shard=(2, 2)), **QUIET).missing > 0
    fill()
    assert content(folder) == whole


@pytest.mark.parametrize("how", ["link", "copy", "gray"])
def test_run_of_a_finished_folder_repairs_damaged_originals(fill, images, how):
    before = content(images)
    folder = fill(originals=how).folder
    first = content(folder)
    broken = folder / "normal" / min(path.name for path in (images / "normal").iterdir())
    digits = bytearray(broken.read_bytes())
    digits[-1] ^= 1
    broken.unlink()  # or the image it is a link to would be damaged too
    broken.write_bytes(digits)
    assert not fill(originals=how).already_done
    assert content(folder) == first
    assert content(images) == before
    if how == "link":
        assert broken.samefile(images / "normal" / broken.name)


@pytest.mark.parametrize("name", ["metadata.csv", "run.json"])
@pytest.mark.parametrize("damage", [Path.unlink, flip, cut])
def test_run_of_a_finished_folder_repairs_its_records(fill, whole, name, damage):
    folder = fill().folder
    damage(folder / name)
    if name == "metadata.csv" or damage is not flip:  # a flipped bit of run.json may be in what nothing depends on
        assert not fill().already_done
    assert content(folder) == whole
    fill()
    assert fill().already_done


def test_run_replaces_a_damaged_contact_sheet(fill):
    sheet = fill().sheet
    before = sheet.read_bytes()
    cut(sheet)
    assert fill().already_done
    assert sheet.read_bytes() == before


def test_run_removes_what_killed_runs_left(prepare, fill, tmp_path):
    folder = filling.run(prepare(shard=(1, 2)), **QUIET).folder
    left = [
        temporary_name(path)
        for path in (folder / "run.json", folder / "normal" / "x.png", tmp_path / "out.contact-sheet.png")
    ]
    for path in left:
        path.write_bytes(b"half")
    fill()
    assert not any(path.exists() for path in left)


def test_forecast_counts_damaged_images(prepare, fill):
    folder = fill().folder
    flip(pictures(folder)[0])
    job = prepare()
    assert job.missing() == 1
    rows = {row.label: row for row in filling.forecast(job)}
    assert rows["narrow-canal"].there == 4
    assert rows["narrow-canal"].seconds > 0
    assert pictures(folder)[0].exists()


def test_run_replaces_a_lost_contact_sheet(fill):
    sheet = fill().sheet
    before = sheet.read_bytes()
    sheet.unlink()
    assert fill().sheet == sheet
    assert sheet.read_bytes() == before


def test_run_of_another_batch_size(fill, tmp_path):
    many, one = fill(out=tmp_path / "a", batch_size=20), fill(out=tmp_path / "b", batch_size=1)
    for left, right in zip(pictures(many.folder), pictures(one.folder), strict=True):
        assert left.relative_to(many.folder) == right.relative_to(one.folder)
        assert np.abs(decode(left).astype(int) - decode(right)).max() <= 1


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_run_shards(fill, whole, order):
    first = fill(shard=(order[0], 2))
    assert 0 < first.missing < 20
    assert first.sheet is None
    assert not (first.folder / "metadata.csv").exists()
    assert not (first.folder / "run.json").exists()
    second = fill(shard=(order[1], 2))
    assert second.missing == 0
    assert second.sheet is not None
    assert content(second.folder) == whole


def test_run_resumes_after_kill(prepare, images, model, tmp_path):
    """SIGKILL amid the work, twice; then the same command to its end, against one that nothing stopped."""
    out, target = tmp_path / "killed", 150
    command = f"--gen {model} --data {images} --to {target} --batch-size 4 --out {out} --device cpu"
    for wanted in (20, 120):
        process = subprocess.Popen(
            [sys.executable, "-m", "medzoo", "augment", *command.split()], stderr=subprocess.PIPE
        )
        while len(pictures(out)) < wanted and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert wanted <= len(pictures(out)) < 3 * target - 16
        assert not (out / "run.json").exists()
    (out / "normal" / ".synthetic-tiny-000000.png.0123.part").write_bytes(b"half a file")
    os.utime(out / "normal" / ".synthetic-tiny-000000.png.0123.part", (1, 1))
    given = {"target": target, "batch_size": 4}
    resumed = filling.run(prepare(out=out, **given), **QUIET)
    assert 0 < sum(row.drawn for row in resumed.classes) <= 3 * target - 16 - 120 + 4
    straight = filling.run(prepare(out=tmp_path / "straight", **given), **QUIET)
    assert content(resumed.folder) == content(straight.folder)
    assert resumed.sheet.read_bytes() == straight.sheet.read_bytes()


def test_run_resumes_after_interrupt(prepare, fill, whole, monkeypatch):
    draw, calls = Sampler.sample, []

    def interrupted(self, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            filling.run(prepare(), **QUIET)
    outcome = fill()
    assert sum(row.drawn for row in outcome.classes) == 20 - 2 * 5
    assert content(outcome.folder) == whole


def test_run_beside_links_to_nothing(prepare, fill, whole):
    outcome = fill()
    for picture in pictures(outcome.folder)[:3]:
        picture.unlink()
    for folder in {picture.parent for picture in pictures(outcome.folder)}:
        (folder / ".gone").symlink_to("nothing")
        (folder / "empty").touch()
    again = filling.run(prepare(), **QUIET)
    assert not again.missing
    assert {name: data for name, data in content(again.folder).items() if not name.endswith(("gone", "empty"))} == whole


def test_run_on_a_full_disk(prepare, fill, whole, monkeypatch):
    write, written = writer.write_image, []

    def filling_up(path, pixels, mark=None):
        if len(written) >= 7:
            monkeypatch.setattr(os, "replace", full)
        written.append(path)
        write(path, pixels, mark)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_image", filling_up)
    job = prepare()
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        filling.run(job, **QUIET)
    assert "free some space" in caught.value.hint
    assert 0 < len(pictures(job.folder)) < 20
    assert not (job.folder / "run.json").exists()
    monkeypatch.undo()
    assert content(fill().folder) == whole


@pytest.fixture
def mount(tmp_path):
    """Mount a memory disk with these options; gone after the test."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def call(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("nothing can be mounted here")
        return disk

    yield call
    subprocess.run(["umount", disk], capture_output=True, check=False)


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="only root mounts a disk")
@pytest.mark.parametrize(("options", "reason"), [("size=64k", "the disk is full"), ("ro", "the disk is read-only")])
def test_run_on_a_disk_that_fails(medzoo, mount, images, model, options, reason):
    out = mount(options) / "out"
    outcome = medzoo(
        *f"augment --gen {model} --data {images} --to 60 --originals omit --device cpu --out {out}".split()
    )
    assert outcome.code == ResourceError.exit_code
    assert f"error: cannot write {out}" in outcome.err
    assert reason in outcome.err
    assert len(pictures(out)) < 164


def test_run_originals(fill, images, tmp_path):
    without = fill(originals="omit", out=tmp_path / "without")
    assert len(content(without.folder)) == 20 + 2
    assert {row["origin"] for row in rows(without.folder)} == {"synthetic"}
    copied = fill(originals="copy", out=tmp_path / "copied")
    for name, data in content(images).items():
        assert (copied.folder / name).read_bytes() == data
        assert not (copied.folder / name).samefile(images / name)
    assert content(without.folder).items() - content(copied.folder).items() <= {
        (name, data) for name, data in content(without.folder).items() if not name.endswith(".png")
    }


def test_run_below_existing_counts(fill, images, logged):
    outcome = fill(target=5)
    assert {row.label: (row.real, row.synthetic) for row in outcome.classes} == {
        "narrow-canal": (3, 2),
        "normal": (9, 0),
        "thick-wall": (4, 1),
    }
    assert any("normal has 9" in text and "nothing is added or deleted" in text for text in logged)
    assert len(list((outcome.folder / "normal").iterdir())) == 9


def test_run_of_a_full_set(fill, images):
    outcome = fill(target=1)
    assert sum(row.synthetic for row in outcome.classes) == 0
    assert len(rows(outcome.folder)) == 16


def test_run_progress(prepare):
    seen = []
    filling.run(prepare(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 20), (5, 20), (10, 20), (15, 20), (20, 20)]


def test_forecast_counts(prepare, fill):
    before = {row.label: row for row in filling.forecast(prepare())}
    assert before["narrow-canal"].make == {"tiny": 9}
    assert all(row.seconds > 0 and row.there == 0 for row in before.values())
    folder = fill().folder
    assert all(row.seconds == 0 for row in filling.forecast(prepare()))
    pictures(folder)[0].unlink()
    after = {row.label: row for row in filling.forecast(prepare())}
    assert after["narrow-canal"].there == 4
    assert after["narrow-canal"].seconds > 0 == after["normal"].seconds


def test_forecast_writes_nothing(prepare):
    job = prepare()
    filling.forecast(job)
    assert not job.folder.exists()


# Python's warning filters are one per process: of two threads, each may lift what the other has set.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_twice_at_once(prepare, whole):
    """As when a shard is started twice: each writes whole files, so neither harms the other."""
    from concurrent.futures import ThreadPoolExecutor

    jobs = [prepare(), prepare(shard=(1, 2)), prepare(shard=(2, 2))]
    with ThreadPoolExecutor(max_workers=3) as pool:
        outcomes = list(pool.map(lambda job: filling.run(job, **QUIET), jobs))
    assert any(outcome.missing == 0 for outcome in outcomes)
    assert content(outcomes[0].folder) == whole


def test_run_of_moved_data(fill, images, tmp_path):
    folder = fill().folder
    shutil.copytree(images, tmp_path / "moved")
    assert fill(data=tmp_path / "moved").already_done
    assert (folder / "run.json").exists()


@pytest.fixture
def colored(images, tmp_path):
    """The scans in color."""
    for file in images.rglob("*.png"):
        target = tmp_path / "colored" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB")) * np.array((1.0, 0.5, 0.2))
        Image.fromarray(pixels.astype(np.uint8)).save(target)
    return tmp_path / "colored"


def test_prepare_color_beside_gray_is_refused(prepare, colored):
    with pytest.raises(DataError, match=r"colored is in color, but 'tiny' makes grayscale images") as caught:
        prepare(data=colored)
    assert "--originals gray" in caught.value.hint


def test_run_originals_in_gray(fill, colored):
    folder = fill(data=colored, originals="gray").folder
    modes = set()
    for file in folder.glob("*/*.png"):
        with Image.open(file) as image:
            modes.add(image.mode)
    assert modes == {"L"}
    assert len(list(folder.glob("*/*.png"))) == 36


def test_prepare_warns_about_16_bit_originals(prepare, images, tmp_path, logged):
    for file in images.rglob("*.png"):
        target = tmp_path / "deep" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            Image.fromarray(np.asarray(image).astype(np.uint16) * 16).save(target)
    prepare(data=tmp_path / "deep")
    assert any("real images keep their 16 bits beside synthetic ones of 8" in line for line in logged)
