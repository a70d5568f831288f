import json
import os
from pathlib import Path

import pytest

from medzoo.errors import ConfigError, IntegrityError, PluginError, UnknownName
from medzoo.hub.registry import AssetEntry, find_entry, load_registry, resolve
from medzoo.hub.sources import verify_folder
from medzoo.plugins.lookup import load_plugins
from medzoo.storage.paths import bundled_root

with pytest.MonkeyPatch.context() as environment:
    environment.setenv("XDG_CONFIG_HOME", "/nowhere")
    environment.delenv("MEDZOO_REGISTRY", raising=False)
    BUNDLED = load_registry().entries
LARGEST = 8_000_000


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.id)
def test_bundled_model_matches_its_entry(entry):
    card = bundled_root() / "cards" / entry.id
    verify_folder(card, entry)
    plugins = load_plugins()
    assert entry.plugin in (plugins.classifiers if entry.kind == "classifier" else plugins.generators)
    description = json.loads((card / "config.json").read_text("utf-8"))
    assert (description["plugin"], description.get("kind", "generator")) == (entry.plugin, entry.kind)
    assert description["image"]["size"] == entry.size
    assert description["image"]["channels"] == entry.channels
    assert description["image"]["classes"] == list(entry.classes)
    assert next(file.bytes for file in entry.files if file.name == "model.safetensors") <= LARGEST
    assert {file.name for file in entry.files} == {path.name for path in card.iterdir()}


@pytest.mark.parametrize("card", sorted((bundled_root() / "cards").glob("*/")), ids=lambda card: card.name)
def test_bundled_card_has_an_entry(card):
    assert card.name in {entry.id for entry in BUNDLED}


def overlay(monkeypatch, tmp_path, text, name="own.toml"):
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(path))
    return path


def test_load_registry_overlay_adds_a_model(publish):
    published = publish("ddpm-test")
    entry = load_registry().model("ddpm-test")
    assert entry.origin == published.registry
    assert entry.classes == ("a", "b")
    assert entry.default is False
    assert entry.bytes == sum(len(data) for data in published.files.values())


def test_load_registry_reads_the_users_file(publish, user_folders, monkeypatch):
    published = publish("ddpm-test")
    own = user_folders / "config" / "medzoo" / "registry.toml"
    own.parent.mkdir(parents=True)
    own.write_text(published.registry.read_text())
    monkeypatch.delenv("MEDZOO_REGISTRY")
    assert load_registry().model("ddpm-test").origin == own


def test_load_registry_overlay_changes_one_key(publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    later = tmp_path / "later.toml"
    later.write_text('[[model]]\nid = "ddpm-test"\nlicense = "CC0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{published.registry}:{later}")
    entry = load_registry().model("ddpm-test")
    assert (entry.license, entry.plugin, entry.origin) == ("CC0-1.0", "ddpm", later)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[[model]]\nid = "m"\nlicence = "x"', "model 'm': unknown key 'licence'", "did you mean license?"),
        ('[[models]]\nid = "m"', "unknown key 'models'", "did you mean model?"),
        ('[[model]]\nid = "m"\nsize = "64"', "size must be a whole number, not '64'", ""),
        ('[[model]]\nid = "m"\nsize = true', "size must be a whole number, not True", ""),
        ('[[model]]\nid = "m"\nclasses = [1]', "classes must be a list of names", ""),
        ('[[model]]\nid = "m"\nkind = "metric"', "kind must be generator or classifier, not 'metric'", ""),
        ('[[model]]\nid = "m"', "model 'm' lacks plugin, summary", ""),
        ('[[model]]\nplugin = "ddpm"', "model 1: needs an id", ""),
        ('[[model]]\nid = "../m"', "model '../m': needs an id", ""),
        ('[[model]]\nid = "m"\n[[model]]\nid = "m"', "model 'm' is listed twice", "join"),
        ('[[model]]\nid = "m"\nfiles = ["a"]', "files must be a list of tables", ""),
        ('[[model]]\nid = "m"\nfiles = [{ name = "a", sha = "b" }]', "unknown key 'sha'", "did you mean sha256?"),
        ('[[model]]\nid = "m"\nfiles = [{ name = "a" }]', "file a lacks sha256, bytes", ""),
        ("[[model]\n", "is not TOML", ""),
    ],
)
def test_load_registry_invalid_file(monkeypatch, tmp_path, text, message, hint):
    path = overlay(monkeypatch, tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_registry()
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".hidden", "", "a" * 129])
def test_load_registry_file_name_outside_the_folder(monkeypatch, tmp_path, name):
    files = f'files = [{{ name = "{name}", sha256 = "{"0" * 64}", bytes = 1 }}]'
    overlay(monkeypatch, tmp_path, f'[[model]]\nid = "m"\n{files}')
    with pytest.raises(ConfigError, match="plain name"):
        load_registry()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ('repo = "a/../../b"', "repo must be org/name"),
        ('repo = "a/b--c"', "repo must be org/name"),
        ('repo = "a/b.git"', "repo must be org/name"),
        (f'repo = "{"a" * 50}/{"b" * 50}"', "repo must be org/name"),
        ('repo = "a/b"\nrevision = "main"', "40 hexadecimal digits"),
        ('repo = "a/b"\nrevision = "../../.."', "40 hexadecimal digits"),
        (f'revision = "{"0" * 40}"', "40 hexadecimal digits"),
    ],
)
def test_load_registry_model_without_a_pinned_place(publish, place, message):
    publish("ddpm-test", extra=place)
    with pytest.raises(ConfigError, match=message):
        load_registry()


