"""medzoo from Python: the same models, images and folders as the verbs', as tensors and as a torch Dataset."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.from_python import FINDINGS, as_uint8, make_untrained, pngs
from helpers.tiny import CLASSES, make_model
from helpers.tiny_labels import LABELS_PLUGIN

import medzoo
from medzoo.data.phantom import write_phantom
from medzoo.errors import ConfigError, DataError, HubError, UnknownName
from medzoo.specs import ImageSpec
from medzoo.toolkit.spectrum import apply_spectrum_gain

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "python.md").read_text("utf-8")


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
def verb(medzoo):
    """Run the command line; `medzoo` is the package in these tests."""
    return medzoo


# The package


def test_import_and_list_models_load_no_heavy_library():
    program = (
        "import sys, medzoo; light = set(sys.modules)\n"
        "assert 'load' in dir(medzoo)\n"
        "assert medzoo.list_models('udder', kind='classifier')[0].id == 'cnn-udder'\n"
        "heavy = {'torch', 'numpy', 'PIL', 'huggingface_hub', 'typer'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 'medzoo.api' in light)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_names_exist():
    assert set(medzoo.__all__) <= set(dir(medzoo))
    assert not [name for name in medzoo.__all__ if getattr(medzoo, name) is None]
    with pytest.raises(AttributeError, match="module 'medzoo' has no attribute 'lood'"):
        medzoo.lood  # noqa: B018


def test_all_names_are_documented():
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
def test_list_models_matches_cli(verb, words, facts, options):
    rows = json.loads(verb("list", "--json", *options).out)
    listed = medzoo.list_models(*words, **facts)
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
def test_list_models_unknown_value_suggests_nearest(facts, near):
    with pytest.raises(UnknownName, match=f"did you mean .*{near}"):
        medzoo.list_models(**facts)


def test_list_models_warns_of_a_broken_plugin(install_plugin, capsys, caplog):
    before = medzoo.list_models()
    install_plugin("foreign", "raise OSError('no')")
    assert medzoo.list_models() == before
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("medzoo.api", "WARNING")
    assert "broken plugins: foreign" in record.getMessage()
    assert capsys.readouterr() == ("", "")  # pytest's own handlers are in the place of logging's last resort


# check_data and split_data


def test_check_data_matches_cli(verb, scans, tmp_path):
    report = medzoo.check_data(str(scans), out=tmp_path / "checked")
    told = json.loads(verb("data", "check", scans, "--json").out)
    assert told.pop("report") is None
    assert json.loads(json.dumps(report.to_dict())) == told
    assert "<html" in (tmp_path / "checked" / "report.html").read_text()
    with pytest.raises(ConfigError, match="data=3 is not a path"):
        medzoo.check_data(3)


def test_split_data_matches_cli(verb, scans, tmp_path):
    made = medzoo.split_data(scans, tmp_path / "split", train=0.5, val=0.0, test=0.5, seed=2)
    shares = ("--train", 0.5, "--val", 0, "--test", 0.5)
    told = json.loads(verb("data", "split", scans, "--out", tmp_path / "verb", *shares, "--seed", 2, "--json").out)
    assert told == {**json.loads(json.dumps(made.to_dict())), "folder": str(tmp_path / "verb"), "seed": 2}
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.png")) for folder in tmp_path.iterdir()]
    assert files[0] == files[1] != []
    with pytest.raises(ConfigError, match=r"must lie in 0\.\.1 and add up to 1"):
        medzoo.split_data(scans, tmp_path / "other", test=0.5)


# load and sample


@pytest.mark.parametrize("labels", [None, ("normal", "thick-wall"), "narrow-canal"], ids=str)
def test_sample_matches_cli(verb, tiny, tmp_path, labels):
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


def test_load_model_attributes(tiny):
    model = medzoo.load(
        Path(tiny), device="cpu", settings={"sampling.num_inference_steps": 2, "sampling.mixed_precision": "fp32"}
    )
    record = json.loads((Path(tiny) / "config.json").read_text())
    assert (model.name, model.plugin, model.classes, model.device) == ("tiny", "ddpm", CLASSES, "cpu")
    assert model.image == ImageSpec(size=16, channels=1, classes=CLASSES)
    assert model.weights_sha256 == record["weights_sha256"]
    assert (model.settings["sampling.num_inference_steps"], model.settings["sampling.mixed_precision"]) == (2, "fp32")
    assert "name='tiny'" in repr(model)
    assert isinstance(model.generator, medzoo.Generator)


def test_sample_multi_label_shows_all_labels(verb, install_plugin, tmp_path):
    install_plugin("quilt", LABELS_PLUGIN)
    quilt = make_untrained("quilt", tmp_path / "quilt", classes=FINDINGS, multi_label=True)
    out = tmp_path / "drawn"
    labels = ("--label", "effusion", "--label", "edema")
    assert verb("sample", quilt, *labels, "--n", 3, "--out", out, "--device", "cpu").code == 0
    model = medzoo.load(quilt, device="cpu")
    images, found = model.sample(["effusion", "edema"], n=3)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.0, 1.0, 1.0]] * 3
    np.testing.assert_array_equal(as_uint8(images), pngs(out, "edema+effusion"))
    assert model.sample(n=2).labels.tolist() == torch.eye(3).repeat_interleave(2, dim=0).tolist()


def test_sample_init_images_match_cli(verb, scans, tmp_path):
    out = tmp_path / "varied"
    assert verb("sample", "classic", "--data", scans, "--n", 7, "--out", out, "--device", "cpu").code == 0
    model = medzoo.load("classic", data=str(scans), device="cpu")
    assert model.weights_sha256 is None
    np.testing.assert_array_equal(as_uint8(model.sample("normal", n=7).images), pngs(out, "normal"))


def test_variations_match_cli(verb, tiny, scans, tmp_path):
    name, out = f"{tiny}@0.5", tmp_path / "varied"
    assert verb("sample", name, "--data", scans, "--n", 4, "--out", out, "--device", "cpu").code == 0
    model = medzoo.load(name, data=scans, device="cpu")
    assert (model.name, model.settings["sampling.strength"]) == ("tiny@0.5", 0.5)
    images = model.sample(n=4).images
    np.testing.assert_array_equal(as_uint8(images), np.concatenate([pngs(out, label) for label in CLASSES]))
    dataset = medzoo.as_dataset(model, per_class=4)
    assert torch.equal(torch.stack([image for image, _ in dataset]), images)
    given = {"settings": {"sampling.strength": 0.5}, "data": scans, "n": 4, "device": "cpu"}
    again = medzoo.sample(tiny, out=tmp_path / "again", **given)
    np.testing.assert_array_equal(pngs(again.folder, "normal"), pngs(out, "normal"))
    mixed = medzoo.augment({name: 0.5, tiny: 0.5}, to=9, data=scans, out=tmp_path / "mixed", device="cpu")
    assert {path.name[:-11] for path in mixed.folder.rglob("synthetic-*")} == {"synthetic-tiny", "synthetic-tiny-0.5"}
    with pytest.raises(DataError, match=r"no real images: .* and 'tiny' has no demo dataset"):
        medzoo.load(name, device="cpu")


def test_fit_spectrum_gain(tiny, scans):
    gain = medzoo.fit_spectrum_gain(tiny, data=scans, n=12, device="cpu", settings={"sampling.spectrum_gain": [9.0]})
    assert gain == medzoo.fit_spectrum_gain(tiny, data=scans, n=12, device="cpu")
    assert (len(gain), set(gain[:3])) == (24, {1.0})
    plain, changed = (
        medzoo.load(tiny, settings=settings, device="cpu").sample(n=3).images
        for settings in (None, {"sampling.spectrum_gain": gain})
    )
    torch.testing.assert_close(changed, apply_spectrum_gain(plain, gain), atol=2 / 255, rtol=0)
    assert not torch.equal(changed, plain)
    with pytest.raises(ConfigError, match="unknown setting"):
        medzoo.fit_spectrum_gain("duplicate", data=scans)
    with pytest.raises(ConfigError, match="n = 0 or batch_size = 32 is too small"):
        medzoo.fit_spectrum_gain(tiny, data=scans, n=0)


def test_sample_trained_img2img_generator(install_plugin, scans, tmp_path):
    source = LABELS_PLUGIN.replace("quilt", "haze").replace("multi_label=True", "needs_init_images=True")
    install_plugin("haze", source.replace('torch.einsum("nk,kchw->nchw", labels, self.effect)', "10 * init_images"))
    folder = make_untrained("haze", tmp_path / "model", classes=CLASSES)
    assert medzoo.load(folder, data=scans, device="cpu").sample(n=2).images.shape == (6, 1, 16, 16)
    with pytest.raises(DataError, match="no real images"):
        medzoo.load(folder, device="cpu")


def test_load_invalid_model_raises(tiny, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="did you mean dcgan-busi"):
        medzoo.load("dcgan-bussi")
    with pytest.raises(ConfigError, match="'cnn-busi' is a classifier, not a generator"):
        medzoo.load("cnn-busi")
    with pytest.raises(DataError, match="no real images"):
        medzoo.load("classic")
    with pytest.raises(ConfigError, match="does not vary real images"):
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
        ({"sampling.num_inference_step": 3}, "did you mean sampling.num_inference_steps"),
        ({"sampling.num_inference_steps": "three"}, "is not a whole number"),
        ({"sampling.num_inference_steps": None}, "settings cannot take sampling.num_inference_steps: None"),
        ({"sampling": {"steps": 3}}, 'keys are dotted: {"sampling.num_inference_steps": 20}'),
        ({"sampling.guidance_scale": ...}, "settings cannot take sampling.guidance_scale"),
        ({"sampling.num_inference_steps": [{"a": 7}]}, "settings cannot take sampling.num_inference_steps"),
        ({"sampling.num_inference_steps": b"x"}, "settings cannot take sampling.num_inference_steps"),
        ({"sampling.num_inference_steps": [None]}, "settings cannot take sampling.num_inference_steps"),
        ({"network.layers_per_block": 2}, "cannot change in a trained model"),
    ],
    ids=str,
)
def test_load_invalid_settings_raise(tiny, settings, told):
    with pytest.raises(ConfigError) as caught:
        medzoo.load(tiny, device="cpu", settings=settings)
    assert told in str(caught.value)


def test_sample_invalid_arguments_raise(tiny):
    model = medzoo.load(tiny, device="cpu")
    with pytest.raises(UnknownName, match=r"unknown class 'normel'.*did you mean normal"):
        model.sample("normel")
    with pytest.raises(ConfigError, match="n=0"):
        model.sample(n=0)
    with pytest.raises(ConfigError, match="batch_size=0"):
        model.sample(batch_size=0)


@pytest.mark.parametrize("labels", [0, 1, ["normal", 1], {"normal"}, torch.tensor([0]), np.array(["normal"])], ids=repr)
def test_sample_labels_by_name_only(tiny, labels):
    with pytest.raises(ConfigError, match=r"labels=.* is not a list of names .classes go by their names: thick-wall"):
        medzoo.load(tiny, device="cpu").sample(labels)


def test_sample_empty_labels_raise(tiny):
    with pytest.raises(ConfigError, match=r"labels=\[\] names no class .leave it out for every class"):
        medzoo.load(tiny, device="cpu").sample([])


def test_sample_accepts_numpy_and_torch_integers(tiny):
    model = medzoo.load(tiny, device="cpu")
    drawn = model.sample("normal", n=np.int64(2), seed=torch.tensor(3), batch_size=np.uint8(4))
    assert torch.equal(drawn.images, model.sample("normal", n=2, seed=3, batch_size=4).images)


@pytest.mark.parametrize(
    "given",
    [
        {"n": "4"},
        {"n": 4.0},
        {"n": True},
        {"n": None},
        {"n": torch.tensor([2, 3])},
        {"n": torch.tensor(2.5)},
        {"seed": "0"},
        {"batch_size": 2.5},
    ],
    ids=str,
)
def test_sample_wrong_type_names_argument(tiny, given):
    (name,) = given
    with pytest.raises(ConfigError, match=f"^{name}=.* is not a whole number"):
        medzoo.load(tiny, device="cpu").sample(**given)


WRONG = [
    (medzoo.list_models, {"modality": 3}, "modality=3 is not a string"),
    (medzoo.list_models, {"classes": 1}, "classes=1 is not a list of names"),
    (medzoo.load, {"gen": 3}, "gen=3 is not a model's name or a folder"),
    (medzoo.load, {"gen": ["dcgan-busi"]}, "gen=['dcgan-busi'] is not a model's name or a folder"),
    (medzoo.load, {"gen": "duplicate", "data": 3}, "data=3 is not a path"),
    (medzoo.load, {"gen": "classic", "device": 0}, "device=0 is not a string"),
    (medzoo.load, {"gen": "classic", "source": 1}, "source=1 is not a string"),
    (
        medzoo.load,
        {"gen": "classic", "settings": ["sampling.num_inference_steps=2"]},
        'is not a mapping (write {"sampling.num_inference_steps": 20})',
    ),
    (medzoo.augment, {"gen": "classic", "to": "95"}, "to='95' is not a whole number"),
    (medzoo.augment, {"gen": "classic", "to": 9, "seed": None}, "seed=None is not a whole number"),
    (medzoo.augment, {"gen": "classic", "to": 9, "batch_size": 1.5}, "batch_size=1.5 is not a whole number"),
    (medzoo.augment, {"gen": "classic", "to": 9, "out": 3}, "out=3 is not a path"),
    (medzoo.augment, {"gen": "classic", "to": 9, "classes": "normal"}, "classes='normal' is not a list of names"),
    (medzoo.augment, {"gen": "classic", "to": 9, "skip_bad": "no"}, "skip_bad='no' is not True or False"),
    (medzoo.augment, {"gen": "classic", "to": 9, "progress": 1}, "progress=1 is not a function"),
    (medzoo.augment, {"gen": 3, "to": 9}, "gen=3 is not a model's name or a folder"),
    (medzoo.augment, {"gen": {3: 1.0}, "to": 9}, "gen=3 is not a model's name or a folder"),
    (medzoo.augment, {"gen": {"classic": None}, "to": 9}, "the share in 'classic=None' must be a number"),
    (medzoo.augment, {"gen": "classic", "to": 9, "originals": 3}, "originals cannot take '3'"),
]


@pytest.mark.parametrize(("function", "given", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_wrong_type_names_argument(function, given, told, scans):
    needs_data = function is not medzoo.list_models and "data" not in given
    with pytest.raises(ConfigError) as caught:
        function(**(given | {"data": scans} if needs_data else given))
    assert told in str(caught.value)


def test_push_several_models_have_their_own_repositories():
    with pytest.raises(ConfigError, match="takes neither --repo nor --about"):
        medzoo.push("dcgan-busi", "cnn-busi", repo="ORG/one", dry_run=True)


# augment


def test_augment_loaded_model_raises(tiny, scans):
    model = medzoo.load(tiny, device="cpu")
    for gen in (model, [model], {model: 1.0}):
        with pytest.raises(ConfigError, match=r"gen=Model.*is not a model's name or a folder .give what `load` takes"):
            medzoo.augment(gen, to=7, data=scans)


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
def test_augment_matches_cli(verb, tiny, scans, tmp_path, gen, options):
    given = (
        "--data",
        scans,
        "--to",
        7,
        "--seed",
        2,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--set",
        "sampling.num_inference_steps=2",
    )
    assert verb("augment", *options(tiny), *given, "--out", tmp_path / "verb").code == 0
    seen = []
    outcome = medzoo.augment(
        gen(tiny),
        to=7,
        data=str(scans),
        out=str(tmp_path / "api"),
        seed=2,
        batch_size=4,
        device="cpu",
        settings={"sampling.num_inference_steps": 2},
        progress=lambda done, total: seen.append((done, total)),
    )
    assert isinstance(outcome, medzoo.AugmentationResult)
    assert files(outcome.folder) == files(tmp_path / "verb")
    records = [json.loads((folder / "run.json").read_text()) for folder in (outcome.folder, tmp_path / "verb")]
    for key in ("job", "config", "weights", "data", "seeds", "counts", "plan", "originals"):
        assert records[0][key] == records[1][key], key
    assert (seen[0], seen[-1]) == ((0, 9), (9, 9))
    assert [(row.real, row.synthetic) for row in outcome.classes] == [(3, 4), (5, 2), (4, 3)]
    assert medzoo.augment(
        gen(tiny), to=7, data=scans, out=outcome.folder, seed=2, batch_size=4, device="cpu",
        settings={"sampling.num_inference_steps": 2},
    ).already_done  # fmt: skip


def test_augment_dry_run_writes_nothing(tiny, scans, tmp_path):
    plans = []
    result = medzoo.augment(
        tiny, to=7, data=scans, out=tmp_path / "out", device="cpu", dry_run=True, on_plan=plans.append
    )
    assert [(row.real, row.synthetic, row.drawn) for row in result.classes] == [(3, 4, 0), (5, 2, 0), (4, 3, 0)]
    assert (plans[0].plan.total, result.missing) == (9, 9 + 12)
    assert not (tmp_path / "out").exists()


def test_augment_never_uploads(scans, tmp_path):
    with pytest.raises(ConfigError, match="--allow-upload"):
        medzoo.augment("api-variation", to=7, data=scans, out=tmp_path / "out", device="cpu")


# docs/python.md


def test_python_page_runs(tmp_path, monkeypatch, capfd):
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
