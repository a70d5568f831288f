"""Synthetic images as a torch Dataset: the same bits in any order and in any worker."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers.from_python import FINDINGS, as_uint8, make_untrained, pngs
from helpers.tiny import CLASSES
from helpers.tiny_labels import LABELS_PLUGIN
from torch.utils.data import ConcatDataset, DataLoader
from torchvision.datasets import ImageFolder

from medzoo import as_dataset, load
from medzoo.data.images import decode
from medzoo.errors import ConfigError, MedzooError, ResourceError, UnknownName
from medzoo.generation.sampler import Sampler
from medzoo.generation.synthetic_dataset import SyntheticImages


def stacked(dataset, order=None):
    """Every image of a dataset, asked for in this order, in the dataset's."""
    images = {index: dataset[index][0] for index in (order or range(len(dataset)))}
    return torch.stack([images[index] for index in range(len(dataset))])


@pytest.fixture
def dataset(model):
    """Seven synthetic images of each class, drawn four at a time; the same ones at every call."""

    def make(**changed):
        given = {"per_class": 7, "seed": 3, "batch_size": 4, "device": "cpu"}
        return as_dataset(model, **{**given, **changed})

    return make


def test_synthetic_images_like_image_folder(dataset):
    synthetic = dataset()
    assert isinstance(synthetic, torch.utils.data.Dataset)
    assert len(synthetic) == 21
    assert synthetic.classes == list(CLASSES)
    assert synthetic.class_to_idx == {name: index for index, name in enumerate(CLASSES)}
    assert synthetic.targets == [0] * 7 + [1] * 7 + [2] * 7
    image, label = synthetic[8]
    assert (image.shape, image.dtype, type(label), label) == ((1, 16, 16), torch.float32, int, 1)
    assert 0 <= image.min() < image.max() <= 1
    assert torch.equal(synthetic[-1][0], synthetic[20][0])
    for index in (21, -22):
        with pytest.raises(IndexError):
            synthetic[index]


def test_synthetic_images_match_sample(medzoo, dataset, model, tmp_path):
    out = tmp_path / "drawn"
    options = ("--n", 7, "--seed", 3, "--batch-size", 4, "--out", out, "--device", "cpu")
    assert medzoo("sample", model, *options).code == 0
    written = np.concatenate([pngs(out, label) for label in CLASSES])
    forwards, backwards = stacked(dataset()), stacked(dataset(), order=range(20, -1, -1))
    np.testing.assert_array_equal(as_uint8(forwards), written)
    assert torch.equal(forwards, backwards)


def test_synthetic_images_match_augment(medzoo, dataset, model, images, tmp_path):
    out = tmp_path / "filled"
    options = ("--data", images, "--to", 9, "--originals", "omit", "--seed", 3, "--batch-size", 4, "--out", out)
    assert medzoo("augment", "--gen", model, *options, "--device", "cpu").code == 0
    real = ImageFolder(images)
    lacking = {name: 9 - real.targets.count(real.class_to_idx[name]) for name in CLASSES}
    synthetic = dataset(per_class=lacking, classes=real.classes)
    assert synthetic.targets == [0] * 6 + [2] * 5
    written = np.concatenate([pngs(out, label) for label in ("narrow-canal", "thick-wall")])
    np.testing.assert_array_equal(as_uint8(stacked(synthetic)), written)


def test_synthetic_images_of_an_unknown_class(dataset):
    synthetic = dataset(per_class={"normal": 2, "swollen": 0}, classes=["swollen", "normal"])
    assert synthetic.targets == [1, 1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_synthetic_images_in_workers(dataset, method, monkeypatch):
    synthetic = dataset()
    monkeypatch.setattr(Sampler, "sample", None)
    loader = DataLoader(synthetic, batch_size=5, num_workers=2, multiprocessing_context=method)
    images, labels = map(torch.cat, zip(*loader, strict=True))
    assert torch.equal(images, stacked(synthetic))
    assert labels.tolist() == synthetic.targets


def test_synthetic_images_pickled(dataset):
    synthetic = dataset()
    data = pickle.dumps(synthetic)
    assert len(data) < 21 * 256 + 2000  # the images as uint8, and no model
    assert torch.equal(stacked(pickle.loads(data)), stacked(synthetic))


def test_synthetic_images_of_varied_real_images(images):
    varied = as_dataset("duplicate", per_class=9, data=images, device="cpu")
    originals = {decode(path).tobytes() for path in images.glob("*/*.png")}
    assert {image.tobytes() for image in as_uint8(stacked(varied))} == originals


def test_synthetic_images_progress(model):
    seen = []
    loaded = load(model, device="cpu")
    SyntheticImages(loaded, per_class=7, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 21), (4, 21), (8, 21), (12, 21), (16, 21), (20, 21), (21, 21)]


