"""medzoo from Python: the same models, images and folders as the verbs', as tensors and as a torch Dataset."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLASSES, make_model
from tiny_labels import LABELS_PLUGIN
from torch.utils.data import ConcatDataset, DataLoader
from torchvision.datasets import ImageFolder

import medzoo
from medzoo import config
from medzoo.errors import ConfigError, DataError, HubError, MedzooError, ResourceError, UnknownName
from medzoo.images import decode
from medzoo.phantom import write_phantom
from medzoo.pipelines.drawing import Studio
from medzoo.pipelines.models import build_generator, save_model
from medzoo.plugins import load_plugins
from medzoo.specs import ImageSpec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny model's folder."""
    return str(make_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """Class folders with 5, 4 and 3 simulated images."""
    folder = tmp_path_factory.mktemp("scans") / "scans"
    write_phantom(folder, counts={"normal": 5, "thick-wall": 4, "narrow-canal": 3}, size=16, seed=5)
    return folder


@pytest.fixture
def quilt(install_plugin, tmp_path):
    """A multi-label model's folder, of an installed plugin."""
    install_plugin("quilt", LABELS_PLUGIN)
    return untrained("quilt", tmp_path / "quilt-model", classes=("atelectasis", "edema", "effusion"), multi_label=True)


def untrained(plugin, folder, *, classes, multi_label=False):
    """The folder of an untrained model of an installed plugin."""
    spec = load_plugins().generator(plugin)
    resolved = config.resolve(spec.config, presets=spec.presets)
    image = ImageSpec(size=16, channels=1, classes=classes, multi_label=multi_label)
    generator = build_generator(spec, resolved, image, device="cpu")
    save_model(folder, generator, spec=spec, config=resolved, data={"name": "test", "images": []})
    return str(folder)


def pngs(folder, label):
    """The synthetic images of a class that a verb wrote, in order: uint8 (N, 1, H, W)."""
    return np.stack([decode(path)[None] for path in sorted((Path(folder) / label).glob("synthetic-*.png"))])


def as_uint8(images):
    assert images.dtype == torch.float32
    return (images * 255).round().to(torch.uint8).numpy()


def stacked(dataset, order=None):
    """Every image of a dataset, asked for in this order, in the dataset's."""
    images = {index: dataset[index][0] for index in (order or range(len(dataset)))}
    return torch.stack([images[index] for index in range(len(dataset))])


# The package


def test_importing_and_listing_load_no_heavy_library():
    program = (
        "import sys, medzoo; light = set(sys.modules)\n"
        "assert 'load' in dir(medzoo)\n"
        "assert medzoo.list_models('udder', kind='classifier')[0].id == 'cnn-udder'\n"
        "heavy = {'torch', 'numpy', 'PIL', 'huggingface_hub', 'typer'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 'medzoo.api' in light)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_no_other():
    assert set(medzoo.__all__) <= set(dir(medzoo))
    assert not [name for name in medzoo.__all__ if getattr(medzoo, name) is None]
    with pytest.raises(AttributeError, match="module 'medzoo' has no attribute 'lood'"):
        medzoo.lood  # noqa: B018


def test_every_public_function_and_class_is_documented():
    assert not [name for name in medzoo.__all__ if not getattr(medzoo, name).__doc__]


# list_models


@pytest.mark.parametrize(
    ("words", "facts", "options"),
    [
        ((), {}, ()),
        (("Breast", "token"), {}, ("Breast", "token")),
        ((), {"modality": "Ultrasound"}, ("--modality", "ultrasound")),
        ((), {"plugin": "ddpm", "dataset": "busi"}, ("--plugin", "ddpm", "--dataset", "busi")),
        ((), {"classes": "benign"}, ("--class", "benign")),
        ((), {"classes": ["benign", "NORMAL"]}, ("--class", "benign", "--class", "normal")),
        ((), {"kind": "classifier", "license": "apache-2.0"}, ("--kind", "classifier", "--license", "apache-2.0")),
        (("nowhere",), {}, ("nowhere",)),
    ],
    ids=str,
)
def test_listed_models_are_those_the_verb_lists(medzoo, words, facts, options):
    from medzoo import list_models

    rows = json.loads(medzoo("list", "--json", *options).out)
    listed = list_models(*words, **facts)
    assert [row.id for row in listed] == [row["id"] for row in rows if row["kind"] != "asset"]
    assert bool(listed) == (words != ("nowhere",))


@pytest.mark.parametrize(
    ("facts", "near"),
    [
        ({"modality": "ultrasond"}, "ultrasound"),
        ({"classes": "benin"}, "benign"),
        ({"kind": "clasifier"}, "classifier"),
        ({"license": "apache"}, "apache-2.0"),
    ],
)
def test_a_fact_no_model_has_is_refused_with_the_nearest(facts, near):
    with pytest.raises(UnknownName, match=f"did you mean .*{near}"):
        medzoo.list_models(**facts)


def test_a_broken_plugin_is_told_of(install_plugin, capsys):
    before = medzoo.list_models()
    install_plugin("foreign", "raise OSError('no')")
    assert medzoo.list_models() == before
    assert "broken plugins: foreign" in capsys.readouterr().err
    told = []
    medzoo.list_models(notice=told.append)
    assert len(told) == 1
    assert capsys.readouterr().err == ""


# load and sample


@pytest.mark.parametrize("labels", [None, ("normal", "thick-wall"), "narrow-canal"], ids=str)
def test_sampled_images_are_those_the_verb_writes(request, tiny, tmp_path, labels):
    verb = request.getfixturevalue("medzoo")
    named = CLASSES if labels is None else (labels,) if isinstance(labels, str) else labels
    asked = [] if labels is None else [option for label in named for option in ("--label", label)]
    out = tmp_path / "drawn"
    assert (
        verb("sample", tiny, *asked, "--n", 4, "--seed", 3, "--batch-size", 5, "--out", out, "--device", "cpu").code
        == 0
    )
    model = medzoo.load(tiny, device="cpu")
    images, found = model.sample(labels, n=4, seed=3, batch_size=5)
    assert images.shape == (4 * len(named), 1, 16, 16)
    assert found.dtype == torch.int64
    assert found.tolist() == [CLASSES.index(label) for label in named for _ in range(4)]
    np.testing.assert_array_equal(as_uint8(images), np.concatenate([pngs(out, label) for label in named]))


def test_a_loaded_model_says_what_it_is(tiny):
    model = medzoo.load(Path(tiny), device="cpu", settings={"sampling.steps": 2, "sampling.precision": "fp32"})
    record = json.loads((Path(tiny) / "config.json").read_text())
    assert (model.name, model.plugin, model.classes, model.device) == ("tiny", "ddpm", CLASSES, "cpu")
    assert model.image == ImageSpec(size=16, channels=1, classes=CLASSES)
    assert model.weights_sha256 == record["weights_sha256"]
    assert (model.settings["sampling.steps"], model.settings["sampling.precision"]) == (2, "fp32")
    assert "name='tiny'" in repr(model)
    assert isinstance(model.generator, medzoo.Generator)


def test_a_multi_label_model_shows_all_labels_together(request, quilt, tmp_path):
    verb = request.getfixturevalue("medzoo")
    out = tmp_path / "drawn"
    labels = ("--label", "effusion", "--label", "edema")
    assert verb("sample", quilt, *labels, "--n", 3, "--out", out, "--device", "cpu").code == 0
    model = medzoo.load(quilt, device="cpu")
    images, found = model.sample(["effusion", "edema"], n=3)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.0, 1.0, 1.0]] * 3
    np.testing.assert_array_equal(as_uint8(images), pngs(out, "edema+effusion"))
    assert model.sample(n=2).labels.tolist() == torch.eye(3).repeat_interleave(2, dim=0).tolist()


