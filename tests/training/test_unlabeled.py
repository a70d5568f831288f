"""Training on images without labels: what is learned from, recorded, resumed and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import medzoo
from medzoo.data.dataset import open_dataset
from medzoo.data.phantom import CLASSES, write_phantom
from medzoo.errors import ConfigError, DataError, MedzooError
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import Progress
from medzoo.specs import ImageSpec
from medzoo.toolkit.training.batches import epoch_order
from medzoo.training.checkpoints import checkpoints, load_checkpoint
from medzoo.training.unlabeled import open_unlabeled_images, training_view

COUNTS = dict(zip(CLASSES, (5, 4, 3, 3), strict=True))
SHORT = {"training.epochs": 4, "training.batch_size": 8, "training.checkpointing_steps": 3}


class Stop(Exception):
    """Ends a run from inside, as a power cut would."""


def stop_at(last: int) -> Progress:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == last:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("udder") / "images"
    write_phantom(root, counts=COUNTS, size=32, seed=5)
    return root


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Nine images: some beside the subfolders, and a copy of a labeled one."""
    root = tmp_path_factory.mktemp("further") / "further"
    write_phantom(root, counts=dict.fromkeys(CLASSES, 2), size=32, seed=6)
    for file in sorted((root / CLASSES[0]).iterdir()):
        shutil.move(file, root / f"loose-{file.name}")
    (root / CLASSES[0]).rmdir()
    shutil.copy(next((data / CLASSES[1]).iterdir()), root / "copy.png")
    return root


def train(data: Path, out: Path, generator: str = "ddpm", **options: object) -> medzoo.TrainResult:
    settings = {**SHORT, **options.pop("settings", {})}
    return medzoo.train(generator, data=data, out=out, preset="tiny", settings=settings, device="cpu", **options)


@pytest.fixture(scope="module")
def finished(data: Path, further: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("whole") / "run", unlabeled=further, keep=0).folder


def test_open_unlabeled_images_takes_subfolders_and_leaves_out_labeled_ones(data, further, caplog):
    caplog.set_level("INFO", logger="medzoo")
    found = open_unlabeled_images(further, open_dataset(data))
    assert len(found) == 8
    assert "left out 1 images in" in caplog.text
    assert f"also training on 8 images without labels in {further}, 6 of them in its subfolders" in caplog.text


def test_training_view_gives_the_null_label(data, further):
    labeled = open_dataset(data)
    unlabeled = open_unlabeled_images(further, labeled)
    image = ImageSpec(size=16, channels=1, classes=labeled.classes)
    view = training_view(labeled, unlabeled, image, crop="none")
    assert len(view) == 15 + 8
    assert view.labels.tolist() == [*labeled.view(image, crop="none").labels, *[4] * 8]
    assert view.labels.dtype == np.int64
    assert view[15].shape == (1, 16, 16)
    assert not np.array_equal(view[15], view[14])
    assert training_view(labeled, None, image, crop="none").labels.tolist() == view.labels[:15].tolist()
    several = training_view(labeled, unlabeled, ImageSpec(**{**vars(image), "multi_label": True}), crop="none")
    assert several.labels.dtype == np.float32
    assert several.labels[:15].sum() == 15
    assert (several.labels[15:] == -1).all()


def test_train_unlabeled_records_lineage(finished, data, further):
    labeled = open_dataset(data)
    unlabeled = open_unlabeled_images(further, labeled)
    known = json.loads((finished / "fingerprints.json").read_text())["images"]
    assert known == sorted({*labeled.fingerprints(), *unlabeled.fingerprints()})
    description = json.loads((finished / "config.json").read_text())
    assert description["data"]["size"] == 15
    assert description["data"]["unlabeled"]["size"] == 8
    assert "path" not in description["data"]["unlabeled"]
    record = json.loads((finished / "run.json").read_text())
    assert record["data"]["counts"] == COUNTS
    assert record["data"]["unlabeled"]["path"] == str(further)
    assert record["data"]["unlabeled"]["size"] == 8
    model = load_model(finished, plugins=load_plugins(), device="cpu")
    assert set(unlabeled.fingerprints()) <= model.trained_on
    assert model.model.sample([1], torch.tensor([2])).isfinite().all()
    real = further.parent / "real"
    shutil.copytree(further, real, ignore=shutil.ignore_patterns("loose*", "copy*"))
    with pytest.raises(DataError, match="'run' was trained on 6 of the 6 real images"):
        medzoo.evaluate(finished, real=real, per_class=1, metrics=["intensity"])


