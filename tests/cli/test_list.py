import json

from medzoo.hub import fetch_model
from medzoo.registry import load_registry


def test_the_table_says_what_a_model_is_and_where(medzoo, publish):
    publish("ddpm-test")
    outcome = medzoo("list", "ddpm-test")
    assert outcome.code == 0
    header, line = (text.split("  ") for text in outcome.out.splitlines())
    assert [cell.strip() for cell in header if cell] == [
        "id",
        "plugin",
        "modality",
        "classes",
        "size",
        "parameters",
        "MB",
        "license",
        "state",
    ]
    cells = [cell.strip() for cell in line if cell.strip()]
    assert cells == [
        "ddpm-test", "ddpm", "simulated ultrasound", "2", "64 grey", "3.1M", "0.0", "CC-BY-4.0", "mirror"
    ]  # fmt: skip


def test_the_state_follows_the_model(medzoo, publish, monkeypatch):
    publish("ddpm-test", mirror=False)
    assert medzoo("list", "ddpm-test").out.split()[-1] == "missing"
    mirror = str(publish("ddpm-test").mirror)
    fetch_model(load_registry().model("ddpm-test"), source=mirror)
    assert medzoo("list", "ddpm-test").out.split()[-1] == "cached"


def test_words_keep_the_models_that_have_them_all(medzoo, publish):
    publish("ddpm-test")

    def ids(*words):
        return [row["id"] for row in json.loads(medzoo("list", "--json", *words).out)]

    assert "ddpm-test" in ids()
    assert ids("PHANTOM", "ddpm-test") == ["ddpm-test"]
    assert ids("ddpm-test", "nowhere") == []


def test_no_match_is_said_on_stderr(medzoo, publish):
    outcome = medzoo("list", "nowhere")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no model has the words: nowhere" in outcome.err


def test_json_holds_every_fact(medzoo, publish):
    published = publish("ddpm-test")
    outcome = medzoo("list", "ddpm-test", "--json")
    (row,) = json.loads(outcome.out)
    assert outcome.err == ""
    assert row["classes"] == ["a", "b"]
    assert row["origin"] == str(published.registry)
    assert row["state"] == "mirror"
    assert {file["name"] for file in row["files"]} == set(published.files)


def test_generators_without_weights_are_named(medzoo):
    assert "generators that need no weights: api-variation, classic, duplicate" in medzoo("list").err


def test_what_a_plugin_prints_stands_in_no_result(medzoo, install_plugin):
    install_plugin("foreign", "print('welcome')")
    outcome = medzoo("list", "--json")
    json.loads(outcome.out)
    assert "welcome" in outcome.err


def test_a_broken_plugin_does_not_break_the_list(medzoo, publish, install_plugin):
    publish("ddpm-test")
    install_plugin("foreign", "raise OSError('no')")
    outcome = medzoo("list")
    assert outcome.code == 0
    assert "ddpm-test" in outcome.out
    assert "broken plugins: foreign" in outcome.err


def test_a_long_table_is_not_folded_in_a_pipe(medzoo, publish):
    publish("ddpm-" + "x" * 200)
    assert "ddpm-" + "x" * 200 in medzoo("list").out
