import json

import pytest

from medzoo.cli.output import print_table
from medzoo.hub.registry import load_registry
from medzoo.hub.sources import fetch_model


def test_list_shows_model_and_location(medzoo, publish):
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
        "ddpm-test", "ddpm", "simulated ultrasound", "2", "64 gray", "3.1M", "0.0", "CC-BY-4.0", "mirror"
    ]  # fmt: skip


def test_list_state_of_a_model(medzoo, publish, monkeypatch):
    publish("ddpm-test", mirror=False)
    assert medzoo("list", "ddpm-test").out.split()[-1] == "missing"
    mirror = str(publish("ddpm-test").mirror)
    fetch_model(load_registry().model("ddpm-test"), source=mirror)
    assert medzoo("list", "ddpm-test").out.split()[-1] == "cached"


def test_list_and_show_agree_on_location(medzoo, publish, monkeypatch):
    at_hub = f'repo = "org/ddpm-hub"\nrevision = "{"a" * 40}"'
    files = [publish("ddpm-none", mirror=False), publish("ddpm-hub", mirror=False, extra=at_hub), publish("ddpm-test")]
    monkeypatch.setenv("MEDZOO_REGISTRY", ":".join(str(published.registry) for published in files))
    fetch_model(load_registry().model("ddpm-udder"))
    states = {row["id"]: row["state"] for row in json.loads(medzoo("list", "--json").out)}
    assert set(states.values()) == {"bundled", "cached", "hub", "mirror", "missing", "package"}
    assert states == {name: json.loads(medzoo("show", name, "--json").out)["state"] for name in states}


def test_list_words_must_all_match(medzoo, publish):
    publish("ddpm-test")

    def ids(*words):
        return [row["id"] for row in json.loads(medzoo("list", "--json", *words).out)]

    assert "ddpm-test" in ids()
    assert ids("PHANTOM", "ddpm-test") == ["ddpm-test"]
    assert ids("ddpm-test", "nowhere") == []


def test_list_without_match(medzoo, publish):
    outcome = medzoo("list", "nowhere")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no entry has the words: nowhere" in outcome.err


def test_list_json(medzoo, publish):
    published = publish("ddpm-test")
    outcome = medzoo("list", "ddpm-test", "--json")
    (row,) = json.loads(outcome.out)
    assert outcome.err == ""
    assert row["classes"] == ["a", "b"]
    assert row["origin"] == str(published.registry)
    assert row["state"] == "mirror"
    assert {file["name"] for file in row["files"]} == set(published.files)


def test_list_names_parameter_free_generators(medzoo):
    assert "generators that need no weights: api-variation, classic, duplicate" in medzoo("list").err


FRESH = """
from dataclasses import dataclass
from pathlib import Path

from medzoo import ClassifierSpec, GeneratorSpec, hookimpl
from medzoo.specs import CONTRACT


@dataclass(frozen=True, kw_only=True)
class Config:
    pass


def offer(kind, name, **more):
    presets = Path(__file__).parent
    return kind(contract=CONTRACT, name=name, summary="new", config=Config, presets=presets, build=print, **more)


@hookimpl
def register_generators():
    return [offer(GeneratorSpec, "gaussian"), offer(GeneratorSpec, "mirror", needs_init_images=True, trainable=False)]


@hookimpl
def register_classifiers():
    return [offer(ClassifierSpec, "centroid")]
"""


def test_list_names_trainable_plugins_with_command(medzoo, install_plugin):
    before = medzoo("list")
    assert "generators without a published model" not in before.err
    install_plugin("fresh", FRESH)
    outcome = medzoo("list")
    assert outcome.out == before.out
    told = outcome.err.splitlines()
    assert "generators that need no weights: api-variation, classic, duplicate, mirror" in told
    train = "medzoo train gaussian --data DIR --out DIR"
    assert f"generators without a published model: gaussian ({train})" in told
    (line,) = (line for line in told if line.startswith("classifiers without a published model: "))
    assert "centroid, " in line
    assert "cnn" not in line
    assert line.endswith(" (medzoo classify train NAME --data DIR --out DIR)")


@pytest.mark.parametrize("options", [("ddpm",), ("--json",)])
def test_list_filtered_omits_trainable_plugins(medzoo, options):
    assert "without a published model" not in medzoo("list", *options).err


def test_list_json_excludes_plugin_output(medzoo, install_plugin):
    install_plugin("foreign", "print('welcome')")
    outcome = medzoo("list", "--json")
    json.loads(outcome.out)
    assert "broken plugins: foreign" in outcome.err


def test_list_broken_plugin(medzoo, publish, install_plugin):
    publish("ddpm-test")
    install_plugin("foreign", "raise OSError('no')")
    outcome = medzoo("list")
    assert outcome.code == 0
    assert "ddpm-test" in outcome.out
    assert "broken plugins: foreign" in outcome.err


def test_list_long_row_in_a_pipe(medzoo, publish):
    publish("ddpm-" + "x" * 120)
    assert "ddpm-" + "x" * 120 in medzoo("list").out


