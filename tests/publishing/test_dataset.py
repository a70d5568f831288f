"""What of an augmented folder is published as a dataset, and what `datasets` makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny_card
from helpers.hub_server import HubServer
from PIL import Image

import medzoo
from medzoo.data.images import decode
from medzoo.errors import ConfigError, DataError, HubError
from medzoo.hub.front_matter import parse_card
from medzoo.publishing.dataset import DatasetPackage, push_dataset

datasets = pytest.importorskip("datasets")

REPO = "acme/udder-4"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    tiny_card.make_run(folder / "tiny")
    medzoo.write_phantom(folder / "real", size=32, counts={"normal": 4, "thick-wall": 3, "narrow-canal": 2})
    return folder


@pytest.fixture(scope="module")
def made(root: Path) -> Path:
    """A folder filled up with images drawn from noise: 1 of "thick-wall" and 2 of "narrow-canal"."""
    medzoo.augment(root / "tiny", to=4, data=root / "real", out=root / "made", allow_leak=True)
    return root / "made"


@pytest.fixture(scope="module")
def varied(root: Path) -> Path:
    """A folder filled up with images made from real ones."""
    medzoo.augment("classic", to=4, data=root / "real", out=root / "varied")
    return root / "varied"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """An augmented folder that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "augmented"))


def build(folder: Path, **request: Any) -> DatasetPackage:
    return push_dataset(folder, **{"repo": REPO, "license": "cc-by-4.0", "dry_run": True, **request})


def load(package: DatasetPackage, folder: Path) -> Any:
    """The dataset as the library reads its files from a disk."""
    for name, data in package.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))


@pytest.mark.parametrize("format", ["parquet", "imagefolder"])
def test_build_dataset_is_read_with_classes_and_lineage(made, tmp_path, format):
    found = load(build(made, format=format), tmp_path / "dataset")
    assert found.features["label"].names == ["narrow-canal", "normal", "thick-wall"]
    assert sorted(found["label"]) == [0, 0, 2]
    assert set(found["origin"]) == {"synthetic"}
    rows = {row["seed"]: row for row in found}
    for file in sorted(made.glob("*/synthetic-*.png")):
        same = [row for row in rows.values() if np.array_equal(np.asarray(row["image"]), decode(file))]
        assert len(same) == 1, file
        assert same[0]["generator"] == "tiny"
        assert len(same[0]["weights_sha256"]) == 64
        assert same[0]["from_real"] is False


def test_build_dataset_leaves_real_images_out(made):
    package = build(made)
    assert package.counts == {"narrow-canal": {"synthetic": 2}, "normal": {}, "thick-wall": {"synthetic": 1}}
    assert all(b"normal-0000" not in data for data in package.files.values())


def test_build_dataset_includes_real_images_as_plain_pixels(root, tmp_path):
    source = shutil.copytree(root / "real", tmp_path / "real")
    for file in source.glob("*/*.png"):
        pixels = Image.open(file)
        file.unlink()
        exif = pixels.getexif()
        exif[0x010E] = "Doe^Jane 1961-04-05"
        pixels.save(file.with_name(f"doe-{file.stem}.jpg"), exif=exif, quality=95)
    medzoo.augment(root / "tiny", to=4, data=source, out=tmp_path / "made", allow_leak=True)
    package = build(tmp_path / "made", include_originals=True, originals_license="cc-by-4.0")
    assert package.counts["normal"] == {"real": 4}
    found = load(package, tmp_path / "dataset")
    for data in package.files.values():
        assert b"doe-" not in data
        assert b"Doe" not in data
    real = [np.asarray(row["image"]) for row in found if row["origin"] == "real"]
    for file in source.glob("*/*.jpg"):
        assert any(np.array_equal(pixels, decode(file)) for pixels in real)


def test_build_dataset_of_several_labels(root, tmp_path):
    files = [f"real/{file.parent.name}/{file.name}" for file in sorted((root / "real").glob("*/*.png"))]
    labels = ["a", "a|b", "b", "a|b", "a", "b", "a|b", "a", "a"]
    rows = [f"{file},{label}" for file, label in zip(files, labels, strict=True)]
    (root / "several.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    medzoo.augment("classic", to=12, data=root / "several.csv", out=tmp_path / "made")
    asked = {"originals_license": "cc-by-4.0", "include_originals": True}
    for format in ("parquet", "imagefolder"):
        package = build(tmp_path / "made", format=format, **asked)
        assert all("|" not in name for name in package.files)
        found = load(package, tmp_path / format)
        assert len(found) == 12
        assert found.features["labels"].feature.names == ["a", "b"]
        real = [row["labels"] for row in found if row["origin"] == "real"]
        assert sorted(real) == sorted([[0], [0, 1], [1], [0, 1], [0], [1], [0, 1], [0], [0]])


def test_build_dataset_card(made):
    text = build(made, title="Udders").files["README.md"].decode()
    card = parse_card(text)
    assert card.data.license == "cc-by-4.0"
    assert card.data.pretty_name == "Udders"
    assert card.data.size_categories == "n<1K"
    assert "| narrow-canal | 2 |" in text
    assert "No real image is included." in text
    assert "was not measured" in text
    assert "trained on 8 images" in text
    assert str(made.parent) not in text


def test_build_dataset_card_states_policy_verdict(folder):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "policy": {"verdict": "It helped by 3 points."}}))
    assert "It helped by 3 points." in build(folder).files["README.md"].decode()


def test_build_dataset_same_bytes_again(made):
    assert build(made).files == build(made).files


