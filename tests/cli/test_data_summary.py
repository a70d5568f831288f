"""Every verb that opens images says what it took them for, in one line on stderr and under `data` in --json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.image_sets import noise, write_folder
from PIL import Image

from medzoo.data.phantom import write_phantom

Medzoo = Callable[..., Any]
LINE = "data: 12 images of 2 classes (normal 6, thick-wall 6); no parts; "
LINE += "patients unknown; gray, 8 bit; left out: 2 masks; "


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Phantoms with two masks, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_phantom(Path("data"), counts={"normal": 6, "thick-wall": 6}, size=32, seed=1)
    for file in sorted(Path("data").glob("normal/*.png"))[:2]:
        Image.fromarray((noise(32, 32) > 200).astype("uint8") * 255).save(file.with_stem(f"{file.stem}_mask"))
    return Path("data")


COMMANDS: dict[str, tuple[tuple[object, ...], Callable[[Any], Any]]] = {
    "train": (
        ("train", "dcgan", "--preset", "tiny", "--data", "data", "--out", "run", "--json"),
        lambda found: found["data"]["summary"],
    ),
    "augment": (
        ("augment", "--gen", "classic", "--data", "data", "--to", 7, "--dry-run", "--json"),
        lambda found: found["data"],
    ),
    "sample": (
        ("sample", "classic", "--n", 1, "--data", "data", "--out", "drawn", "--json"),
        lambda found: found["data"],
    ),
    "evaluate": (
        ("evaluate", "--real", "data", "--fake", "data", "--metric", "intensity", "--json"),
        lambda found: found["sets"][0]["data"],
    ),
    "experiment plan": (
        ("experiment", "plan", "e.toml", "--data", "data", "--no-estimate", "--json"),
        lambda found: found["data"],
    ),
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_verbs_say_what_data_were_taken_for(medzoo: Medzoo, data: Path, verb: str) -> None:
    Path("e.toml").write_text('arms = ["duplicate"]\ntarget = 8\nfolds = 2\nclassifiers = ["cnn"]\n')
    command, summary = COMMANDS[verb]
    answer = medzoo(*command)
    assert answer.code == 0, answer.err
    assert f"warning: {LINE}`medzoo data check data` shows all" in answer.err
    found = summary(json.loads(answer.out))
    assert found["images"] == 12
    assert [(one["what"], one["count"]) for one in found["left_out"]] == [("masks", 2)]


@pytest.mark.parametrize("verb", COMMANDS)
def test_verbs_refuse_masks_where_asked_to(medzoo: Medzoo, data: Path, verb: str) -> None:
    Path("e.toml").write_text('arms = ["duplicate"]\ntarget = 8\nfolds = 2\nclassifiers = ["cnn"]\n')
    answer = medzoo(*COMMANDS[verb][0], "--masks", "refuse")
    assert answer.code == 5
    assert "data holds 2 masks beside its images, such as normal/" in answer.err


def test_verbs_predict_with_the_images_alone(medzoo: Medzoo, data: Path) -> None:
    answer = medzoo("classify", "predict", "cnn-busi", "--data", "data/normal", "--out", "p.csv")
    assert answer.code == 0, answer.err
    assert "data/normal: 6 images without labels" in answer.err
    assert len(Path("p.csv").read_text("utf-8").splitlines()) == 7


def test_augment_refuses_an_augmented_folder_that_a_spreadsheet_saved(medzoo: Medzoo, tmp_path: Path) -> None:
    write_folder(tmp_path / "set", {"a": 2})
    (tmp_path / "set" / "metadata.csv").write_bytes(
        "\ufefffile_name;origin\r\na/000.png;real\r\na/001.png;synthetic\r\n".encode("utf-16")
    )
    answer = medzoo("augment", "--gen", "classic", "--data", tmp_path / "set", "--to", 3, "--out", tmp_path / "x")
    assert answer.code == 5
    assert "holds a synthetic image, such as a/001.png, which would count as real" in answer.err
