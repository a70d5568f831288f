"""Settings: which layer wins, where a value came from, and what is refused with which words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from medzoo.cli.options import parse_overrides
from medzoo.config import (
    Resolved,
    build,
    flatten,
    keys,
    merge,
    preset_about,
    preset_names,
    read_preset,
    rename_saved,
    renamed,
    resolve,
    setting,
    settings_of,
    shown,
)
from medzoo.errors import ConfigError, PluginError, UnknownName
from medzoo.toolkit.settings import ImageSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Network:
    """A nested part."""

    widths: tuple[int, ...] = setting((8, 16), "channels at each resolution", min=1)
    depth: int = setting(2, "layers", min=1, max=9)
    dropout: float = setting(0.0, "dropout", min=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A plugin's settings; its network is deeper than the class's own default."""

    network: Network = Network(depth=5)
    mode: str = setting("fast", "how it runs", choices=("fast", "exact"))
    rate: float = setting(0.1, "step length", min=0.0)
    note: str = setting("", "free text")
    flip: bool = setting(True, "mirror")
    shares: tuple[float, ...] = setting((0.5, 0.5), "shares", min=0.0, max=1.0)


@pytest.fixture
def presets(tmp_path):
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "default.toml").write_text("")
    (folder / "tiny.toml").write_text('rate = 0.2\nmode = "exact"\n[network]\nwidths = [4]\n')
    (folder / "notes.txt").write_text("no preset")
    return folder


def refused(*overrides, presets):
    with pytest.raises(ConfigError) as caught:
        resolve(Settings, presets=presets, overrides=parse_overrides(overrides))
    return str(caught.value)


def test_resolve_merges_layers_and_keeps_origins(presets, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('mode = "fast"\nnetwork.depth = 3\nnote = "from the file"\n')
    resolved = resolve(
        Settings, presets=presets, preset="tiny", file=file, overrides={"note": "typed", "network.depth": 4}
    )
    assert resolved.value == Settings(
        network=Network(widths=(4,), depth=4), mode="fast", rate=0.2, note="typed", flip=True, shares=(0.5, 0.5)
    )
    assert resolved.origins == {
        "network.widths": "preset tiny",
        "network.depth": "--set",
        "network.dropout": "default",
        "mode": str(file),
        "rate": "preset tiny",
        "note": "--set",
        "flip": "default",
        "shares": "default",
    }


def test_resolve_keeps_nested_defaults_beside_a_change(presets):
    assert resolve(Settings, presets=presets).value.network.depth == 5
    assert resolve(Settings, presets=presets, overrides={"network.dropout": 0.5}).value.network == Network(
        depth=5, dropout=0.5
    )
    assert build(Settings, {"network.widths": [32]}).network == Network(widths=(32,), depth=5)


def test_build_restores_flattened_settings(presets):
    value = resolve(Settings, presets=presets, preset="tiny", overrides={"shares": [1, 0], "flip": False}).value
    assert build(Settings, flatten(value)) == value
    assert list(flatten(value)) == keys(Settings)
    assert resolve(Settings, presets=presets, preset="tiny").flat()["network.widths"] == (4,)


def test_preset_names_are_the_toml_files(presets):
    assert preset_names(presets) == ["default", "tiny"]
    assert read_preset(presets, "tiny") == {"rate": 0.2, "mode": "exact", "network.widths": [4]}
    with pytest.raises(UnknownName, match=r"unknown preset 'tinny' .did you mean tiny\?"):
        resolve(Settings, presets=presets, preset="tinny")


def test_preset_about_returns_the_first_comment(presets):
    (presets / "paper.toml").write_text("# As in the paper:\n#  28 pixels.\nrate = 0.5\n# no part of it\n")
    assert preset_about(presets, "paper") == "As in the paper: 28 pixels."
    assert preset_about(presets, "tiny") == ""


def test_preset_names_missing_folder(tmp_path):
    for ask in (preset_names, lambda presets: resolve(Settings, presets=presets)):
        with pytest.raises(PluginError, match=rf"cannot read the folder of presets {tmp_path}/gone: No such file"):
            ask(tmp_path / "gone")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"rate = = 3\n", "tiny.toml is not TOML: .*line 1"),
        (b"rate = " + b"[" * 100_000, "tiny.toml is not TOML: .*recursion"),
        (b"note = '\xff'\n", "cannot read the preset .*tiny.toml: .*utf-8"),
        (b"ratte = 3\n", r"tiny.toml: unknown setting 'ratte' .did you mean rate\?"),
        (b"rate = -3\n", r"tiny.toml: rate = -3.0 is out of range .*at least 0"),
        (b"[network]\ndepth = 'deep'\n", r"tiny.toml: network.depth = 'deep' is not a whole number"),
    ],
    ids=["no TOML", "nested deeply", "no text", "unknown key", "out of range", "wrong type"],
)
def test_resolve_invalid_preset_blames_the_plugin(presets, content, told):
    (presets / "tiny.toml").write_bytes(content)
    with pytest.raises(PluginError, match=rf"{presets}/{told}" if told.startswith("tiny") else told):
        resolve(Settings, presets=presets, preset="tiny", overrides={"rate": 1, "network.depth": 1})
    assert resolve(Settings, presets=presets).value == Settings()


