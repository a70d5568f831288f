"""Model cards: complete, true to the run, and what the registry names."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_card import make_run
from safetensors.torch import load_file

from medzoo.data.images import decode
from medzoo.data.phantom import CLASSES
from medzoo.errors import ConfigError, DataError
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing.card import FORMS, About, write_card
from medzoo.specs import ImageSpec
from medzoo.storage.files import sha256_file

ROOT = Path(__file__).parents[2]
ABOUT = About(
    id="tiny-udder",
    title="Tiny",
    summary="Simulated, for tests.",
    modality="ultrasound",
    dataset="phantom",
    dataset_text='Simulated "teats".',
    license="apache-2.0",
    intended_use="Tests.",
    limits="- Everything.",
    train_command="medzoo train ddpm",
    notice="A stand-in.",
    demo_dataset="phantom",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("card") / "run")


@pytest.fixture(scope="module")
def card(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("card") / "tiny-udder"
    return out, write_card(run, out, ABOUT, settings={"sampling.guidance_scale": 3.0})


def test_write_card_entry_names_every_file(card: tuple[Path, str]) -> None:
    folder, text = card
    (row,) = tomllib.loads(text)["model"]
    assert {file["name"] for file in row["files"]} == {path.name for path in folder.iterdir()} - {"fingerprints.json"}
    assert all(file["sha256"] == sha256_file(folder / file["name"]) for file in row["files"])
    assert row["classes"] == sorted(CLASSES)
    assert row["parameters"] == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert "default" not in row


def test_write_card_states_what_the_run_measured(card: tuple[Path, str], run: Path) -> None:
    text = (card[0] / "README.md").read_text()
    record = json.loads((run / "run.json").read_text())
    assert text.startswith("---\n")
    assert "\nlicense: apache-2.0\n" in text.split("---")[1]
    body = text.split("---", 2)[2].strip().splitlines()
    assert body[2] == "> **A stand-in.**"
    assert FORMS["generator"].disclaimer in text
    assert record["hardware"] in text
    assert "| narrow-canal | 2 |" in text
    assert "| `sampling.guidance_scale` | `3.0` |" in text
    assert "medzoo sample tiny-udder" in text
    assert "window" not in text.partition("## Training data")[2].partition("## Training\n")[0]


@pytest.mark.parametrize(
    ("window", "stated"),
    [
        ("lung", "the gray window lung (center -600, width 1500)"),
        ("file", "the gray window that each file states"),
        ("percentile", "a gray window from percentile 0.5 to 99.5"),
    ],
)
def test_write_card_states_the_window_of_volumes(run: Path, tmp_path: Path, window: str, stated: str) -> None:
    shutil.copytree(run, copy := tmp_path / "run")
    for name in ("config.json", "run.json"):
        values = json.loads((copy / name).read_text())
        values["config"]["image.window"] = window
        if name == "run.json":
            values["data"]["summary"]["reading"] = {"window": window, "frames": "middle"}
        (copy / name).write_text(json.dumps(values))
    write_card(copy, tmp_path / "card", ABOUT)
    assert f"DICOM or NIfTI files among them were shown through {stated}" in (tmp_path / "card/README.md").read_text()


def test_write_card_weights_are_fp16_and_sample(card: tuple[Path, str], run: Path) -> None:
    half = load_file(card[0] / "model.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    whole = load_file(run / "model.safetensors")
    assert all(torch.equal(tensor, whole[name].half()) for name, tensor in half.items())
    model = load_model(card[0], plugins=load_plugins(), device="cpu")
    assert model.name == "tiny-udder"
    assert model.demo_dataset == "phantom"
    assert model.config.value.sampling.guidance_scale == 3.0
    assert model.image == ImageSpec(size=16, channels=1, classes=tuple(sorted(CLASSES)))
    assert decode(card[0] / "samples.png").shape[0] > 4 * 16


def test_write_card_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a finished training run"):
        write_card(tmp_path, tmp_path / "card", ABOUT)
    assert not (tmp_path / "card").exists()


def test_card_json(run: Path, tmp_path: Path, medzoo: Callable[..., Any]) -> None:
    texts = {name: getattr(ABOUT, name) for name in ABOUT.__dataclass_fields__ if name != "default"}
    (tmp_path / "about.toml").write_text("\n".join(f"{name} = {json.dumps(text)}" for name, text in texts.items()))
    shown = json.loads(medzoo("card", run, "--about", tmp_path / "about.toml", "--out", tmp_path / "x", "--json").out)
    assert shown["folder"] == str(tmp_path / "x")
    assert tomllib.loads(shown["row"])["model"][0]["id"] == ABOUT.id


def test_write_card_refuses_other_files(run: Path, tmp_path: Path) -> None:
    before = sha256_file(run / "model.safetensors")
    with pytest.raises(DataError, match="holds files that are not part of a card: checkpoints"):
        write_card(run, run, ABOUT)
    assert sha256_file(run / "model.safetensors") == before
    (tmp_path / "notes.txt").write_text("kept")
    with pytest.raises(DataError, match=r"notes.txt is a file"):
        write_card(run, tmp_path / "notes.txt", ABOUT)


def test_write_card_entry_escapes_quotes(card: tuple[Path, str], run: Path, tmp_path: Path) -> None:
    about = replace(ABOUT, summary='Called "tiny" \\ small.')
    row = write_card(run, tmp_path / "card", about)
    assert tomllib.loads(row)["model"][0]["summary"] == about.summary


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "models").glob("*.toml")), ids=lambda path: path.stem)
def test_about_read_bundled_models(path: Path) -> None:
    assert About.read(path).id == path.stem


@pytest.mark.parametrize(
    ("text", "problem"),
    [("id = 'x'", "lacks dataset"), ("x = [", "not valid TOML"), ("color = 'red'", "lacks")],
)
def test_about_read_invalid_file(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "about.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        About.read(path)
