"""The gallery of augmented data: both sides of each class, counts, lineage, metrics and the verdict of a tuning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.example_evaluation import made_evaluation
from helpers.example_tuning import made_tuning
from helpers.html_page import Page
from helpers.image_sets import write_folder

import medzoo as api
from medzoo.errors import DataError
from medzoo.hub.registry import load_registry
from medzoo.report.evaluation.tables import evaluation_json
from medzoo.report.gallery.data import _command
from medzoo.tuning.results import POLICY, write_tuning

COUNTS = {"benign": 4, "malignant": 2, "normal": 1}
WEIGHTS = next(file.sha256 for file in load_registry().model("dcgan-busi").files if "safetensors" in file.name)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "Mueller-scans", COUNTS, side=64)


@pytest.fixture(scope="module")
def augmented(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real images, filled up to four of each class."""
    folder = tmp_path_factory.mktemp("augmented") / "scans-4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("sys.argv", ["/opt/bin/medzoo", "augment", "--data", str(real), "--to", "4"])
        api.augment("dcgan-busi", data=real, to=4, out=folder, device="cpu")
    return folder


def page_of(index: Path) -> Page:
    text = index.read_text("utf-8")
    return Page(text[: text.index("<script>")])


def evaluation_in(folder: Path) -> Path:
    """The folder of an evaluation whose synthetic images dcgan-busi made."""
    folder.mkdir(parents=True, exist_ok=True)
    lineage = {"lineage": {"trained": [{"who": "dcgan-busi", "weights_sha256": WEIGHTS}]}}
    (folder / "evaluation.json").write_bytes(evaluation_json(made_evaluation(provenance=lineage)))
    return folder


def tuning_in(folder: Path) -> Path:
    """The folder of a finished tuning."""
    result = made_tuning(folder)
    write_tuning(folder, result.to_dict())
    (folder / POLICY).write_text(result.policy.to_toml(), "utf-8")
    return folder


def test_gallery_of_data_shows_both_sides(real: Path, augmented: Path, tmp_path: Path, logged: list[str]) -> None:
    made = api.gallery(tmp_path / "site", data=real, augmented=augmented)
    page = page_of(made.index)
    assert made.models == ("dcgan-busi",)
    assert "malignant 2 2 4" in page.text
    assert "normal 1 3 4" in page.text
    assert "Synthetic , 3 images" in page.text
    alts = [image["alt"] or "" for image in page.all("img")]
    assert sum(alt.startswith("Real ") for alt in alts) == 7
    assert alts[4:8] == [
        "Real malignant, 1 of 2 shown",
        "Real malignant, 2 of 2 shown",
        "Synthetic malignant by dcgan-busi, 1 of 2 shown",
        "Synthetic malignant by dcgan-busi, 2 of 2 shown",
    ]
    assert WEIGHTS in page.text
    assert "models/dcgan-busi.html" in [link["href"] for link in page.all("a")]
    trained_on = json.loads((augmented / "run.json").read_text())["lineage"]["models"]["dcgan-busi"]["trained_on"]
    assert f"dcgan-busi trained on {trained_on} images, 0 of them among the real ones" in page.text
    assert f"{tmp_path / 'site'} shows 7 real images: give it only to those who may see them" in logged
    # Neither names of real images nor folders of this machine.
    text = made.index.read_text("utf-8")
    assert "000.png" not in text
    assert str(real.parent) not in text
    assert str(augmented.parent) not in text
    assert page_of(api.gallery(tmp_path / "alone", data=augmented).index).text.count("Real malignant") == 0


def test_gallery_of_an_augmented_folder_alone(augmented: Path, tmp_path: Path) -> None:
    one = api.gallery(tmp_path / "one", data=augmented).index
    other = api.gallery(tmp_path / "two", augmented=[augmented]).index
    assert one.read_bytes() == other.read_bytes()
    assert "malignant 2 2 4" in page_of(one).text