def test_real_images_are_varied_as_by_the_verb(request, scans, tmp_path):
    verb = request.getfixturevalue("medzoo")
    out = tmp_path / "varied"
    assert verb("sample", "classic", "--data", scans, "--n", 7, "--out", out, "--device", "cpu").code == 0
    model = medzoo.load("classic", data=str(scans), device="cpu")
    assert model.weights_sha256 is None
    np.testing.assert_array_equal(as_uint8(model.sample("normal", n=7).images), pngs(out, "normal"))


def test_a_trained_generator_that_varies_real_images_is_given_them(install_plugin, scans, tmp_path):
    source = LABELS_PLUGIN.replace("quilt", "haze").replace("multi_label=True", "needs_sources=True")
    install_plugin("haze", source.replace('torch.einsum("nk,kchw->nchw", labels, self.effect)', "10 * sources"))
    folder = untrained("haze", tmp_path / "model", classes=CLASSES)
    assert medzoo.load(folder, data=scans, device="cpu").sample(n=2).images.shape == (6, 1, 16, 16)
    with pytest.raises(DataError, match="no real images"):
        medzoo.load(folder, device="cpu")


def test_what_cannot_be_loaded_is_refused(tiny, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="did you mean dcgan-busi"):
        medzoo.load("dcgan-bussi")
    with pytest.raises(ConfigError, match="'cnn-busi' is a classifier, and a generator is needed"):
        medzoo.load("cnn-busi")
    with pytest.raises(DataError, match="no real images"):
        medzoo.load("classic")
    with pytest.raises(ConfigError, match="varies no real images"):
        medzoo.load(tiny, data=scans)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        medzoo.load(tiny, device="gpu")
    with pytest.raises(HubError):
        medzoo.load("dcgan-busi", source=str(tmp_path))
    with pytest.raises(ConfigError, match=r"send real images to api\.openai\.com.*--allow-upload"):
        medzoo.load("api-variation", data=scans)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sampling.step": 3}, "did you mean sampling.steps"),
        ({"sampling.steps": "three"}, "is not a whole number"),
        ({"sampling.steps": None}, "settings cannot take sampling.steps: None"),
        ({"sampling": {"steps": 3}}, 'as in {"sampling.steps": 20}'),
        ({"sampling.guidance": object()}, "settings cannot take sampling.guidance"),
        ({"network.layers": 2}, "cannot change in a trained model"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(tiny, settings, told):
    with pytest.raises(ConfigError) as caught:
        medzoo.load(tiny, device="cpu", settings=settings)
    assert told in str(caught.value)


def test_samples_that_cannot_be_are_refused(tiny):
    model = medzoo.load(tiny, device="cpu")
    with pytest.raises(UnknownName, match=r"unknown class 'normel'.*did you mean normal"):
        model.sample("normel")
    with pytest.raises(ConfigError, match="n=0"):
        model.sample(n=0)
    with pytest.raises(ConfigError, match="batch_size=0"):
        model.sample(batch_size=0)


# augment


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


@pytest.mark.parametrize(
    ("gen", "options"),
    [
        (lambda tiny: tiny, lambda tiny: ("--gen", tiny)),
        (
            lambda tiny: {tiny: 0.25, "duplicate": 0.75},
            lambda tiny: ("--gen", f"{tiny}=0.25", "--gen", "duplicate=0.75"),
        ),
        (lambda tiny: [f"{tiny}=1/2", "classic=1/2"], lambda tiny: ("--gen", f"{tiny}=1/2", "--gen", "classic=1/2")),
    ],
    ids=["one", "mapping", "sequence"],
)
def test_augment_fills_the_folder_that_the_verb_fills(request, tiny, scans, tmp_path, gen, options):
    verb = request.getfixturevalue("medzoo")
    given = ("--data", scans, "--to", 7, "--seed", 2, "--batch-size", 4, "--device", "cpu", "--set", "sampling.steps=2")
    assert verb("augment", *options(tiny), *given, "--out", tmp_path / "verb").code == 0
    seen, told = [], []
    outcome = medzoo.augment(
        gen(tiny),
        to=7,
        data=str(scans),
        out=str(tmp_path / "api"),
        seed=2,
        batch_size=4,
        device="cpu",
        settings={"sampling.steps": 2},
        progress=lambda done, total: seen.append((done, total)),
        notice=told.append,
    )
    assert isinstance(outcome, medzoo.Outcome)
    assert files(outcome.folder) == files(tmp_path / "verb")
    records = [json.loads((folder / "run.json").read_text()) for folder in (outcome.folder, tmp_path / "verb")]
    for key in ("job", "config", "weights", "data", "seeds", "counts", "plan", "originals"):
        assert records[0][key] == records[1][key], key
    assert (seen[0], seen[-1]) == ((0, 9), (9, 9))
    assert [(row.real, row.synthetic) for row in outcome.classes] == [(3, 4), (5, 2), (4, 3)]
    assert medzoo.augment(
        gen(tiny), to=7, data=scans, out=outcome.folder, seed=2, batch_size=4, device="cpu",
        settings={"sampling.steps": 2}, notice=told.append,
    ).already_done  # fmt: skip


def test_augment_sends_nothing_anywhere(scans, tmp_path):
    with pytest.raises(ConfigError, match="--allow-upload"):
        medzoo.augment("api-variation", to=7, data=scans, out=tmp_path / "out", device="cpu", notice=lambda text: None)


# as_dataset


@pytest.fixture
def dataset(tiny):
    """Seven synthetic images of each class, drawn four at a time; the same ones at every call."""

    def make(**changed):
        given = {"per_class": 7, "seed": 3, "batch_size": 4, "device": "cpu"}
        return medzoo.as_dataset(tiny, **{**given, **changed})

    return make


def test_a_dataset_looks_like_an_image_folder(dataset):
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


def test_nothing_is_drawn_before_it_is_asked_for(dataset, monkeypatch):
    drawn = []
    draw = Studio.draw
    monkeypatch.setattr(Studio, "draw", lambda studio, batch: drawn.append(len(batch)) or draw(studio, batch))
    synthetic = dataset()
    assert drawn == []
    synthetic[9]
    synthetic[10]
    assert drawn == [4]
    seen = []
    synthetic.draw_all(progress=lambda done, total: seen.append((done, total)))
    assert drawn == [4] * 5 + [1]
    assert seen == [(0, 21), (4, 21), (8, 21), (12, 21), (16, 21), (20, 21), (21, 21)]
    stacked(synthetic)
    assert len(drawn) == 6


def test_its_images_are_those_that_sample_writes_in_any_order(request, dataset, tiny, tmp_path):
    out = tmp_path / "drawn"
    options = ("--n", 7, "--seed", 3, "--batch-size", 4, "--out", out, "--device", "cpu")
    assert request.getfixturevalue("medzoo")("sample", tiny, *options).code == 0
    written = np.concatenate([pngs(out, label) for label in CLASSES])
    forwards, backwards = stacked(dataset()), stacked(dataset(), order=range(20, -1, -1))
    np.testing.assert_array_equal(as_uint8(forwards), written)
    assert torch.equal(forwards, backwards)


def test_with_what_the_classes_lack_they_are_those_that_augment_writes(request, dataset, tiny, scans, tmp_path):
    out = tmp_path / "filled"
    options = ("--data", scans, "--to", 7, "--originals", "omit", "--seed", 3, "--batch-size", 4, "--out", out)
    assert request.getfixturevalue("medzoo")("augment", "--gen", tiny, *options, "--device", "cpu").code == 0
    real = ImageFolder(scans)
    lacking = {name: 7 - real.targets.count(real.class_to_idx[name]) for name in CLASSES}
    synthetic = dataset(per_class=lacking, classes=real.classes)
    assert synthetic.targets == [0] * 4 + [1] * 2 + [2] * 3
    written = np.concatenate([pngs(out, label) for label in real.classes])
    np.testing.assert_array_equal(as_uint8(stacked(synthetic)), written)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_draws_the_same_images(dataset, method, monkeypatch):
    synthetic = dataset()
    synthetic[0]
    loader = DataLoader(synthetic, batch_size=5, num_workers=1, multiprocessing_context=method)
    images, labels = map(torch.cat, zip(*loader, strict=True))
    assert torch.equal(images, stacked(dataset()))
    assert labels.tolist() == synthetic.targets
    if method == "fork":  # what a forked worker drew is there for all
        monkeypatch.setattr(Studio, "draw", None)
        assert torch.equal(stacked(synthetic), images)


def test_no_batch_is_drawn_twice_by_forked_workers(dataset, monkeypatch):
    drawn = multiprocessing.Value("i", 0)
    draw = Studio.draw

    def count(studio, batch):
        with drawn.get_lock():
            drawn.value += 1
        time.sleep(0.02)  # long enough for the other worker to ask for the same batch
        return draw(studio, batch)

    synthetic = dataset()
    monkeypatch.setattr(Studio, "draw", count)
    loader = DataLoader(synthetic, batch_size=3, shuffle=True, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        assert sum(len(images) for images, _ in loader) == 21
    assert drawn.value == 6
    assert torch.equal(stacked(synthetic), stacked(dataset()))


def test_a_worker_that_is_killed_while_it_draws_holds_up_no_other(dataset, monkeypatch):
    synthetic = dataset()
    context = multiprocessing.get_context("fork")
    began = context.Event()

    def hang(studio, batch):
        began.set()
        time.sleep(60)

    with monkeypatch.context() as patched:
        patched.setattr(Studio, "draw", hang)
        worker = context.Process(target=synthetic.draw_all)
        worker.start()
        assert began.wait(10)
        worker.kill()
        worker.join()
    assert torch.equal(stacked(synthetic), stacked(dataset()))


def test_it_can_be_pickled_with_what_was_drawn(dataset, monkeypatch):
    synthetic = dataset()
    synthetic[5]
    copy = pickle.loads(pickle.dumps(synthetic))
    assert torch.equal(stacked(copy), stacked(synthetic))
    synthetic.draw_all()
    whole = pickle.loads(pickle.dumps(synthetic))
    monkeypatch.setattr(Studio, "draw", None)
    assert torch.equal(stacked(whole), stacked(synthetic))


def test_a_forked_worker_is_told_that_it_cannot_draw_on_a_gpu(tiny):
    model = medzoo.load(tiny, device="cpu")
    model.device = "cuda:0"
    synthetic = medzoo.SyntheticImages(model, per_class=2)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def ask():
        try:
            answers.put(synthetic[0][1])
        except ResourceError as error:
            answers.put(str(error))

    for answer in ("a forked worker cannot draw on cuda:0 (call draw_all() before", 0):
        worker = context.Process(target=ask)
        worker.start()
        assert str(answers.get()).startswith(str(answer))
        worker.join()
        synthetic.draw_all()


def test_it_trains_beside_real_images(dataset, scans):
    def to_tensor(image):
        return torch.from_numpy(np.array(image.convert("L"), np.float32) / 255).unsqueeze(0)

    real = ImageFolder(scans, transform=to_tensor)
    assert real.classes != list(CLASSES)
    synthetic = dataset(classes=real.classes)
    assert synthetic.class_to_idx == real.class_to_idx
    mixed = ConcatDataset([real, synthetic])
    passes = []
    for _ in range(2):
        loader = DataLoader(mixed, batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(0))
        images, labels = map(torch.cat, zip(*loader, strict=True))
        assert images.shape == (12 + 21, 1, 16, 16)
        assert labels.bincount().tolist() == [3 + 7, 5 + 7, 4 + 7]
        passes.append(images)
    assert torch.equal(*passes)
    # A class drawn under the model's own number has the images it has under the folder's.
    index = real.class_to_idx["narrow-canal"]
    named = [image for image, label in synthetic if label == index]
    alone = dataset(labels="narrow-canal")
    assert alone.targets == [CLASSES.index("narrow-canal")] * 7
    assert (torch.stack(named) - stacked(alone)).abs().max() <= 1.01 / 255


def test_transforms_are_called_on_items(dataset):
    synthetic = dataset(transform=lambda image: image.mean().item(), target_transform=str)
    plain = dataset()
    assert synthetic[3] == (plain[3][0].mean().item(), "0")


def test_items_of_a_multi_label_model_are_multi_hot(quilt):
    together = medzoo.as_dataset(quilt, per_class=2, labels=["edema", "effusion"], device="cpu")
    assert len(together) == 2
    label = together[1][1]
    assert (label.dtype, label.tolist()) == (torch.float32, [0.0, 1.0, 1.0])
    order = ["effusion", "edema", "atelectasis"]
    each = medzoo.as_dataset(quilt, per_class=1, classes=order, device="cpu")
    assert each.targets == torch.eye(3).tolist()
    images, labels = next(iter(DataLoader(each, batch_size=3)))
    assert (images.shape, labels.shape) == ((3, 1, 16, 16), (3, 3))


def test_a_worker_gets_the_real_images_to_vary(scans):
    varied = medzoo.as_dataset("duplicate", per_class=6, data=scans, device="cpu")
    originals = {decode(path).tobytes() for path in scans.glob("*/*.png")}
    sent = pickle.loads(pickle.dumps(varied))
    assert {image.tobytes() for image in as_uint8(stacked(sent))} == originals


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"per_class": 0}, ConfigError, "per_class=0"),
        ({"per_class": {"normal": 0}}, ConfigError, "cannot be drawn"),
        ({"per_class": {"normal": 3, "thick-wall": -1}}, ConfigError, "cannot be drawn"),
        ({"per_class": {"normel": 3}}, UnknownName, "did you mean normal"),
        ({"per_class": {"normal": 3}, "labels": "normal"}, ConfigError, "leave labels out"),
        ({"labels": ["normel"]}, UnknownName, "did you mean normal"),
        ({"labels": ["normal"], "classes": ["thick-wall"]}, UnknownName, "unknown class 'normal'"),
        ({"classes": ["normal", "abnormal"]}, UnknownName, "unknown class 'abnormal'"),
        ({"classes": ["normal", "normal"]}, ConfigError, "must be given and differ"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
        ({"memory_limit": 21 * 256 - 1}, ResourceError, "raise memory_limit"),
        ({"settings": {"sampling.step": 1}}, UnknownName, "sampling.steps"),
    ],
    ids=str,
)
def test_datasets_that_cannot_be_are_refused(dataset, changed, error, told):
    with pytest.raises(error) as caught:
        dataset(**changed)
    assert isinstance(caught.value, MedzooError)
    assert told in str(caught.value)


# docs/python.md


def test_the_page_runs(tmp_path, monkeypatch, capfd):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    told = capfd.readouterr().out
    for line in re.findall(r"# (unknown .*|did you mean .*|\('benign.*)$", PAGE, re.MULTILINE):
        assert line in told
    assert "22/22" in told
