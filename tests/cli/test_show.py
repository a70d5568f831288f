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
    assert "error: unknown model or generator 'ddpm-tset'\n  did you mean" in outcome.err
