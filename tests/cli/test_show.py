import json

import pytest

GAUSS = """
from dataclasses import dataclass
from pathlib import Path
import medzoo
from medzoo.config import setting
from medzoo.toolkit.settings import ImageSettings

@dataclass(frozen=True, kw_only=True)
class Config:
    image: ImageSettings = ImageSettings()
    spread: float = setting(1.0, "standard deviations drawn", min=0.0)
    names: tuple[str, ...] = setting((), "who")

@medzoo.hookimpl
def register_generators():
    fields = dict(summary="one Gaussian", config=Config, presets=Path(PRESETS), build=None)
    return [medzoo.GeneratorSpec(contract=2, name="gauss", **fields)]
"""


@pytest.fixture
def gauss(install_plugin, tmp_path):
    """The folder of presets of an installed generator `gauss`."""
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "default.toml").write_text("# As it is.\nimage.size = 32\n")
    (presets / "tiny.toml").write_text("# For tests:\n# small.\nimage.size = 16\nspread = 2\n")
    install_plugin("gauss", f"PRESETS = {str(presets)!r}\n{GAUSS}", distribution="gauss-lab")
    return presets


def test_show_model(medzoo, publish):
    published = publish("ddpm-test")
    outcome = medzoo("show", "ddpm-test")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert any(line.split() == ["classes", "a,", "b"] for line in lines)
    assert any(line.split() == ["training", "data", "name", "phantom"] for line in lines)
    assert any("file model.safetensors" in line and "sha256" in line for line in lines)
    assert str(published.path("README.md")) in outcome.out
    assert "Made for a test." in outcome.out
    assert "license: cc-by-4.0" not in outcome.out


def test_show_missing_model(medzoo, publish):
    publish("ddpm-test", mirror=False)
    facts = json.loads(medzoo("show", "ddpm-test", "--json").out)
    assert (facts["state"], facts["card"], facts["training"]) == ("missing", None, {})


def test_show_json_training(medzoo, publish):
    publish("ddpm-test")
    facts = json.loads(medzoo("show", "ddpm-test", "--json").out)
    assert facts["training"]["data name"] == "phantom"
    assert facts["card_start"] == ["# ddpm-test", "Made for a test."]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"data": 3}'])
def test_show_unreadable_config(medzoo, publish, content):
    published = publish("ddpm-test")
    size = len(published.files["config.json"])
    published.path("config.json").write_bytes(content.ljust(size))
    outcome = medzoo("show", "ddpm-test")
    assert outcome.code == 0
    assert "training" not in outcome.out


def test_show_generator(medzoo, publish):
    publish("ddpm-test")
    facts = json.loads(medzoo("show", "ddpm", "--json").out)
    assert facts["generator"] == "ddpm"
    assert {"tiny", "default", "paper"} <= set(facts["presets"])
    assert "ddpm-test" in facts["models"]
    assert "needs init images        yes" in medzoo("show", "classic").out


def test_show_unknown_name_suggests_nearest(medzoo, publish):
    publish("ddpm-test")
    outcome = medzoo("show", "ddpm-tset")
    assert outcome.code == 2
    assert "error: unknown model, asset or plugin 'ddpm-tset'\n  did you mean" in outcome.err


def test_show_asset(medzoo):
    facts = json.loads(medzoo("show", "inception-fid", "--json").out)
    assert (facts["kind"], facts["license"]) == ("asset", "apache-2.0")
    assert facts["url"].endswith(facts["files"][0]["name"])
    assert "95.6 MB, sha256 6726825d" in medzoo("show", "inception-fid").out


def test_show_version(medzoo, publish, monkeypatch):
    first = publish("ddpm-test").registry
    second = publish("ddpm-test", extra="version = 2").registry
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{first}:{second}")
    for name, version in {"ddpm-test": 2, "ddpm-test@v2": 2, "ddpm-test@v1": 1}.items():
        facts = json.loads(medzoo("show", name, "--json").out)
        assert (facts["version"], facts["versions"]) == (version, ["v1", "v2"])
    outcome = medzoo("show", "ddpm-test@v3")
    assert outcome.code == 2
    assert "unknown version 'ddpm-test@v3'\n  did you mean ddpm-test@v" in outcome.err


def test_show_deprecated_model_names_successor(medzoo, publish):
    publish("ddpm-test", extra='deprecated = "its labels were wrong"\nsuccessor = "ddpm-udder"')
    outcome = medzoo("show", "ddpm-test")
    assert "ddpm-test is deprecated: its labels were wrong; use ddpm-udder" in outcome.err
    assert ["successor", "ddpm-udder"] in [line.split() for line in outcome.out.splitlines()]


