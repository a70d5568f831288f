"""The card of a classifier: what it states, what it may not state, and its way to the Hub."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.hub_server import HubServer
from helpers.tiny_card import ABOUT as GENERATOR_ABOUT
from helpers.tiny_classifier import SPEC, plugins_with_it, write_images
from safetensors.torch import load_file, save_file

from medzoo import config as settings
from medzoo.classification.predict import record_scores, score
from medzoo.data.dataset import open_dataset
from medzoo.errors import DataError
from medzoo.hub.front_matter import parse_card
from medzoo.hub.registry import load_registry
from medzoo.hub.registry_check import check_registry
from medzoo.hub.registry_file import entry_toml
from medzoo.models.loading import load_model
from medzoo.publishing.card import FORMS, write_card
from medzoo.publishing.push import Package, build_package, publish
from medzoo.storage.files import sha256_file
from medzoo.training.train import train

ABOUT = replace(GENERATOR_ABOUT, id="tiny-tell", train_command="medzoo classify train nearest-mean", demo_dataset="")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training, and its images beside it, whose scores nobody has noted."""
    root = tmp_path_factory.mktemp("classifier")
    for seed, part in enumerate(("train", "val", "test")):
        write_images(root / "data" / part, {"bright": 4, "dark": 6}, seed=seed)
    config = settings.resolve(SPEC.config, presets=SPEC.presets)
    data = open_dataset(root / "data")
    train(SPEC, config, data, root / "bare", plugins=plugins_with_it(), device="cpu")
    return root / "bare"


@pytest.fixture(scope="module")
def run(bare: Path) -> Path:
    """The same, with scores on the test part."""
    run = Path(shutil.copytree(bare, bare.parent / "run"))
    model = load_model(run, kind="classifier", plugins=plugins_with_it(), device="cpu")
    record_scores(run, score(model, open_dataset(run.parent / "data"), near=0.99, progress=lambda done, total: None))
    return run


@pytest.fixture
def card(run: Path, tmp_path: Path) -> Path:
    """A card folder that a test may spoil."""
    write_card(run, tmp_path / "card", ABOUT, plugins=plugins_with_it())
    return tmp_path / "card"


def pack(folder: Path) -> Package:
    plugins = plugins_with_it()
    registry = load_registry(plugins=plugins)
    return build_package(str(folder), registry=registry, plugins=plugins, repo="acme/tiny-tell", about=ABOUT)


def test_write_card_classifier(card: Path) -> None:
    text = (card / "README.md").read_text()
    files = ["README.md", "config.json", "fingerprints.json", "model.safetensors"]
    assert sorted(path.name for path in card.iterdir()) == files
    assert FORMS["classifier"].disclaimer in " ".join(text.split())
    assert "classifies gray images of 8x8 pixels as bright or dark" in text
    assert "| dark | 6 |" in text
    assert "Weights were selected on other images: 10, the data's own val part." in text
    assert "| `prediction.sharpness` | `10.0` |" in text
    scores = text.split("## Held-out scores")[1].split("##")[0]
    for row in ("| images | 10 |", "| accuracy | 1 |", "| recall dark, 6 images | 1 |"):
        assert scores.count(row) == 2  # with near copies of training images and without, of which there are none
    assert "medzoo classify predict tiny-tell" in text
    front = parse_card(text).data
    assert front.pipeline_tag == "image-classification"
    assert {(result.metric_type, result.metric_value) for result in front.eval_results} >= {("accuracy", 1.0)}


def test_write_card_classifier_weights_are_fp16_and_predict(card: Path, run: Path) -> None:
    assert {tensor.dtype for tensor in load_file(card / "model.safetensors").values()} == {torch.float16}
    published = load_model(card, kind="classifier", plugins=plugins_with_it(), device="cpu")
    trained = load_model(run, kind="classifier", plugins=plugins_with_it(), device="cpu")
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    difference = published.model.predict(images) - trained.model.predict(images)
    assert difference.abs().max() < 1e-2
    assert (published.name, published.trained_on) == ("tiny-tell", trained.trained_on)


def test_write_card_classifier_without_held_out_scores(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no held-out scores") as caught:
        write_card(bare, tmp_path / "card", ABOUT, plugins=plugins_with_it())
    assert "medzoo classify test" in caught.value.hint
    assert "--record" in caught.value.hint


def test_build_package_classifier(card: Path) -> None:
    package = pack(card)
    (row,) = tomllib.loads(entry_toml(package.entry))["model"]
    assert (row["kind"], row["plugin"], row["classes"]) == ("classifier", "nearest-mean", ["bright", "dark"])
    assert {file["name"]: file["sha256"] for file in row["files"]} == {
        path.name: sha256_file(path) for path in card.iterdir() if path.name != "fingerprints.json"
    }


def spoil_text(old: str, new: str) -> Callable[[Path], None]:
    def spoil(card: Path) -> None:
        text = (card / "README.md").read_text()
        assert old in text
        (card / "README.md").write_text(text.replace(old, new))

    return spoil


def unsound_weights(card: Path) -> None:
    """Weights that load, and of which no probability comes."""
    tensors = load_file(card / "model.safetensors")
    save_file({"means": tensors["means"] * torch.nan}, card / "model.safetensors", metadata={"format": "pt"})
    description = json.loads((card / "config.json").read_text())
    description["weights_sha256"] = sha256_file(card / "model.safetensors")
    (card / "config.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_text("| accuracy | 1 |", "| accuracy | 0.99 |"), r"states '\| accuracy \| 0.99 \|', which no run"),
        (spoil_text("recall dark, 6 images", "recall dark, 60 images"), "which no run recorded"),
        (spoil_text("## Held-out scores", "## Other"), "has no section 'Held-out scores'"),
        (spoil_text("not for diagnosis", "for diagnosis"), "disclaimer is missing"),
        (lambda card: (card / "samples.png").write_bytes(b"x"), "contains samples.png"),
        (unsound_weights, "the weights means in .* are NaN: the model diverged"),
    ],
)
def test_build_package_classifier_problems(card: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(card)
    with pytest.raises(DataError, match=message):
        pack(card)


def test_build_package_kind_differs_from_entry(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = entry_toml(pack(card).entry).replace('kind = "classifier"\n', "")
    (tmp_path / "registry.toml").write_text(text)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "registry.toml"))
    with pytest.raises(DataError, match=r"kind is classifier in config\.json, but generator in the registry entry"):
        pack(card)


def test_publish_classifier(card: Path, tmp_path: Path, hub_server: HubServer) -> None:
    done = publish(pack(card), create=True, private=False, force=False)
    files = hub_server.store.repos["acme/tiny-tell"].commits[done.commit].files
    assert {name for name in files if name[0] != "."} == {"README.md", "config.json", "model.safetensors"}
    (tmp_path / "cards").mkdir()
    (tmp_path / "card").rename(tmp_path / "cards" / "tiny-tell")
    (tmp_path / "registry.toml").write_text(entry_toml(done.entry))
    assert check_registry([tmp_path / "registry.toml"], plugins_with_it())[1] == []
