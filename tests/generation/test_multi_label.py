"""Several labels per image, from the CSV to the samples: trained, sampled one by one and together, read again."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import medzoo as package
from medzoo.data.dataset import open_dataset
from medzoo.data.images import decode, write_image
from medzoo.errors import DataError, UnknownName
from medzoo.generation.plan import PlannedImage, check_folders
from medzoo.models.labels import join_labels, label_tensor, split_label
from medzoo.specs import ImageSpec

SIZE = 16
# Where on the image each finding shows, and the labels that the images carry; the last ones have no finding at all.
CORNERS = {"atelectasis": (0, 0), "edema": (0, 8), "effusion": (8, 0)}
LABELS = ("atelectasis", "edema", "effusion", "edema|effusion", "effusion|atelectasis", "", "")

PLUGIN = '''
"""`quilt`: a base image to which every label adds what it adds on average, by least squares."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medzoo import GeneratorSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class QuiltConfig:
    image: ImageSettings = ImageSettings()
    grain: float = setting(0.02, "standard deviation of the noise")


class Quilt(nn.Module):
    def __init__(self, config, image, device):
        super().__init__()
        self.image, self.grain = image, config.grain
        self.register_buffer("base", torch.rand(image.channels, image.size, image.size))
        self.register_buffer("effect", torch.rand(len(image.classes), image.channels, image.size, image.size))

    def fit(self, data, *, seed, callback, checkpoints):
        labels = torch.from_numpy(data.labels)
        assert labels.dtype == torch.float32 and labels.shape == (len(data), len(data.classes))
        images = torch.stack([torch.from_numpy(data[k]) for k in range(len(data))]).float() / 255.0
        design = torch.cat([labels, torch.ones(len(data), 1)], dim=1)
        found = torch.linalg.lstsq(design, images.flatten(1)).solution.view(-1, *images.shape[1:])
        self.effect, self.base = found[:-1], found[-1]
        loss = (design @ found.flatten(1) - images.flatten(1)).square().mean()
        callback.on_step_end(1, 1, {"loss": float(loss), "learning_rate": 1.0})
        callback.on_preview(1, self.sample)

    @torch.inference_mode()
    def sample(self, seeds, labels, *, init_images=None):
        assert labels.dtype == torch.float32 and labels.shape == (len(seeds), len(self.image.classes))
        noise = [torch.randn(self.base.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        added = torch.einsum("nk,kchw->nchw", labels, self.effect)
        return (self.base + added + self.grain * torch.stack(noise)).clamp(0.0, 1.0)


@hookimpl
def register_generators():
    presets = Path(__file__).parent / "presets"
    return [
        GeneratorSpec(
            contract=2,
            name="quilt",
            summary="labels add up",
            config=QuiltConfig,
            presets=presets,
            build=Quilt,
            multi_label=True,
        )
    ]
'''


@pytest.fixture
def quilt(install_plugin):
    site = install_plugin("quilt", PLUGIN)
    (site / "presets").mkdir()
    for preset in ("tiny", "default"):
        (site / "presets" / f"{preset}.toml").write_text(f"[image]\nsize = {SIZE}\n")


@pytest.fixture
def table(tmp_path):
    """A CSV of dark images with a bright square for each of their labels."""
    random = np.random.default_rng(0)
    with (tmp_path / "findings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for number, label in enumerate(LABELS * 3):
            pixels = random.integers(20, 40, (1, SIZE, SIZE), np.uint8)
            for name in filter(None, label.split("|")):
                top, left = CORNERS[name]
                pixels[:, top : top + 8, left : left + 8] += 128
            write_image(tmp_path / f"scan-{number}.png", pixels)
            rows.writerow((f"scan-{number}.png", label))
    return tmp_path / "findings.csv"


@pytest.fixture
def run(quilt, table, medzoo, tmp_path):
    """The folder of a trained model."""
    outcome = medzoo("train", "quilt", "--data", table, "--out", tmp_path / "run", "--preset", "tiny")
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


def shown(pixels):
    """The findings that an image shows: where it is bright."""
    found = {name: pixels[top : top + 8, left : left + 8].mean() for name, (top, left) in CORNERS.items()}
    return {name for name, brightness in found.items() if brightness > 100}


def pictures(folder):
    """What each picture of a folder shows, by the name of its class folder."""
    found = {}
    for path in sorted(folder.glob("*/*.png")):
        found.setdefault(path.parent.name, []).append(shown(decode(path)))
    return found


def test_train_multi_label_csv(run):
    description = json.loads((run / "config.json").read_text())
    assert description["image"]["multi_label"] is True
    counts = {"atelectasis": 6, "edema": 6, "effusion": 9}
    assert json.loads((run / "run.json").read_text())["data"]["counts"] == description["data"]["counts"] == counts
    preview = decode(run / "samples" / "step-00000001.png")
    assert preview.shape[0] > 3 * 4 * SIZE  # one row a class, four times as large


def test_sample_multi_label_each_class(run, medzoo, tmp_path):
    assert medzoo("sample", run, "--n", 3, "--out", tmp_path / "out").code == 0
    assert pictures(tmp_path / "out") == {name: [{name}] * 3 for name in CORNERS}


@pytest.mark.parametrize("given", [("effusion", "edema"), ("edema", "effusion", "edema")])
def test_sample_multi_label_joined(run, medzoo, tmp_path, given):
    chosen = [word for label in given for word in ("--label", label)]
    outcome = medzoo("sample", run, *chosen, "--n", 5, "--out", tmp_path / "out", "--json")
    assert json.loads(outcome.out)["counts"] == {"edema|effusion": 5}
    assert pictures(tmp_path / "out") == {"edema+effusion": [{"edema", "effusion"}] * 5}
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").read_text().splitlines()))
    assert {row["label"] for row in rows} == {"edema|effusion"}
    again = open_dataset(tmp_path / "out" / "metadata.csv")
    assert again.multi_label
    assert again.counts() == {"edema": 5, "effusion": 5}
    assert len(again.verify()) == 5
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["counts"] == {"edema|effusion": {"real": 0, "synthetic": 5}}


def test_sample_multi_label_order(run, medzoo, tmp_path):
    for labels in (("edema", "effusion"), ("effusion", "edema")):
        chosen = [word for label in labels for word in ("--label", label)]
        outcome = medzoo("sample", run, *chosen, "--n", 2, "--out", tmp_path / "out", "--grid", tmp_path / "grid.png")
        assert outcome.code == 0, outcome.err
    assert "already sampled" in outcome.err
    assert (tmp_path / "grid.png").exists()


def test_sample_multi_label_subset(run, medzoo, tmp_path):
    assert medzoo("sample", run, "--n", 2, "--out", tmp_path / "all").code == 0
    assert medzoo("sample", run, "--n", 2, "--out", tmp_path / "one", "--label", "edema").code == 0
    for path in (tmp_path / "one" / "edema").iterdir():
        assert path.read_bytes() == (tmp_path / "all" / "edema" / path.name).read_bytes()


def test_sample_multi_label_unknown_class(run, medzoo):
    outcome = medzoo("sample", run, "--label", "edema", "--label", "efusion")
    assert outcome.code == 2
    assert "did you mean effusion?" in outcome.err


SETS = {"": 6, "atelectasis": 3, "atelectasis|effusion": 3, "edema": 3, "edema|effusion": 3, "effusion": 3}


def test_augment_multi_label_in_proportion(run, table, medzoo, tmp_path):
    outcome = medzoo("augment", "--gen", run, "--data", table, "--to", 51, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert "images have several labels: --to 51 counts all images" in outcome.err
    counts = {row["label"]: (row["real"], row["synthetic"]) for row in json.loads(outcome.out)["classes"]}
    # 30 images are added; those without a label are kept, and none is added.
    assert counts == {label: (count, 6 if label else 0) for label, count in SETS.items()}
    synthetic = {path.parent.name: shown(decode(path)) for path in (tmp_path / "out").glob("*/synthetic-*")}
    assert synthetic == {"+".join(names): set(names) for names in (label.split("|") for label in SETS if label)}
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").read_text().splitlines()))
    assert len(rows) == 51
    assert {row["labels"] for row in rows if row["file_name"].startswith("no-label/")} == {""}
    again = medzoo("augment", "--gen", run, "--data", table, "--to", 51, "--out", tmp_path / "out")
    assert "already finished" in again.err
    assert "(no label)" in again.out


def test_augment_multi_label_is_read_back(run, table, medzoo, tmp_path):
    assert medzoo("augment", "--gen", run, "--data", table, "--to", 26, "--out", tmp_path / "out").code == 0
    read, real = open_dataset(tmp_path / "out"), open_dataset(table)
    assert read.multi_label
    assert read.classes == real.classes
    assert {name: count - real.counts()[name] for name, count in read.counts().items()} == {
        "atelectasis": 2,
        "edema": 2,
        "effusion": 3,
    }
    assert len(read) == len(read.verify()) == 26
    assert len(read.synthetic) == 5


def test_as_dataset_of_label_sets(run, table, medzoo, tmp_path):
    """Its images are those that augment adds."""
    found = package.as_dataset(run, per_class={"effusion|edema": 1, "edema": 1, "atelectasis": 0})
    assert found.targets == [[0, 1, 0], [0, 1, 1]]
    assert medzoo("augment", "--gen", run, "--data", table, "--to", 26, "--out", tmp_path / "out").code == 0
    for (image, _), folder in zip(found, ("edema", "edema+effusion"), strict=True):
        path = next((tmp_path / "out" / folder).glob("synthetic-*-000000.png"))
        assert (np.rint(image[0].numpy() * 255) == decode(path)).all()
    with pytest.raises(UnknownName, match="did you mean edema"):
        package.as_dataset(run, per_class={"effusion|edem": 1})


def test_augment_multi_label_by_oversampling(run, table, medzoo, tmp_path):
    """Generators without weights vary the images of the same set of labels, also beside a trained one."""
    gens = ("--gen", "duplicate=0.5", "--gen", f"{run}=0.5")
    assert medzoo("augment", *gens, "--data", table, "--to", 41, "--out", tmp_path / "out").code == 0
    for path in (tmp_path / "out").glob("*/synthetic-*"):
        assert shown(decode(path)) == set(path.parent.name.split("+"))
    assert len(list((tmp_path / "out").glob("*/synthetic-duplicate-*"))) == 10
    alone = medzoo("augment", "--gen", "classic", "--data", table, "--to", 22, "--out", tmp_path / "one")
    assert alone.code == 0, alone.err


def test_augment_multi_label_is_refused(table, run, model, medzoo, tmp_path):
    given = ("--data", table, "--to", 50, "--out", tmp_path / "out")
    outcome = medzoo("augment", "--gen", model, *given)
    assert outcome.code == 5
    assert "'tiny' makes images of one label each, but those of" in outcome.err
    assert "medzoo train latent-ddpm --data" in outcome.err
    outcome = medzoo("augment", "--gen", run, "--select", "random", *given)
    assert outcome.code == 2
    assert "--select takes one label per image, but the data has several" in outcome.err
    outcome = medzoo("augment", "--gen", run, "--originals", "omit", "--data", table, "--to", 5)
    assert "there are 21 images and --originals omit leaves none to write" in outcome.err


def test_data_check_multi_label(table, medzoo, tmp_path):
    outcome = medzoo("data", "check", table)
    assert "sets of labels: 6" in outcome.out
    report = json.loads(medzoo("data", "check", table, "--out", tmp_path / "checked", "--json").out)
    page = (tmp_path / "checked" / "report.html").read_text()
    assert "Sets of labels: 6" in page
    assert "6 images with 0 labels, 9 images with 1 label, 6 images with 2 labels" in page
    assert "edema + effusion" in page
    assert report["label_sets"] == {label or "no label": count for label, count in SETS.items()}
    assert report["labels_per_image"] == {"0": 6, "1": 9, "2": 6}


def test_check_folders_of_long_sets():
    check_folders(["a|b"])
    with pytest.raises(DataError, match="together are too long for a folder's name"):
        check_folders(["|".join(f"finding-{number:02d}" for number in range(30))])


def test_label_tensor_multi_hot():
    image = ImageSpec(size=8, channels=1, classes=("a", "b", "c"), multi_label=True)
    hot = label_tensor(image, ["b", "a|c"])
    assert hot.dtype == torch.float32
    assert hot.tolist() == [[0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match="not in tuple"):
        label_tensor(image, ["a|d"])
    assert label_tensor(ImageSpec(size=8, channels=1, classes=("a", "b")), ["b", "a"]).tolist() == [1, 0]


def test_planned_image_file_of_several_labels():
    assert split_label(join_labels(("a", "b"))) == ["a", "b"]
    picture = PlannedImage(generator=0, generator_name="g", label="a|b", index=7)
    assert picture.file == "a+b/synthetic-g-000007.png"


ABOUT = """
id = "quilt-findings"
title = "Findings"
summary = "Squares."
modality = "simulated"
dataset = "findings"
dataset_text = "Dark images with a bright square a finding."
license = "apache-2.0"
intended_use = "Tests."
limits = "Everything."
train_command = "medzoo train quilt"
"""


def test_card_of_a_multi_label_model(run, medzoo, tmp_path, monkeypatch):
    (tmp_path / "about.toml").write_text(ABOUT)
    card = tmp_path / "cards" / "quilt-findings"
    outcome = medzoo("card", run, "--about", tmp_path / "about.toml", "--out", card)
    assert outcome.code == 0, outcome.err
    assert "| effusion | 9 |" in (card / "README.md").read_text()
    (tmp_path / "registry.toml").write_text(outcome.out)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "registry.toml"))
    monkeypatch.setenv("MEDZOO_MIRROR", str(tmp_path / "cards"))
    assert any(row["id"] == "quilt-findings" for row in json.loads(medzoo("list", "--json").out))
    chosen = ("--label", "edema", "--label", "effusion")
    assert medzoo("sample", "quilt-findings", *chosen, "--n", 2, "--out", tmp_path / "out").code == 0
    assert pictures(tmp_path / "out") == {"edema+effusion": [{"edema", "effusion"}] * 2}
    facts = json.loads(medzoo("show", "quilt-findings", "--json").out)
    assert facts["classes"] == sorted(CORNERS)
    assert facts["training"]["data counts"]["effusion"] == 9
    assert json.loads(medzoo("show", "quilt", "--json").out)["models"] == ["quilt-findings"]