def test_synthetic_images_beside_real_images(dataset, images):
    def to_tensor(image):
        return torch.from_numpy(np.array(image.convert("L").resize((16, 16)), np.float32) / 255).unsqueeze(0)

    real = ImageFolder(images, transform=to_tensor)
    assert real.classes != list(CLASSES)
    synthetic = dataset(classes=real.classes)
    assert synthetic.class_to_idx == real.class_to_idx
    passes = []
    for _ in range(2):
        order = torch.Generator().manual_seed(0)
        loader = DataLoader(ConcatDataset([real, synthetic]), batch_size=6, shuffle=True, generator=order)
        shown, labels = map(torch.cat, zip(*loader, strict=True))
        assert shown.shape == (16 + 21, 1, 16, 16)
        assert labels.bincount().tolist() == [3 + 7, 9 + 7, 4 + 7]
        passes.append(shown)
    assert torch.equal(*passes)
    # A class drawn under the model's own number has the images it has under the folder's.
    index = real.class_to_idx["narrow-canal"]
    named = [image for image, label in synthetic if label == index]
    alone = dataset(labels="narrow-canal")
    assert alone.targets == [CLASSES.index("narrow-canal")] * 7
    assert (torch.stack(named) - stacked(alone)).abs().max() <= 1.01 / 255


def test_synthetic_images_transforms(dataset):
    synthetic = dataset(transform=lambda image: image.mean().item(), target_transform=str)
    plain = dataset()
    assert synthetic[3] == (plain[3][0].mean().item(), "0")


def test_synthetic_images_multi_label(install_plugin, tmp_path):
    install_plugin("quilt", LABELS_PLUGIN)
    quilt = make_untrained("quilt", tmp_path / "quilt", classes=FINDINGS, multi_label=True)
    together = as_dataset(quilt, per_class=2, labels=["edema", "effusion"], device="cpu")
    assert len(together) == 2
    label = together[1][1]
    assert (label.dtype, label.tolist()) == (torch.float32, [0.0, 1.0, 1.0])
    order = ["effusion", "edema", "atelectasis"]
    each = as_dataset(quilt, per_class=1, classes=order, device="cpu")
    assert each.targets == torch.eye(3).tolist()
    images, labels = next(iter(DataLoader(each, batch_size=3)))
    assert (images.shape, labels.shape) == ((3, 1, 16, 16), (3, 3))


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"per_class": 0}, ConfigError, "per_class=0"),
        ({"per_class": {"normal": 0}}, ConfigError, "samples nothing"),
        ({"per_class": {"normal": 3, "thick-wall": -1}}, ConfigError, "samples nothing"),
        ({"per_class": {"normel": 3}}, UnknownName, "did you mean normal"),
        ({"per_class": {"normal": 3}, "labels": "normal"}, ConfigError, "leave labels out"),
        ({"labels": ["normel"]}, UnknownName, "did you mean normal"),
        ({"labels": ["normal"], "classes": ["thick-wall"]}, UnknownName, "unknown class 'normal'"),
        ({"classes": ["normal", "abnormal"]}, UnknownName, "unknown class 'abnormal'"),
        ({"classes": ["normal", "normal"]}, ConfigError, "must be given and differ"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
        ({"memory_limit": 21 * 256 - 1}, ResourceError, "raise memory_limit"),
        ({"settings": {"sampling.num_inference_step": 1}}, UnknownName, "sampling.num_inference_steps"),
        ({"per_class": "7"}, ConfigError, "per_class='7' is not a whole number"),
        ({"per_class": {"normal": 2.5}}, ConfigError, "per_class['normal']=2.5 is not a whole number"),
        (
            {"per_class": {0: 2}},
            ConfigError,
            "per_class=[0] is not a list of names (classes go by their names: thick-wall",
        ),
        ({"labels": 0}, ConfigError, "labels=0 is not a list of names"),
        ({"labels": []}, ConfigError, "labels=[] names no class"),
        ({"classes": "normal"}, ConfigError, "classes='normal' is not a list of names"),
        ({"seed": "3"}, ConfigError, "seed='3' is not a whole number"),
        ({"batch_size": "4"}, ConfigError, "batch_size='4' is not a whole number"),
        ({"memory_limit": "2 GB"}, ConfigError, "memory_limit='2 GB' is not a whole number"),
        ({"transform": "flip"}, ConfigError, "transform='flip' is not a function"),
    ],
    ids=str,
)
def test_synthetic_images_invalid(dataset, changed, error, told):
    with pytest.raises(error) as caught:
        dataset(**changed)
    assert isinstance(caught.value, MedzooError)
    assert told in str(caught.value)


def test_synthetic_images_of_a_loaded_model(dataset, model):
    loaded = load(model, device="cpu")
    counts = {name: np.int64(7) for name in CLASSES}
    assert torch.equal(stacked(as_dataset(loaded, per_class=counts, seed=3, batch_size=4)), stacked(dataset()))
    for late in (
        {"device": "cpu"},
        {"settings": {"sampling.num_inference_steps": 2}},
        {"data": "scans"},
        {"source": "hub"},
    ):
        with pytest.raises(ConfigError, match=r"is loaded already.*give them to load"):
            as_dataset(loaded, per_class=1, **late)


def test_synthetic_images_of_a_name(model):
    with pytest.raises(ConfigError, match=r"model=.* is not a loaded model .load it"):
        SyntheticImages(str(model), per_class=1)