def test_settings_of_describes_each_setting():
    told = {each.key: (each.help, each.takes) for each in settings_of(Settings)}
    assert list(told) == keys(Settings)
    assert told == {
        "network.widths": ("channels at each resolution", "list: whole number, at least 1"),
        "network.depth": ("layers", "whole number, 1 to 9"),
        "network.dropout": ("dropout", "number, 0 to 1"),
        "mode": ("how it runs", "fast, exact"),
        "rate": ("step length", "number, at least 0"),
        "note": ("free text", "text"),
        "flip": ("mirror", "true or false"),
        "shares": ("shares", "list: number, 0 to 1"),
    }


def test_resolve_schema_without_dataclass(presets):
    with pytest.raises(PluginError, match="settings must be a dataclass, got <class 'dict'>"):
        resolve(dict, presets=presets)


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A group that was forgotten to be made."""

    network: Network


@dataclass(frozen=True, kw_only=True)
class Vague:
    """A type that only type checkers import."""

    folder: Pth = setting("", "where")  # noqa: F821


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (Bare, r"the setting network of Bare has no default .declare it with medzoo.config.setting"),
        (Vague, r"a type in Vague is unknown: name 'Pth' is not defined .import it at run time"),
    ],
)
def test_keys_invalid_schema_blames_the_plugin(presets, schema, told):
    for ask in (keys, lambda schema: resolve(schema, presets=presets)):
        with pytest.raises(PluginError, match=told):
            ask(schema)


@pytest.mark.parametrize("given", [None, "medzoo_gauss/presets"])
def test_resolve_presets_without_folder(given):
    with pytest.raises(PluginError, match=r"presets must be a folder, got .*as in presets=files"):
        resolve(Settings, presets=given)


def test_shown_round_trip(presets):
    given = Settings(network=Network(widths=(4, 8)), note="Größe", flip=False, rate=1e-4)
    overrides = [f"{key}={shown(value)}" for key, value in flatten(given).items()]
    assert resolve(Settings, presets=presets, overrides=parse_overrides(overrides)).value == given
    assert shown("") == '""'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("note=word", "word"),
        ("note=two words", "two words"),
        ('note="quoted"', "quoted"),
        ("note=a=b", "a=b"),
        ("note=/data/vgg16.pth", "/data/vgg16.pth"),
        ("note=", ""),
        (" note = spaced ", "spaced"),
        ("rate=1e-4", 1e-4),
        ("rate=3", 3.0),
        ("flip=false", False),
        ("shares=[0, 0.25]", (0.0, 0.25)),
        ("network.widths=[64, 96]", (64, 96)),
    ],
)
def test_parse_overrides_reads_toml_or_a_bare_word(text, value, presets):
    key = text.partition("=")[0].strip()
    found = resolve(Settings, presets=presets, overrides=parse_overrides([text])).flat()[key]
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found] == [type(item) for item in value]


def test_parse_overrides_keeps_the_last_value():
    assert parse_overrides(["a.b=1", "c=x", "a.b=2"]) == {"a.b": 2, "c": "x"}
    assert parse_overrides(None) == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.depht=3", "unknown setting 'network.depht' (did you mean network.depth"),
        ("network=3", "unknown setting 'network'"),
        ("network.depth=0", "network.depth = 0 is out of range [from --set] (allowed: 1 to 9)"),
        ("network.depth=10", "network.depth = 10 is out of range"),
        ("rate=-1", "rate = -1.0 is out of range [from --set] (allowed: at least 0)"),
        ("rate=nan", "rate = nan is not a finite number [from --set]"),
        ("rate=inf", "rate = inf is not a finite number"),
        ("shares=[0.5, 1.5]", "shares = (0.5, 1.5) is out of range"),
        ("network.widths=[8, 0]", "network.widths = (8, 0) is out of range [from --set] (allowed: at least 1)"),
        ("mode=slow", "mode = 'slow' [from --set] (one of: fast, exact)"),
        ("network.depth=2.0", "network.depth = 2.0 is not a whole number"),
        ("network.depth=true", "network.depth = True is not a whole number"),
        ("rate=true", "rate = True is not a number"),
        ("rate=fast", "rate = 'fast' is not a number"),
        (f"rate={'[' * 100_000}", "rate = '[[["),
        ("flip=1", "flip = 1 is not true or false"),
        ("note=7", "note = 7 is not text"),
        ("network.widths=8", "network.widths = 8 is not a list"),
        ("network.widths=[8, 1.5]", "network.widths = 1.5 is not a whole number"),
        ("network.depth", "--set cannot take 'network.depth' (write --set key=value"),
        ("=3", "--set cannot take '=3' (write --set key=value"),
    ],
)
def test_resolve_refuses_an_invalid_override(override, words, presets):
    assert refused(override, presets=presets).startswith(words)


def test_resolve_names_the_file_of_an_invalid_value(presets, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[network]\ndepth = 99\n")
    with pytest.raises(ConfigError, match=r"network.depth = 99 is out of range \[from .*mine.toml\]"):
        resolve(Settings, presets=presets, file=file)
    file.write_text("[network]\nwidth = [8]\n")
    with pytest.raises(UnknownName, match=r"did you mean network.widths.*\[from .*mine.toml\]"):
        resolve(Settings, presets=presets, file=file)


def test_resolve_checks_layers_below_an_override(presets, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("ratte = 1\n")
    with pytest.raises(UnknownName, match="ratte"):
        resolve(Settings, presets=presets, file=file, overrides={"rate": 1})


def test_resolve_unreadable_file(presets, tmp_path):
    file = tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match=r"cannot read .*mine.toml: No such file"):
        resolve(Settings, presets=presets, file=file)
    file.write_text("rate = = 3\n")
    with pytest.raises(ConfigError, match=r"mine.toml is not TOML: .*line 1"):
        resolve(Settings, presets=presets, file=file)
    file.write_bytes(b"note = '\xff'\n")
    with pytest.raises(ConfigError, match=r"mine.toml is not TOML"):
        resolve(Settings, presets=presets, file=file)
    for text in ("a = " + "[" * 100_000, "a" + ".a" * 2000 + " = 1"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"mine.toml is not TOML"):
            resolve(Settings, presets=presets, file=file)
    with pytest.raises(ConfigError, match="cannot read"):
        resolve(Settings, presets=presets, file=tmp_path)


def test_build_refuses_unknown_keys_and_invalid_values():
    with pytest.raises(UnknownName, match="old_key"):
        build(Settings, {"old_key": 1})
    with pytest.raises(ConfigError, match=r"rate = -1.0 is out of range \[from config\]"):
        build(Settings, {"rate": -1})


def test_merge_layers_returns_values_and_origins():
    layers = [("default", {"seed": 0, "steps": 20}), ("file", {}), ("--set", {"seed": 3, "note": "x"})]
    assert merge(layers) == (
        {"seed": 3, "steps": 20, "note": "x"},
        {"seed": "--set", "steps": "default", "note": "--set"},
    )
    assert merge([]) == ({}, {})


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model's settings, with a name of its own that a shared setting had before."""

    image: ImageSettings = ImageSettings()
    training: TrainingSettings = TrainingSettings()
    steps: int = setting(3, "a name of its own")


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("training.rate", "training.learning_rate"),
        ("training.accumulate", "training.gradient_accumulation_steps"),
        ("training.warmup", "training.warmup_steps"),
        ("training.patience", None),  # it is not among these settings
        ("training.learning_rate", None),
        ("steps", None),
        ("rate", None),
    ],
)
def test_renamed_returns_current_name(key, new):
    assert renamed(key, keys(Trained)) == new