def test_build_dataset_images_of_real_ones_need_their_license(varied):
    with pytest.raises(ConfigError, match=r"images made from real ones show them: 3 by classic"):
        build(varied)
    text = build(varied, originals_license="cc-by-4.0").files["README.md"].decode()
    assert "those may be shared under cc-by-4.0" in text


def test_build_dataset_originals_need_license(made):
    with pytest.raises(ConfigError, match="real images are included, but not under which license"):
        build(made, include_originals=True)


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("cc-by-nd-4.0", "cc-by-nd-4.0", "does not allow adapted images"),
        ("cc-by-nc-4.0", "cc-by-4.0", "does not allow commercial use"),
        ("cc-by-sa-4.0", "cc-by-4.0", "asks for the same license"),
    ],
)
def test_build_dataset_license_that_a_source_forbids(varied, source, given, message):
    with pytest.raises(ConfigError, match=message):
        build(varied, license=given, originals_license=source)


def test_build_dataset_unknown_license(made):
    with pytest.raises(ConfigError, match="the dataset has no license: that of 'tiny' is not known"):
        build(made, license="")


def test_build_dataset_takes_the_only_license_of_its_sources(varied):
    card = parse_card(build(varied, license="", originals_license="cc-by-sa-4.0").files["README.md"].decode())
    assert card.data.license == "cc-by-sa-4.0"


def test_build_dataset_failed_memorization_check(root, folder):
    record = json.loads((folder / "run.json").read_text())
    run = shutil.copytree(root / "tiny", folder.parent / "failed")
    tiny_card.note(run, copy_check={"verdict": "failed", "metric": "nearest-train@pixels", "n_real": 9, "n_fake": 9})
    record["models"] = {"tiny": str(run)}
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="'tiny' failed its memorization check"):
        build(folder)
    assert "FAILED" in build(folder, accept_memorization=True).files["README.md"].decode()


def test_build_dataset_unfinished_or_damaged(root, folder):
    with pytest.raises(DataError, match="is not a finished augmentation"):
        build(root / "real")
    with pytest.raises(DataError, match="is not a folder"):
        build(root / "nothing")
    image = next(folder.glob("*/synthetic-*.png"))
    image.write_bytes(next(folder.glob("*/normal-*.png")).read_bytes())
    with pytest.raises(DataError, match=r"synthetic-.*png is missing or was changed"):
        build(folder)
    (folder / "metadata.csv").write_text("file_name,origin\n")
    with pytest.raises(DataError, match=r"metadata.csv is missing or was changed"):
        build(folder)


def test_build_dataset_unknown_format(made):
    with pytest.raises(medzoo.MedzooError, match="unknown format 'csv'"):
        build(made, format="csv")


def push(folder: Path, **request: Any) -> DatasetPackage:
    return medzoo.push_dataset(folder, **{"repo": REPO, "license": "cc-by-4.0", "create": True, **request})


def test_push_dataset_is_loaded_from_the_hub(folder, hub_server: HubServer, tmp_path):
    package = push(folder)
    files = hub_server.store.repos[REPO].commits[package.commit].files
    assert {name: blob.data for name, blob in files.items() if name in package.files} == package.files
    code = (
        "import datasets\n"
        f"found = datasets.load_dataset({REPO!r}, split='train')\n"
        "print(found.features['label'].names, found['label'], found['origin'])\n"
    )
    home = {"HF_ENDPOINT": hub_server.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_read"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **home, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "['narrow-canal', 'normal', 'thick-wall']" in done.stdout, done.stderr[-2000:]
    assert done.stdout.count("'synthetic'") == 3


def test_push_dataset_again_makes_no_commit(folder, hub_server: HubServer):
    first = push(folder)
    again = push(folder)
    assert (again.commit, again.sent) == (first.commit, ())
    assert len(hub_server.asked("POST .*/commit/")) == 1


def test_push_dataset_replaces_files_of_the_other_format(folder, hub_server: HubServer):
    push(folder, format="imagefolder")
    package = push(folder)
    there = hub_server.store.repos[REPO].commits[package.commit].files
    assert set(there) - {".gitattributes"} == set(package.files)


def test_push_dataset_changed_card_needs_force(folder, hub_server: HubServer):
    push(folder)
    files = {"README.md": b"written by hand"}
    hub_server.store.put(REPO, files)
    with pytest.raises(HubError, match=r"README.md of acme/udder-4 .* differs"):
        push(folder)
    assert push(folder, force=True).sent


def test_push_dataset_dry_run_sends_nothing(folder, hub_server: HubServer):
    assert push(folder, dry_run=True).commit == ""
    assert hub_server.asked() == []
    with pytest.raises(ConfigError, match="--private applies only to a new repository"):
        push(folder, create=False, private=True)


def test_push_command_publishes_dataset(folder, hub_server: HubServer, medzoo):
    done = medzoo("push", str(folder), "--dataset", "--repo", REPO, "--license", "cc-by-4.0", "--create")
    assert done.code == 0, done.err
    assert "narrow-canal" in done.out
    assert "sent 2 files to the dataset acme/udder-4" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "--org", "acme"], "--org does not apply: --dataset publishes images and no model"),
        (["--license", "mit"], "--license does not apply"),
        (["--dataset"], "no repository is given for the dataset"),
    ],
)
def test_push_command_options_of_the_other_kind(folder, medzoo, options, message):
    done = medzoo("push", str(folder), *options)
    assert done.code == 2
    assert message in done.err