def test_load_registry_nested_deeply(monkeypatch, tmp_path):
    overlay(monkeypatch, tmp_path, f"model = {'[' * 100_000}")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_registry()


def test_load_registry_invalid_entry_of_a_plugin(publish, install_plugin, monkeypatch):
    published = publish("ddpm-test", extra='repo = "a/../b"')
    monkeypatch.delenv("MEDZOO_REGISTRY")
    source = "import medzoo, pathlib\n@medzoo.hookimpl\ndef register_registries():\n    return [pathlib.Path({!r})]\n"
    install_plugin("foreign", source.format(str(published.registry)))
    registry = load_registry()
    assert "ddpm-test" not in registry.models
    assert "ddpm-udder" in registry.models
    assert "repo must be org/name" in registry.problems[0]


def test_load_registry_missing_file(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDZOO_REGISTRY", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_registry()


def test_load_registry_two_default_models(publish, monkeypatch):
    one = publish("ddpm-test", extra="default = true").registry
    two = publish("ddpm-other", extra="default = true").registry
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{one}:{two}")
    with pytest.raises(ConfigError, match="'ddpm' has two default models"):
        load_registry()


@pytest.fixture
def two_versions(publish, monkeypatch):
    """The registry files that name versions 1 and 2 of `ddpm-test`, each with default = true."""
    files = [publish("ddpm-test", extra=extra).registry for extra in ("default = true", "default = true\nversion = 2")]
    own = files[0].with_name("own.toml")
    own.write_text('[[model]]\nid = "ddpm-udder"\ndefault = false\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", ":".join(map(str, [own, *files])))
    return files


def test_registry_model_newest_version(two_versions):
    registry = load_registry()
    newest, older = registry.model("ddpm-test"), registry.model("ddpm-test@v1")
    assert registry.model("ddpm-test@v2") is newest
    assert [(entry.version, entry.name, entry.folder) for entry in (newest, older)] == [
        (2, "ddpm-test", "ddpm-test@v2"),
        (1, "ddpm-test@v1", "ddpm-test"),
    ]
    assert registry.default_for("ddpm") is newest
    assert registry.ids.count("ddpm-test") == 1


def test_load_registry_overlay_without_version(two_versions, monkeypatch, tmp_path):
    later = tmp_path / "later.toml"
    later.write_text('[[model]]\nid = "ddpm-test"\nlicense = "CC0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{os.environ['MEDZOO_REGISTRY']}:{later}")
    registry = load_registry()
    newest = registry.model("ddpm-test@v2")
    assert (newest.license, newest.origin) == ("CC0-1.0", later)
    assert (newest.origins["license"], newest.origins["plugin"]) == (later, two_versions[1])
    assert registry.model("ddpm-test@v1").license == "CC-BY-4.0"


def test_load_registry_table_without_version(publish, monkeypatch, tmp_path):
    published = publish("ddpm-test")
    both = tmp_path / "both.toml"
    text = published.registry.read_text()
    both.write_text(text.replace('id = "ddpm-test"', 'id = "ddpm-test"\nversion = 3') + text)
    monkeypatch.setenv("MEDZOO_REGISTRY", str(both))
    assert load_registry().model("ddpm-test@v1").newest is False
    assert load_registry().model("ddpm-test").version == 3


@pytest.mark.parametrize(
    ("given", "hint"), [("ddpm-test@v3", "did you mean ddpm-test@v"), ("ddpm-test@2", "did you mean ddpm-test@v2")]
)
def test_resolve_unknown_version(two_versions, given, hint):
    with pytest.raises(UnknownName, match=f"unknown version '{given}'") as caught:
        resolved(given)
    assert hint in caught.value.hint


def test_resolve_version(two_versions):
    assert resolved("ddpm-test@v1").entry.version == 1
    assert resolved("ddpm-test").entry.version == 2


@pytest.mark.parametrize("extra", ['deprecated = "old"', 'successor = "ddpm-udder"'])
def test_load_registry_deprecated_without_reason_or_successor(publish, extra):
    publish("ddpm-test", extra=extra)
    with pytest.raises(ConfigError, match="needs both a reason and a successor"):
        load_registry()


ASSET = """
[[asset]]
id = "{id}"
summary = "a part"
license = "mit"
{place}
files = [{{ name = "part.pth", sha256 = "%s", bytes = 7 }}]
""" % ("0" * 64)
URL = 'url = "https://example.org/part.pth"'


def test_load_registry_overlay_changes_an_asset(monkeypatch, tmp_path):
    first = tmp_path / "first.toml"
    first.write_text(ASSET.format(id="part", place=URL))
    later = overlay(monkeypatch, tmp_path, '[[asset]]\nid = "part"\nlicense = "cc0-1.0"\n')
    monkeypatch.setenv("MEDZOO_REGISTRY", f"{first}:{later}")
    asset = load_registry().asset("part")
    assert (asset.license, asset.bytes, asset.origin, asset.origins["url"]) == ("cc0-1.0", 7, later, first)
    with pytest.raises(UnknownName, match=r"unknown asset 'prt'.*did you mean part"):
        load_registry().asset("prt")


@pytest.mark.parametrize(
    "place",
    [
        "",
        f'{URL}\nrepo = "a/b"',
        'url = "http://a.b/c"',
        'url = "https://"',
        'url = "https://user:secret@a.b/c"',
        'url = "https://a.b:port/c"',
        'url = "https://[a.b/c"',
        'url = "https://a.b/c\\r\\nHost: x"',
        'repo = "a/b"',
        'repo = "a"',
        f'repo = "a/../b"\nrevision = "{"0" * 40}"',
        f'repo = "a/b."\nrevision = "{"0" * 40}"',
        'repo = "a/b"\nrevision = "../../../../etc"',
        'package = "own/../other"\nrequirement = "own"',
        'package = "own.inner"\nrequirement = "own"',
        'package = "own"\nrequirement = "own; rm -r /"',
        'package = "own"',
    ],
)
def test_load_registry_asset_without_one_pinned_place(monkeypatch, tmp_path, place):
    overlay(monkeypatch, tmp_path, ASSET.format(id="part", place=place))
    with pytest.raises(ConfigError, match="asset 'part'"):
        load_registry()


def test_load_registry_file_listed_twice(monkeypatch, tmp_path):
    part = f'{{ name = "part.pth", sha256 = "{"0" * 64}", bytes = 7 }}'
    place = f'repo = "a/b"\nrevision = "{"0" * 40}"'
    text = ASSET.format(id="part", place=place)
    overlay(monkeypatch, tmp_path, text[: text.index("files")] + f"files = [{part}, {part}]")
    with pytest.raises(ConfigError, match="'part' lists a file name twice"):
        load_registry()


def test_load_registry_asset_with_the_id_of_a_model(monkeypatch, tmp_path):
    overlay(monkeypatch, tmp_path, ASSET.format(id="ddpm-udder", place=URL))
    with pytest.raises(ConfigError, match="'ddpm-udder' is both a model and an asset"):
        load_registry()


def test_find_entry(two_versions):
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    assert isinstance(find_entry("inception-fid", registry, plugins), AssetEntry)
    assert find_entry("ddpm-test@v1", registry, plugins) is registry.model("ddpm-test@v1")
    assert find_entry("ddpm", registry, plugins) is registry.model("ddpm-test")
    with pytest.raises(ConfigError, match="'classic' has no weights to pull"):
        find_entry("classic", registry, plugins)
    with pytest.raises(UnknownName, match=r"unknown model or asset 'inception-fidd'.*did you mean inception-fid"):
        find_entry("inception-fidd", registry, plugins)


def test_load_registry_unreadable_file_of_a_plugin(publish, install_plugin, tmp_path):
    publish("ddpm-test")
    bad = tmp_path / "bad.toml"
    bad.write_text("model = 3")
    source = "import medzoo, pathlib\n@medzoo.hookimpl\ndef register_registries():\n    return [pathlib.Path({!r})]\n"
    install_plugin("foreign", source.format(str(bad)))
    registry = load_registry()
    assert registry.model("ddpm-test")
    assert str(bad) in registry.problems[0]


def test_load_registry_reads_a_plugins_file(publish, install_plugin, monkeypatch):
    published = publish("ddpm-test")
    monkeypatch.delenv("MEDZOO_REGISTRY")
    source = "import medzoo, pathlib\n@medzoo.hookimpl\ndef register_registries():\n    return [pathlib.Path({!r})]\n"
    install_plugin("foreign", source.format(str(published.registry)))
    assert load_registry().model("ddpm-test").origin == published.registry


def test_registry_model_unknown(publish):
    publish("ddpm-test")
    with pytest.raises(UnknownName, match=r"did you mean .*ddpm-test"):
        load_registry().model("ddpm-tset")


def resolved(given):
    plugins = load_plugins()
    return resolve(given, load_registry(plugins=plugins), plugins)


def trained(folder: Path, plugin: object = "ddpm-var", **stated: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"plugin": plugin, **stated}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_resolve_model_id(publish):
    publish("ddpm-test")
    found = resolved("ddpm-test")
    assert (found.spec.name, found.entry.id, found.folder) == ("ddpm", "ddpm-test", None)


def test_resolve_folder(tmp_path):
    folder = trained(tmp_path / "run")
    found = resolved(str(folder))
    assert (found.spec.name, found.entry, found.folder) == ("ddpm-var", None, folder)


@pytest.mark.parametrize("name", ["classic", "duplicate"])
def test_resolve_generator_without_weights(name):
    found = resolved(name)
    assert (found.spec.name, found.entry, found.folder) == (name, None, None)


def test_resolve_plugin_without_default_model(publish, install_plugin):
    install_plugin(
        "foreign",
        "import medzoo\n@medzoo.hookimpl\ndef register_generators():\n"
        "    fields = dict(summary='', config=dict, presets=None, build=None)\n"
        "    return [medzoo.GeneratorSpec(contract=2, name='own', **fields)]\n",
    )
    with pytest.raises(ConfigError, match=r"'own' has no default model.*medzoo train own"):
        resolved("own")


def test_resolve_ambiguous_name(tmp_path, monkeypatch):
    trained(tmp_path / "classic")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"write \./classic for the folder"):
        resolved("classic")
    assert resolved("./classic").folder == Path("classic")


def test_resolve_folder_without_model(tmp_path):
    with pytest.raises(ConfigError, match="holds no trained model"):
        resolved(str(tmp_path))


@pytest.mark.parametrize("given", ["runs/one", "./one", "one/"])
def test_resolve_missing_folder(given):
    with pytest.raises(ConfigError, match=f"{given} does not exist"):
        resolved(given)


@pytest.mark.parametrize("plugin", [None, 3])
def test_resolve_folder_without_plugin(tmp_path, plugin):
    with pytest.raises(IntegrityError, match="does not name the model's plugin"):
        resolved(str(trained(tmp_path / "run", plugin)))


def test_resolve_folder_of_unknown_plugin(tmp_path):
    with pytest.raises(UnknownName, match="unknown generator 'ddpn'"):
        resolved(str(trained(tmp_path / "run", "ddpn")))


def test_resolve_unknown_name():
    with pytest.raises(UnknownName, match=r"unknown generator or model 'clasic'.*did you mean classic"):
        resolved("clasic")


def test_resolve_broken_plugin(install_plugin):
    install_plugin("foreign", "raise OSError('no')")
    with pytest.raises(PluginError, match=r"plugin 'foreign' of .* is broken"):
        resolved("foreign")


CLASSIFIER = """import medzoo
@medzoo.hookimpl
def register_classifiers():
    return [medzoo.ClassifierSpec(contract=2, name="tell", summary="", config=dict, presets=None, build=None)]
"""


@pytest.fixture
def classifier(publish, install_plugin):
    """A registry with the classifier `tell-test`, whose plugin `tell` is installed."""
    install_plugin("tell", CLASSIFIER)
    published = publish("tell-test", extra='kind = "classifier"\ndefault = true')
    published.registry.write_text(published.registry.read_text().replace('plugin = "ddpm"', 'plugin = "tell"'))
    return published


def resolved_classifier(given):
    plugins = load_plugins()
    return resolve(given, load_registry(plugins=plugins), plugins, kind="classifier")


def test_load_registry_kind_is_generator_by_default(publish):
    publish("ddpm-test")
    assert load_registry().model("ddpm-test").kind == "generator"


def test_resolve_classifier(classifier, tmp_path):
    assert (resolved_classifier("tell-test").spec.name, resolved_classifier("tell-test").entry.kind) == (
        "tell",
        "classifier",
    )
    assert resolved_classifier("tell").entry.id == "tell-test"
    folder = trained(tmp_path / "run", "tell", kind="classifier")
    assert (resolved_classifier(str(folder)).folder, resolved_classifier(str(folder)).entry) == (folder, None)


def test_default_for_each_kind(classifier, monkeypatch):
    both = classifier.registry.read_text().replace("tell-test", "made-test").replace('"classifier"', '"generator"')
    classifier.registry.write_text(f"{classifier.registry.read_text()}\n{both}")
    registry = load_registry()
    assert registry.default_for("tell").id == "made-test"
    assert registry.default_for("tell", kind="classifier").id == "tell-test"


@pytest.mark.parametrize("given", ["tell-test", "tell", "folder"])
def test_resolve_classifier_as_generator(classifier, tmp_path, given):
    name = str(trained(tmp_path / "run", "tell", kind="classifier")) if given == "folder" else given
    with pytest.raises(ConfigError, match=f"'{name}' is a classifier, not a generator") as caught:
        resolved(name)
    assert "`medzoo list --kind generator`" in caught.value.hint
    assert f"`medzoo classify predict {name}`" in caught.value.hint


@pytest.mark.parametrize("given", ["ddpm-udder", "ddpm", "classic", "folder"])
def test_resolve_generator_as_classifier(tmp_path, given):
    name = str(trained(tmp_path / "run")) if given == "folder" else given
    with pytest.raises(ConfigError, match=f"'{name}' is a generator, not a classifier") as caught:
        resolved_classifier(name)
    assert "`medzoo list --kind classifier`" in caught.value.hint


def test_resolve_folder_of_unknown_kind(tmp_path):
    with pytest.raises(IntegrityError, match="does not name the model's plugin"):
        resolved_classifier(str(trained(tmp_path / "run", "tell", kind="metric")))


def test_find_entry_classifier(classifier):
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    assert find_entry("tell-test", registry, plugins) is find_entry("tell", registry, plugins)


def test_resolve_classifier_without_default_model(install_plugin):
    install_plugin("tell", CLASSIFIER)
    with pytest.raises(ConfigError, match=r"'tell' has no default model.*medzoo classify train tell"):
        resolved_classifier("tell")


def test_resolve_misspelled_classifier(classifier):
    with pytest.raises(UnknownName, match="unknown classifier or model 'tell-tset'") as caught:
        resolved_classifier("tell-tset")
    assert "tell-test" in caught.value.hint
    with pytest.raises(UnknownName, match="unknown generator or model 'tell-tset'") as caught:
        resolved("tell-tset")
    assert "tell-test" not in caught.value.hint