def test_show_origins_of_each_key(medzoo, publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    assert "origins" not in json.loads(medzoo("show", "ddpm-test", "--json").out)
    later = tmp_path / "own_rows.toml"
    later.write_text('[[model]]\nid = "ddpm-test"\nlicense = "CC0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{published.registry}:{later}")
    origins = json.loads(medzoo("show", "ddpm-test", "--json").out)["origins"]
    assert origins[str(later)] == ["id", "license"]
    assert "plugin" in origins[str(published.registry)]
    assert f"set by {later} id, license" in medzoo("show", "ddpm-test").out


def test_show_classifier(medzoo, publish, gauss, install_plugin):
    published = publish("ddpm-test", extra='kind = "classifier"')
    source = GAUSS.replace("generators", "classifiers").replace("GeneratorSpec", "ClassifierSpec")
    install_plugin("tell", f"PRESETS = {str(gauss)!r}\n{source.replace('gauss', 'tell')}")
    published.registry.write_text(published.registry.read_text().replace('plugin = "ddpm"', 'plugin = "tell"'))
    facts = json.loads(medzoo("show", "tell", "--json").out)
    assert (facts["classifier"], facts["models"]) == ("tell", ["ddpm-test"])
    assert list(facts["presets"]) == ["default", "tiny"]
    assert json.loads(medzoo("show", "ddpm-test", "--json").out)["kind"] == "classifier"


def test_show_settings_and_presets_of_a_plugin(medzoo, gauss):
    facts = json.loads(medzoo("show", "gauss", "--json").out)
    assert (facts["distribution"], facts["contract"]) == ("gauss-lab 1.0", 2)
    assert facts["presets"] == {
        "default": {"about": "As it is.", "changes": {}},
        "tiny": {"about": "For tests: small.", "changes": {"image.size": 16, "spread": 2.0}},
    }
    settings = {each["key"]: each for each in facts["settings"]}
    assert list(settings) == [
        "image.size",
        "image.channels",
        "image.depth",
        "image.window",
        "image.crop",
        "spread",
        "names",
    ]
    assert settings["spread"] == {
        "key": "spread",
        "default": 1.0,
        "takes": "number, at least 0",
        "min": 0.0,
        "above": None,
        "max": None,
        "choices": None,
        "help": "standard deviations drawn",
    }
    assert (settings["image.size"]["default"], settings["image.channels"]["choices"]) == (32, [1, 3])
    lines = [line.split() for line in medzoo("show", "gauss").out.splitlines()]
    assert ["spread", "1.0", "number,", "at", "least", "0", "standard", "deviations", "drawn"] in lines
    assert ["names", "[]", "list:", "text", "who"] in lines
    assert ["tiny", "For", "tests:", "small."] in lines
    assert ["setting", "default", "tiny"] in lines
    assert ["image.size", "32", "16"] in lines
    assert ["spread", "1.0", "2.0"] in lines


def test_show_presets_without_changes(medzoo, gauss):
    (gauss / "tiny.toml").write_text("image.size = 32")
    out = medzoo("show", "gauss").out
    assert "setting         default  takes" in out
    assert out.rstrip().endswith("tiny")


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (
            lambda presets: presets.rename(presets.parent / "gone"),
            "cannot read the folder of presets {presets}: No such",
        ),
        (lambda presets: (presets / "default.toml").unlink(), "unknown preset 'default'"),
        (lambda presets: (presets / "tiny.toml").write_text("size = = 3"), "{presets}/tiny.toml is not TOML"),
        (
            lambda presets: (presets / "tiny.toml").write_text("spred = 3"),
            "{presets}/tiny.toml: unknown setting 'spred'",
        ),
    ],
    ids=["no folder", "no default", "no TOML", "unknown key"],
)
def test_show_unreadable_preset(medzoo, gauss, break_it, told):
    break_it(gauss)
    outcome = medzoo("show", "gauss")
    assert (outcome.code, outcome.out) == (3, "")
    assert f"error: generator 'gauss' of gauss-lab 1.0: {told.format(presets=gauss)}" in outcome.err


def test_show_metric(medzoo):
    facts = json.loads(medzoo("show", "kid", "--json").out)
    assert (facts["metric"], facts["distribution"].split()[0], facts["contract"]) == ("kid", "medzoo", 2)
    assert (facts["unit"], facts["higher_is_better"], facts["min_samples"]) == ("distance", False, 2)
    assert facts["baseline"] is True
    assert facts["needs"] == ["features"]
    assert facts["extractors"] == ["efficientnet-lite0", "inception", "domain"]
    for name in ("kid@inception", "kid@cnn-busi"):
        assert json.loads(medzoo("show", name, "--json").out) == facts
    assert "unknown model, asset or plugin 'kid@incepton'" in medzoo("show", "kid@incepton").err
    assert json.loads(medzoo("show", "nearest-train", "--json").out)["needs"] == [
        "features",
        "features and mirrored of the training images",
    ]
    assert "needs                    pixels" in medzoo("show", "ssim").out


def test_show_extractor(medzoo):
    facts = json.loads(medzoo("show", "inception", "--json").out)
    assert (facts["extractor"], facts["version"], facts["contract"]) == ("inception", "1", 2)
    assert (facts["gives"], facts["assets"]) == (["features", "logits"], ["inception-fid"])
    assert "perceptual distance" in json.loads(medzoo("show", "vgg16", "--json").out)["gives"]
    assert "gives                    features, logits" in medzoo("show", "inception").out


def test_show_plugin_with_other_name(medzoo, gauss, install_plugin):
    facts = json.loads(medzoo("show", "metrics", "--json").out)
    assert (facts["plugin"], facts["module"]) == ("metrics", "medzoo_metrics")
    assert {"metric kid", "extractor inception"} <= set(facts["provides"])
    assert json.loads(medzoo("show", "medzoo/metrics", "--json").out) == facts
    install_plugin("torn", "raise OSError('no')")
    assert "error: plugin 'torn' of" in medzoo("show", "torn").err


def test_show_misspelled_metric(medzoo):
    assert "did you mean intensity" in medzoo("show", "intensty").err