@pytest.mark.parametrize("generator", ["ddpm", "ldm"])
def test_train_unlabeled_resumes_with_the_same_weights(generator, data, further, tmp_path):
    whole = train(data, tmp_path / "whole", generator, unlabeled=further).folder
    with pytest.raises(Stop):
        train(data, tmp_path / "killed", generator, unlabeled=further, progress=stop_at(8))
    resumed = train(data, tmp_path / "killed", generator, unlabeled=further)
    assert resumed.record["resumed_at_step"] > 0
    states = [load_file(folder / "model.safetensors") for folder in (whole, resumed.folder)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(DataError, match=r"holds another job: its data\.unlabeled\.\w+ is"):
        train(data, tmp_path / "killed", generator)


def test_load_checkpoint_reopens_unlabeled_images(finished, data, further, tmp_path):
    first = checkpoints(finished)[0]
    labeled = open_dataset(data)
    model = load_checkpoint(finished, first, plugins=load_plugins(), device="cpu", data=labeled)
    assert model.model.sample([1], torch.tensor([2])).isfinite().all()
    assert set(open_unlabeled_images(further, labeled).fingerprints()) <= model.trained_on
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    record = json.loads((moved / "run.json").read_text())
    record["data"]["unlabeled"]["path"] = str(data)
    (moved / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="are among the labeled ones"):
        load_checkpoint(moved, first, plugins=load_plugins(), device="cpu", data=labeled)
    (moved / "run.json").unlink()
    with pytest.raises(DataError, match="trained on images without labels too"):
        load_checkpoint(moved, first, plugins=load_plugins(), device="cpu", data=labeled)


def test_train_unlabeled_refuses(data, further, tmp_path):
    def error(kind: type[MedzooError], **options: object) -> str:
        with pytest.raises(kind) as caught:
            train(data, tmp_path / "run", **{"unlabeled": further, **options})
        return f"{caught.value.message}; {caught.value.hint}"

    dcgan = "'dcgan' cannot be trained on images without labels; leave --unlabeled out; "
    assert error(ConfigError, generator="dcgan") == f"{dcgan}ddpm, ddpm-var, latent-ddpm, ldm can"
    assert "'cnn' cannot be trained on images without labels" in error(ConfigError, generator="cnn")
    assert "diffusion.label_dropout = 0" in error(ConfigError, settings={"diffusion.label_dropout": 0.0})
    assert "does not exist; give --unlabeled a folder" in error(DataError, unlabeled=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in error(DataError, unlabeled=tmp_path / "empty")
    assert "all 15 images in" in error(DataError, unlabeled=data)
    assert not (tmp_path / "run").exists()


def test_train_unlabeled_refuses_held_out_images(data, tmp_path):
    shutil.copytree(data, tmp_path / "set" / "train")
    write_phantom(tmp_path / "set" / "test", counts=dict.fromkeys(CLASSES, 1), size=32, seed=9)
    further = tmp_path / "further"
    further.mkdir()
    held_out = next((tmp_path / "set" / "test" / CLASSES[0]).iterdir())
    brighter = np.asarray(Image.open(held_out).convert("L")).astype(int) + 3
    Image.fromarray(brighter.clip(0, 255).astype(np.uint8)).save(further / "brighter.png")
    told = r"1 of the 1 images in .* show the same as test images of .*, such as brighter"
    with pytest.raises(DataError, match=told):
        train(tmp_path / "set", tmp_path / "run", unlabeled=further)


def test_epoch_order_balances_unlabeled_images_as_a_class():
    labels = torch.tensor([0] * 10 + [1] * 30 + [2] * 160)  # two classes, and the null label
    drawn = labels[epoch_order(labels, count=3000, balanced=True, seed=1, epoch=0)]
    assert torch.bincount(drawn).double().div(3000).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    several = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 30 + [[-1.0, -1.0]] * 160)
    drawn = several[epoch_order(several, count=3000, balanced=True, seed=1, epoch=0)]
    shares = [float((drawn == torch.tensor(row)).all(dim=1).double().mean()) for row in ((1, 0), (0, 1), (-1, -1))]
    assert shares == pytest.approx([200 / 560, 200 / 560, 160 / 560], abs=0.03)