def test_resolve_names_the_new_key_of_a_renamed_setting(presets, tmp_path):
    (presets / "tiny.toml").write_text("")
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nrate = 1e-3\n")
    with pytest.raises(ConfigError, match=r"training\.rate was renamed to training\.learning_rate \[from .*mine"):
        resolve(Trained, presets=presets, file=file)
    with pytest.raises(ConfigError, match=r"training\.clip was renamed to training\.max_grad_norm \[from --set\]"):
        resolve(Trained, presets=presets, overrides={"training.clip": 1.0})


def test_rename_saved_maps_keys_and_values():
    old = {"training.rate": 0.5, "training.precision": "fp32", "image.crop": "centre", "steps": 4}
    assert rename_saved(Trained, old) == {
        "training.learning_rate": 0.5,
        "training.mixed_precision": "fp32",
        "image.crop": "center",
        "steps": 4,
    }
    value = build(Trained, rename_saved(Trained, old))
    assert (value.training.learning_rate, value.image.crop, value.steps) == (0.5, "center", 4)


def test_image_of_settings_without_the_group():
    assert Resolved(value=Trained(), origins={}).image.crop == "none"
    with pytest.raises(PluginError, match=r"Settings has no setting image\.size .*ImageSettings"):
        _ = Resolved(value=Settings(), origins={}).image