ASSET = """
[[asset]]
id = "encoder"
summary = "features for a test"
license = "MIT"
url = "https://example.org/encoder.pth"
files = [{ name = "encoder.pth", sha256 = "%s", bytes = 2_000_000 }]
""" % ("0" * 64)


@pytest.fixture
def listed(medzoo, publish):
    """Ids listed with these options, of a catalog that also holds a model and an asset for a test."""
    publish("ddpm-test", extra=ASSET)

    def ids(*options):
        return [row["id"] for row in json.loads(medzoo("list", "--json", *options).out)]

    return ids


@pytest.mark.parametrize(
    ("options", "model", "asset"),
    [
        ((), True, True),
        (("--modality", "Simulated Ultrasound"), True, False),
        (("--modality", "x-ray"), False, False),
        (("--plugin", "ddpm"), True, False),
        (("--plugin", "dcgan"), False, False),
        (("--dataset", "PHANTOM"), True, False),
        (("--dataset", "busi"), False, False),
        (("--class", "a"), True, False),
        (("--class", "a", "--class", "B"), True, False),
        (("--class", "a", "--class", "benign"), False, False),
        (("--kind", "model"), True, False),
        (("--kind", "generator"), True, False),
        (("--kind", "classifier"), False, False),
        (("--kind", "asset"), False, True),
        (("--license", "mit"), False, True),
        (("--license", "cc-by-4.0"), True, False),
        (("--kind", "asset", "--plugin", "ddpm"), False, False),
        (("features", "test"), False, True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_list_options_filter_rows(listed, options, model, asset):
    ids = listed(*options)
    assert ("ddpm-test" in ids, "encoder" in ids) == (model, asset)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--modality", "ultrasond", "did you mean ultrasound"),
        ("--plugin", "ddmp", "did you mean ddpm"),
        ("--dataset", "bussi", "did you mean busi"),
        ("--class", "benin", "did you mean benign"),
        ("--license", "apache", "did you mean apache-2.0"),
    ],
)
def test_list_unknown_option_value_suggests_nearest(medzoo, option, value, hint):
    outcome = medzoo("list", option, value)
    assert outcome.code == 2
    assert f"unknown {option.strip('-')} '{value}'" in outcome.err
    assert hint in outcome.err


def test_list_names_the_requirement_of_an_asset(medzoo):
    (row,) = (line for line in medzoo("list").out.splitlines() if line.startswith("efficientnet-lite0-imagenet"))
    assert row.split()[1:] == ["18.8", "apache-2.0", "package", "medzoo[imagenet]"]


def test_list_assets_in_their_own_table(medzoo, listed):
    models, *_, assets = medzoo("list").out.split("\n\n")
    assert "ddpm-test" in models
    cells = next(line for line in assets.splitlines() if line.startswith("encoder")).split()
    assert cells[:3] == ["encoder", "2.0", "MIT"]
    assert cells[-1] == "example.org"
    assert "encoder" not in models
    assert medzoo("list", "--kind", "asset").out == assets


def test_list_versions(medzoo, publish, monkeypatch):
    first = publish("ddpm-test").registry
    second = publish("ddpm-test", extra="version = 2").registry
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{first}:{second}")
    names = [line.split()[0] for line in medzoo("list", "ddpm-test").out.splitlines()[1:]]
    assert names == ["ddpm-test@v1", "ddpm-test"]
    rows = json.loads(medzoo("list", "ddpm-test", "--json").out)
    assert [(row["version"], row["newest"]) for row in rows] == [(1, False), (2, True)]


def test_list_deprecated_model_names_successor(medzoo, publish):
    publish("ddpm-test", extra='deprecated = "its labels were wrong"\nsuccessor = "ddpm-udder"')
    outcome = medzoo("list", "ddpm-test")
    assert outcome.out.rstrip().endswith("mirror, deprecated")
    assert "ddpm-test is deprecated: its labels were wrong; use ddpm-udder: medzoo show ddpm-udder" in outcome.err
    assert outcome.err.count("deprecated") == 1


def test_print_table_wraps_at_terminal_width(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("name", "n"), [("a" * 30, 1)], right=("n",))
    assert capsys.readouterr().out.splitlines()[1:] == ["a" * 17 + "  1", "a" * 13 + " " * 7]


def test_print_table_aligns_wide_characters(capsys):
    print_table(("name", "n"), [("乳房", 7), ("teat", 10)], right=("n",))
    assert capsys.readouterr().out.splitlines() == ["name   n", "乳房   7", "teat  10"]


def test_list_classifiers_in_their_own_table(medzoo, publish):
    publish("tell-test", extra='kind = "classifier"')
    generators, classifiers, _ = medzoo("list").out.split("\n\n")
    assert "tell-test" not in generators
    head, *lines = classifiers.splitlines()
    assert head.split()[:2] == ["classifier", "plugin"]
    assert "tell-test" in [line.split()[0] for line in lines]
    assert medzoo("list", "--kind", "classifier").out.strip() == classifiers
    kinds = {row["id"]: row["kind"] for row in json.loads(medzoo("list", "--json").out)}
    assert (kinds["tell-test"], kinds["ddpm-udder"], kinds["inception-fid"]) == ("classifier", "generator", "asset")
