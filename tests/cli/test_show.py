import json

import pytest


def test_a_model_is_shown_with_training_files_and_card(medzoo, publish):
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


def test_a_missing_model_is_shown_without_card(medzoo, publish):
    publish("ddpm-test", mirror=False)
    facts = json.loads(medzoo("show", "ddpm-test", "--json").out)
    assert (facts["state"], facts["card"], facts["training"]) == ("missing", None, {})


def test_json_holds_the_training(medzoo, publish):
    publish("ddpm-test")
    facts = json.loads(medzoo("show", "ddpm-test", "--json").out)
    assert facts["training"]["data name"] == "phantom"
    assert facts["card_start"] == ["# ddpm-test", "Made for a test."]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"data": 3}'])
def test_a_config_nobody_can_read_costs_only_the_training(medzoo, publish, content):
    published = publish("ddpm-test")
    size = len(published.files["config.json"])
    published.path("config.json").write_bytes(content.ljust(size))
    outcome = medzoo("show", "ddpm-test")
    assert outcome.code == 0
    assert "training" not in outcome.out


def test_a_generator_is_shown_with_presets_and_models(medzoo, publish):
    publish("ddpm-test")
    facts = json.loads(medzoo("show", "ddpm", "--json").out)
    assert facts["generator"] == "ddpm"
    assert {"tiny", "default", "paper"} <= set(facts["presets"])
    assert "ddpm-test" in facts["models"]
    assert "needs sources            yes" in medzoo("show", "classic").out


def test_an_unknown_name_offers_the_nearest_spelling(medzoo, publish):
    publish("ddpm-test")
    outcome = medzoo("show", "ddpm-tset")
    assert outcome.code == 2
    assert "error: unknown model, asset or plugin 'ddpm-tset'\n  did you mean" in outcome.err


def test_an_asset_is_shown_with_where_it_comes_from(medzoo):
    facts = json.loads(medzoo("show", "inception-fid", "--json").out)
    assert (facts["kind"], facts["license"]) == ("asset", "apache-2.0")
    assert facts["url"].endswith(facts["files"][0]["name"])
    assert "95.6 MB, sha256 6726825d" in medzoo("show", "inception-fid").out


def test_a_version_is_shown_by_name(medzoo, publish, monkeypatch):
    first = publish("ddpm-test").registry
    second = publish("ddpm-test", extra="version = 2").registry
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{first}:{second}")
    for name, version in {"ddpm-test": 2, "ddpm-test@v2": 2, "ddpm-test@v1": 1}.items():
        facts = json.loads(medzoo("show", name, "--json").out)
        assert (facts["version"], facts["versions"]) == (version, ["v1", "v2"])
    outcome = medzoo("show", "ddpm-test@v3")
    assert outcome.code == 2
    assert "unknown version 'ddpm-test@v3'\n  did you mean ddpm-test@v" in outcome.err


def test_a_deprecated_model_is_shown_with_its_successor(medzoo, publish):
    publish("ddpm-test", extra='deprecated = "its labels were wrong"\nsuccessor = "ddpm-udder"')
    outcome = medzoo("show", "ddpm-test")
    assert "ddpm-test is deprecated: its labels were wrong; use ddpm-udder" in outcome.err
    assert ["successor", "ddpm-udder"] in [line.split() for line in outcome.out.splitlines()]


def test_the_file_that_gave_each_key_is_told(medzoo, publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    assert "origins" not in json.loads(medzoo("show", "ddpm-test", "--json").out)
    later = tmp_path / "own_rows.toml"
    later.write_text('[[model]]\nid = "ddpm-test"\nlicense = "CC0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{published.registry}:{later}")
    origins = json.loads(medzoo("show", "ddpm-test", "--json").out)["origins"]
    assert origins[str(later)] == ["id", "license"]
    assert "plugin" in origins[str(published.registry)]
    assert f"told by {later} id, license" in medzoo("show", "ddpm-test").out


def test_a_classifier_is_shown_with_its_models(medzoo, publish, install_plugin):
    published = publish("ddpm-test", extra='kind = "classifier"')
    install_plugin(
        "tell",
        "import medzoo\nfrom importlib.resources import files\n@medzoo.hookimpl\ndef register_classifiers():\n"
        "    presets = files('medzoo_ddpm') / 'presets'\n"
        "    fields = dict(summary='', config=dict, presets=presets, build=None)\n"
        "    return [medzoo.ClassifierSpec(contract=1, name='tell', **fields)]\n",
    )
    published.registry.write_text(published.registry.read_text().replace('plugin = "ddpm"', 'plugin = "tell"'))
    facts = json.loads(medzoo("show", "tell", "--json").out)
    assert (facts["classifier"], facts["models"]) == ("tell", ["ddpm-test"])
    assert "tiny" in facts["presets"]
    assert json.loads(medzoo("show", "ddpm-test", "--json").out)["kind"] == "classifier"