def test_gallery_leaves_out_changed_images(medzoo: Callable, real: Path, tmp_path: Path, logged: list[str]) -> None:
    folder = tmp_path / "more"
    api.augment("dcgan-busi", data=real, to=2, out=folder, device="cpu")
    image = next((folder / "normal").glob("synthetic-*"))
    image.write_bytes(next((real / "normal").iterdir()).read_bytes())
    page = page_of(api.gallery(tmp_path / "site", data=folder).index)
    assert [line for line in logged if f"{image} is not the image that metadata.csv names" in line]
    assert not [image for image in page.all("img") if (image["alt"] or "").startswith("Synthetic normal by")]


def test_gallery_shows_metrics_with_floors_and_the_verdict(medzoo: Callable, augmented: Path, tmp_path: Path) -> None:
    evaluated, tuned = evaluation_in(tmp_path / "evaluated"), tuning_in(tmp_path / "tuned")
    site = tmp_path / "site"
    found = medzoo("gallery", site, "--augmented", augmented, "--evaluated", evaluated, "--tuned", tuned, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["models"] == ["dcgan-busi"]
    page = page_of(site / "index.html")
    assert "No gain shown Augment: on 36 held-out images, the policy helps 'cnn'." in page.text
    assert "Floor two halves of the real images" in page.text
    row = next(row for row in made_evaluation().results if row.baseline)
    assert row.baseline is not None
    assert f"{row.baseline.n} images each" in page.text
    model = page_of(site / "models" / "dcgan-busi.html")
    assert "Evaluations evaluated" in model.text


def test_gallery_finds_what_lies_in_the_folders(augmented: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans-4"
    shutil.copytree(augmented, folder)
    evaluation_in(folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "policy": {"verdict": "Augment: it helps"}}))
    page = page_of(api.gallery(tmp_path / "site", augmented=folder).index)
    assert "Verdict of its policy Augment: it helps." in page.text
    assert "Metrics scans-4" in page.text


def test_gallery_of_models_takes_an_evaluation(tmp_path: Path) -> None:
    evaluated = evaluation_in(tmp_path / "evaluated")
    made = api.gallery(tmp_path / "site", evaluated=evaluated)
    assert len(made.models) > 3
    assert "Evaluations evaluated" in page_of(made.index.parent / "models" / "dcgan-busi.html").text
    other = tmp_path / "other"
    other.mkdir()
    (other / "evaluation.json").write_bytes(evaluation_json(made_evaluation()))
    with pytest.raises(DataError, match="the evaluation other is of no published model"):
        api.gallery(tmp_path / "no", evaluated=other)


def test_gallery_refusals(medzoo: Callable, real: Path, augmented: Path, tmp_path: Path) -> None:
    found = medzoo("gallery", tmp_path / "site", "--data", real)
    assert found.code == 5
    assert f"{real} holds no synthetic images" in found.err
    assert "medzoo augment" in found.err
    inside = medzoo("gallery", augmented / "site", "--data", augmented)
    assert inside.code == 5
    assert "is inside the data folder" in inside.err
    none = medzoo("gallery", tmp_path / "site", "--augmented", augmented, "--evaluated", real)
    assert f"{real} holds no evaluation: evaluation.json is missing" in none.err
    (tmp_path / "evaluated").mkdir()
    unlike = {"lineage": {"trained": [{"who": "x", "weights_sha256": "ab" * 32}]}}
    (tmp_path / "evaluated" / "evaluation.json").write_bytes(evaluation_json(made_evaluation(provenance=unlike)))
    other = medzoo("gallery", tmp_path / "site", "--data", augmented, "--evaluated", tmp_path / "evaluated")
    assert "the evaluation evaluated is of images by other weights than those of scans-4" in other.err
    others = write_folder(tmp_path / "others", {"cat": 1, "dog": 1})
    apart = medzoo("gallery", tmp_path / "site", "--data", others, "--augmented", augmented)
    assert "share no class: cat, dog, and benign, malignant, normal" in apart.err
    assert not (tmp_path / "site").exists()


def test_command_hides_folders_of_the_machine() -> None:
    words = ["/home/a/bin/medzoo", "augment", "--data", "/home/mueller/scans", "--set=x=/srv/y", "--to", "4", "a/b"]
    assert _command(words) == "medzoo augment --data scans --set=x=y --to 4 a/b"
    assert _command(["/home/a/train.py", "x"]) == ""
    assert _command(None) == ""
