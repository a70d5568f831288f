import json
from fractions import Fraction
from pathlib import Path

import pytest

from medzoo.errors import ConfigError, IntegrityError, PluginError, UnknownName
from medzoo.hub import verify_folder
from medzoo.mixture import exact_shares, parse_mixture
from medzoo.places import bundled_root
from medzoo.plugins import load_plugins
from medzoo.registry import load_registry, resolve

with pytest.MonkeyPatch.context() as environment:
    environment.setenv("XDG_CONFIG_HOME", "/nowhere")
    environment.delenv("MEDZOO_REGISTRY", raising=False)
    BUNDLED = load_registry().rows
LARGEST = 8_000_000


@pytest.mark.parametrize("row", BUNDLED, ids=lambda row: row.id)
def test_a_bundled_model_is_what_its_row_says(row):
    card = bundled_root() / "cards" / row.id
    verify_folder(card, row)
    assert row.plugin in load_plugins().generators
    description = json.loads((card / "config.json").read_text("utf-8"))
    assert description["plugin"] == row.plugin
    assert description["image"]["size"] == row.size
    assert description["image"]["channels"] == row.channels
    assert description["image"]["classes"] == list(row.classes)
    assert next(file.bytes for file in row.files if file.name == "model.safetensors") <= LARGEST
    assert {file.name for file in row.files} == {path.name for path in card.iterdir()}


@pytest.mark.parametrize("card", sorted((bundled_root() / "cards").glob("*/")), ids=lambda card: card.name)
def test_every_card_has_its_row(card):
    assert card.name in {row.id for row in BUNDLED}


def overlay(monkeypatch, tmp_path, text, name="own.toml"):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(path))
    return path


def test_an_overlay_adds_a_model_and_is_its_origin(publish):
    published = publish("ddpm-test")
    row = load_registry().model("ddpm-test")
    assert row.origin == published.registry
    assert row.classes == ("a", "b")
    assert row.default is False
    assert row.bytes == sum(len(data) for data in published.files.values())


def test_the_users_registry_is_read(publish, user_folders, monkeypatch):
    published = publish("ddpm-test")
    own = user_folders / "config" / "medzoo" / "registry.toml"
    own.parent.mkdir(parents=True)
    own.write_text(published.registry.read_text())
    monkeypatch.delenv("MEDZOO_REGISTRY")
    assert load_registry().model("ddpm-test").origin == own


def test_a_later_overlay_changes_one_key_of_a_model(publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    later = tmp_path / "later.toml"
    later.write_text('[[model]]\nid = "ddpm-test"\nlicense = "CC0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{published.registry}:{later}")
    row = load_registry().model("ddpm-test")
    assert (row.license, row.plugin, row.origin) == ("CC0-1.0", "ddpm", later)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[[model]]\nid = "m"\nlicence = "x"', "model 'm': unknown key 'licence'", "did you mean license?"),
        ('[[models]]\nid = "m"', "unknown key 'models'", "did you mean model?"),
        ('[[model]]\nid = "m"\nsize = "64"', "size must be a whole number, not '64'", ""),
        ('[[model]]\nid = "m"\nsize = true', "size must be a whole number, not True", ""),
        ('[[model]]\nid = "m"\nclasses = [1]', "classes must be a list of names", ""),
        ('[[model]]\nid = "m"', "model 'm' lacks plugin, summary", ""),
        ('[[model]]\nplugin = "ddpm"', "model 1: needs an id", ""),
        ('[[model]]\nid = "../m"', "model '../m': needs an id", ""),
        ('[[model]]\nid = "m"\n[[model]]\nid = "m"', "model 'm' is there twice", "join"),
        ('[[model]]\nid = "m"\nfiles = ["a"]', "files must be a list of tables", ""),
        ('[[model]]\nid = "m"\nfiles = [{ name = "a", sha = "b" }]', "unknown key 'sha'", "did you mean sha256?"),
        ('[[model]]\nid = "m"\nfiles = [{ name = "a" }]', "file a lacks sha256, bytes", ""),
        ("[[model]\n", "is not TOML", ""),
    ],
)
def test_a_wrong_registry_is_refused_by_file_row_and_key(monkeypatch, tmp_path, text, message, hint):
    path = overlay(monkeypatch, tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_registry()
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".hidden", ""])
def test_a_file_name_cannot_leave_the_models_folder(monkeypatch, tmp_path, name):
    files = f'files = [{{ name = "{name}", sha256 = "{"0" * 64}", bytes = 1 }}]'
    overlay(monkeypatch, tmp_path, f'[[model]]\nid = "m"\n{files}')
    with pytest.raises(ConfigError, match="plain name"):
        load_registry()


def test_a_registry_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_registry()


def test_two_default_models_for_one_plugin_are_refused(publish, monkeypatch):
    one = publish("ddpm-test", extra="default = true").registry
    two = publish("ddpm-other", extra="default = true").registry
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{one}:{two}")
    with pytest.raises(ConfigError, match="'ddpm' has two default models"):
        load_registry()


def test_a_plugins_unreadable_registry_is_a_problem_and_the_rest_goes_on(publish, install_plugin, tmp_path):
    publish("ddpm-test")
    bad = tmp_path / "bad.toml"
    bad.write_text("model = 3")
    source = "import medzoo, pathlib\n@medzoo.hookimpl\ndef register_registries():\n    return [pathlib.Path({!r})]\n"
    install_plugin("foreign", source.format(str(bad)))
    registry = load_registry()
    assert registry.model("ddpm-test")
    assert str(bad) in registry.problems[0]


def test_a_plugins_registry_is_laid_over(publish, install_plugin, monkeypatch):
    published = publish("ddpm-test")
    monkeypatch.delenv("MEDZOO_REGISTRY")
    source = "import medzoo, pathlib\n@medzoo.hookimpl\ndef register_registries():\n    return [pathlib.Path({!r})]\n"
    install_plugin("foreign", source.format(str(published.registry)))
    assert load_registry().model("ddpm-test").origin == published.registry


def test_an_unknown_model_offers_the_nearest_spelling(publish):
    publish("ddpm-test")
    with pytest.raises(UnknownName, match=r"did you mean .*ddpm-test"):
        load_registry().model("ddpm-tset")


def resolved(given):
    plugins = load_plugins()
    return resolve(given, load_registry(plugins=plugins), plugins)


def trained(folder: Path, plugin: object = "ddpm-var") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"plugin": plugin}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_generator_is_meant_by_model_id(publish):
    publish("ddpm-test")
    found = resolved("ddpm-test")
    assert (found.spec.name, found.row.id, found.folder) == ("ddpm", "ddpm-test", None)


def test_a_generator_is_meant_by_folder(tmp_path):
    folder = trained(tmp_path / "run")
    found = resolved(str(folder))
    assert (found.spec.name, found.row, found.folder) == ("ddpm-var", None, folder)


@pytest.mark.parametrize("name", ["classic", "duplicate"])
def test_a_generator_without_weights_is_meant_by_its_name(name):
    found = resolved(name)
    assert (found.spec.name, found.row, found.folder) == (name, None, None)


def test_a_plugin_without_a_default_model_says_what_to_do(publish, install_plugin):
    install_plugin(
        "foreign",
        "import medzoo\n@medzoo.hookimpl\ndef register_generators():\n"
        "    return [medzoo.GeneratorSpec(name='own', summary='', config=dict, presets=None, build=None)]\n",
    )
    with pytest.raises(ConfigError, match=r"'own' has no default model.*medzoo train own"):
        resolved("own")


def test_a_name_that_means_two_things_is_refused(tmp_path, monkeypatch):
    trained(tmp_path / "classic")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"write \./classic for the folder"):
        resolved("classic")
    assert resolved("./classic").folder == Path("classic")


def test_a_folder_without_a_trained_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no trained model"):
        resolved(str(tmp_path))


@pytest.mark.parametrize("given", ["runs/one", "./one", "one/"])
def test_a_folder_that_is_not_there_is_no_misspelt_name(given):
    with pytest.raises(ConfigError, match=f"{given} does not exist"):
        resolved(given)


@pytest.mark.parametrize("plugin", [None, 3])
def test_a_folder_that_names_no_plugin_is_refused(tmp_path, plugin):
    with pytest.raises(IntegrityError, match="does not say which plugin"):
        resolved(str(trained(tmp_path / "run", plugin)))


def test_a_folder_of_a_plugin_that_is_not_installed_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="unknown generator 'ddpn'"):
        resolved(str(trained(tmp_path / "run", "ddpn")))


def test_an_unknown_generator_offers_models_and_plugins():
    with pytest.raises(UnknownName, match=r"unknown generator or model 'clasic'.*did you mean classic"):
        resolved("clasic")


def test_a_broken_plugins_name_says_so(install_plugin):
    install_plugin("foreign", "raise OSError('no')")
    with pytest.raises(PluginError, match=r"plugin 'foreign' of .* is broken"):
        resolved("foreign")


def test_one_generator_has_the_whole_share():
    assert parse_mixture(["ddpm"]) == [("ddpm", Fraction(1))]
    assert parse_mixture(["ddpm=1"]) == [("ddpm", Fraction(1))]


def test_shares_are_exact():
    assert parse_mixture(["a=0.8", "b=0.2"]) == [("a", Fraction(4, 5)), ("b", Fraction(1, 5))]
    thirds = parse_mixture(["a=0.3333333", "b=0.3333333", "c=1/3"])
    assert sum(share for _, share in thirds) == 1


def test_a_folder_may_hold_an_equals_sign(tmp_path):
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert parse_mixture([str(folder)]) == [(str(folder), Fraction(1))]
    assert parse_mixture([f"{folder}=0.5", "b=0.5"])[0] == (str(folder), Fraction(1, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no generator"),
        (["a", "b"], "'a' has none"),
        (["a=0.5", "b"], "'b' has none"),
        (["a=0.5", "a=0.5"], "'a' is given twice"),
        (["a=0.5", "b=0.4"], "sum to 0.9"),
        (["a=1.5", "b=-0.5"], "more than 0"),
        (["a=1", "b=0"], "more than 0"),
        (["a=0.8", "b=x"], "must be a number"),
        (["a=nan", "b=1"], "must be a number"),
        (["a=1/0", "b=1"], "must be a number"),
    ],
)
def test_a_wrong_mixture_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_mixture(given)


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, ["4/5", "1/5"], [8, 2]),
        (7, ["1/2", "1/2"], [4, 3]),
        (10, ["1/3", "1/3", "1/3"], [4, 3, 3]),
        (0, ["1/2", "1/2"], [0, 0]),
        (1, ["1/10", "9/10"], [0, 1]),
    ],
)
def test_integer_shares_sum_to_the_total(total, shares, counts):
    assert exact_shares(total, [Fraction(share) for share in shares]) == counts
