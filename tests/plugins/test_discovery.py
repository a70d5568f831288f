import copy
import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace

import pytest

import medzoo
from medzoo.errors import ConfigError, PluginError, UnknownName
from medzoo.plugins.discovery import entry_points, forget_installed
from medzoo.plugins.lookup import load_plugins, set_enabled
from medzoo.specs import CONTRACT, OLDEST_CONTRACT, GeneratorSpec, MetricSpec


def generator(name):
    return GeneratorSpec(contract=2, name=name, summary="", config=dict, presets=None, build=None)


def providing(*names):
    class Plugin:
        @medzoo.hookimpl
        def register_generators(self):
            return [generator(name) for name in names]

    return Plugin()


def answering(hook, answer):
    """A plugin whose one hook calls `answer`."""

    class Plugin:
        pass

    def implementation(self):
        return answer()

    implementation.__name__ = hook
    setattr(Plugin, hook, medzoo.hookimpl(implementation))
    return Plugin()


def row(plugins, name):
    return next(row for row in plugins.infos if row.name == name)


def raising(error):
    def answer():
        raise error

    return answer


GOOD = ("good", providing("good-one"))


def test_entry_points_match_importlib_metadata(install_plugin):
    install_plugin("foreign", "")
    expected = {
        (point.name, point.value, point.dist.name, point.dist.version)
        for point in metadata.entry_points(group="medzoo")
    }
    assert {(info.name, info.module, info.distribution, info.version) for info in entry_points()} == expected


def test_load_plugins_first_party_entry_points():
    plugins = load_plugins()
    assert {"ddpm", "ddpm-var", "classic", "duplicate"} <= set(plugins.generators)
    for name in ("ddpm", "classic"):
        assert row(plugins, name).distribution == "medzoo"
        assert row(plugins, name).version == medzoo.__version__
        assert row(plugins, name).state == "ok"


def test_load_plugins_extra_plugin():
    plugins = load_plugins(extra=[GOOD])
    assert plugins.generator("good-one").name == "good-one"
    assert plugins.plugin_of("generator", "good-one").name == "good"
    assert row(plugins, "good").provides == ("generator good-one",)


def test_generator_unknown_name_suggests_nearest_and_broken_plugins():
    plugins = load_plugins(extra=[GOOD, ("bad", object())])
    with pytest.raises(UnknownName) as caught:
        plugins.generator("god-one")
    assert "good-one" in caught.value.hint
    assert "broken plugins: bad" in caught.value.hint


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (object(), "implements no hook"),
        (answering("register_generators", raising(RuntimeError("out of ideas"))), "RuntimeError: out of ideas"),
        (answering("register_generators", raising(SystemExit(3))), "SystemExit: 3"),
        (answering("register_generators", lambda: None), "must return a list of GeneratorSpec, it returned NoneType"),
        (answering("register_metrics", lambda: [generator("x")]), "it holds a GeneratorSpec"),
        (answering("register_registries", lambda: ["registry.toml"]), "it holds a str"),
        (answering("register_metric", list), "unknown hook 'register_metric'"),
        (providing("two words"), "'two words' must be letters"),
        (providing("same", "same"), "two generators called 'same'"),
    ],
)
def test_load_plugins_broken_plugin_keeps_the_others(plugin, reason):
    plugins = load_plugins(extra=[("bad", plugin), GOOD])
    bad = row(plugins, "bad")
    assert (bad.state, bad.provides) == ("broken", ())
    assert reason in bad.error
    assert "Traceback" in bad.traceback
    assert plugins.generator("good-one")
    with pytest.raises(PluginError, match="medzoo plugin list --verbose"):
        plugins.generator("bad")


def test_load_plugins_wrong_hook_argument_breaks_plugin():
    class Plugin:
        @medzoo.hookimpl
        def register_generators(self, wrong):
            return []

    assert "wrong" in row(load_plugins(extra=[("bad", Plugin())]), "bad").error


def test_load_plugins_import_error_breaks_only_the_plugin(install_plugin):
    install_plugin("foreign", "raise OSError('no license server')", distribution="foreign-zoo")
    plugins = load_plugins()
    bad = row(plugins, "foreign")
    assert (bad.state, bad.distribution, bad.version) == ("broken", "foreign-zoo", "1.0")
    assert re.fullmatch(r"OSError: no license server \(.*/plugin_\w+\.py:1\)", bad.error)
    assert plugins.generator("ddpm")


def test_load_plugins_exit_at_import_breaks_only_the_plugin(install_plugin):
    install_plugin("foreign", "import sys; sys.exit(0)")
    assert row(load_plugins(), "foreign").state == "broken"


def test_load_plugins_keyboard_interrupt_at_import_breaks_only_the_plugin(install_plugin):
    install_plugin("foreign", "raise KeyboardInterrupt")
    assert "it raised KeyboardInterrupt" in row(load_plugins(), "foreign").error


def test_load_plugins_ctrl_c_interrupts_medzoo(install_plugin):
    install_plugin("foreign", "import time; time.sleep(3)")
    before = sys.stdout
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        load_plugins()
    timer.join()
    assert sys.stdout is before


def test_load_plugins_missing_module_breaks_plugin(install_plugin):
    site = install_plugin("foreign", "")
    for module in site.glob("*.py"):
        module.unlink()
    assert "ModuleNotFoundError" in row(load_plugins(), "foreign").error


REGISTERS = (
    "import medzoo\n@medzoo.hookimpl\ndef register_generators():\n"
    "    return [medzoo.GeneratorSpec(contract={contract}, name=n, summary='', config=dict, presets=None, build=None)"
    " for n in {names}]\n"
)


def test_load_plugins_name_conflict_names_both_plugins(install_plugin):
    install_plugin("one", REGISTERS.format(contract=2, names=("contested", "own-1")), distribution="first-zoo")
    install_plugin("two", REGISTERS.format(contract=2, names=("contested", "own-2")), distribution="second-zoo")
    plugins = load_plugins()
    with pytest.raises(PluginError, match=r"first-zoo.*and second-zoo.*medzoo plugin disable") as caught:
        plugins.generator("contested")
    assert caught.value.exit_code == 3
    assert plugins.generator("own-1")
    assert plugins.generator("own-2")
    assert plugins.generator("ddpm")
    assert {row.distribution for row in plugins.infos if row.state == "conflict"} == {"first-zoo", "second-zoo"}


def test_load_plugins_foreign_plugin_cannot_replace_a_built_in(install_plugin):
    install_plugin("ddpm", REGISTERS.format(contract=2, names=("ddpm", "own-1")), distribution="foreign-zoo")
    plugins = load_plugins()
    assert plugins.plugin_of("generator", "ddpm").distribution == "medzoo"
    assert plugins.generator("ddpm").summary
    (foreign,) = [row for row in plugins.infos if row.distribution == "foreign-zoo"]
    assert (foreign.state, foreign.provides) == ("broken", ())
    assert "the generator name 'ddpm' is taken by medzoo (medzoo_ddpm)" in foreign.error
    assert "medzoo plugin disable medzoo/ddpm" in foreign.error
    with pytest.raises(UnknownName):
        plugins.generator("own-1")


def test_set_enabled_disabled_built_in_gives_way_to_plugin(install_plugin):
    install_plugin("ddpm", REGISTERS.format(contract=2, names=("ddpm",)), distribution="foreign-zoo")
    set_enabled("medzoo/ddpm", enabled=False)
    assert load_plugins().plugin_of("generator", "ddpm").distribution == "foreign-zoo"


@pytest.mark.parametrize(
    ("contract", "mend"), [(CONTRACT + 1, "version of medzoo"), (OLDEST_CONTRACT - 1, "version of the plugin")]
)
def test_load_plugins_unsupported_contract_breaks_plugin(install_plugin, contract, mend):
    source = REGISTERS.format(contract=contract, names=("later",)).replace("summary=''", "called_otherwise=''")
    install_plugin("foreign", source)
    error = row(load_plugins(), "foreign").error
    supported = f"this version supports {OLDEST_CONTRACT} to {CONTRACT}"
    assert f"written for contract {contract} of medzoo, and {supported}" in error
    assert mend in error


def test_generator_spec_without_contract_raises():
    with pytest.raises(PluginError, match=r"GeneratorSpec states no contract .write contract=3"):
        GeneratorSpec(name="x", summary="", config=dict, presets=None, build=None)
    with pytest.raises(PluginError, match="contract '1'"):
        GeneratorSpec(contract="1", name="x", summary="", config=dict, presets=None, build=None)


def test_generator_spec_replace_and_copy():
    changed = replace(generator("x"), name="y")
    assert (changed.name, copy.copy(changed)) == ("y", changed)


def test_model_spec_imports_config_when_it_is_read():
    spec = replace(generator("x"), config="types:SimpleNamespace")
    assert vars(spec)["config"] == "types:SimpleNamespace"
    assert spec.config is SimpleNamespace
    with pytest.raises(PluginError, match="settings cannot be imported"):
        _ = replace(spec, config="types:Missing").config


@pytest.fixture
def only_foreign_is_timed(tmp_path, monkeypatch):
    """Count the time of the plugin `foreign` alone, from when it hangs: a busy machine may take long over all else."""
    join = threading.Thread.join

    def patient(thread, timeout=None):
        if thread.name == "medzoo plugin foreign":
            while thread.is_alive() and not (tmp_path / "hangs").exists():
                time.sleep(0.01)
            join(thread, timeout)
        else:
            join(thread)

    monkeypatch.setattr(threading.Thread, "join", patient)


# No thread can be ended: it goes on until the test lets it, and gives up long after the limit.
HANGS = """import pathlib, threading, time; HERE, END = pathlib.Path({here!r}), time.monotonic() + 120
GO_ON, HANGS = HERE / "go-on", HERE / "hangs"
while not GO_ON.exists() and time.monotonic() < END: HANGS.touch(); {stuck}
(HERE / "finished").touch()
"""


@pytest.mark.usefixtures("only_foreign_is_timed")
@pytest.mark.parametrize("stuck", ["time.sleep(0.1)", "pass", "threading.Event().wait(0.1)"])
def test_load_plugins_hanging_import_times_out(install_plugin, monkeypatch, tmp_path, stuck):
    monkeypatch.setenv("MEDZOO_PLUGIN_TIMEOUT", "0.4")
    site = install_plugin("foreign", HANGS.format(here=str(tmp_path), stuck=stuck))
    try:
        plugins = load_plugins()
        assert not (tmp_path / "finished").exists()
    finally:
        (tmp_path / "go-on").touch()
    bad = row(plugins, "foreign")
    assert bad.state == "broken"
    assert "did not return within 0.4 s" in bad.error
    assert re.search(r"plugin_\w+\.py:3", bad.error)
    assert "medzoo plugin disable foreign" in bad.error
    assert str(site) in bad.traceback
    assert plugins.generator("ddpm")


def test_load_plugins_hanging_hook_times_out(monkeypatch):
    load_plugins()  # first, for the limit is one for all
    monkeypatch.setenv("MEDZOO_PLUGIN_TIMEOUT", "0.2")
    go_on, finished = threading.Event(), threading.Event()

    def answer():
        go_on.wait(120)
        finished.set()
        return []

    try:
        plugins = load_plugins(extra=[("slow", answering("register_generators", answer)), GOOD])
        assert not finished.is_set()
    finally:
        go_on.set()
    assert "did not return within 0.2 s" in row(plugins, "slow").error


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_load_plugins_invalid_timeout_raises(install_plugin, monkeypatch, given):
    monkeypatch.setenv("MEDZOO_PLUGIN_TIMEOUT", given)
    with pytest.raises(ConfigError, match="is not a time limit"):
        load_plugins(extra=[GOOD])


def test_load_plugins_redirects_plugin_output_to_stderr(install_plugin, capsys):
    install_plugin("foreign", "print('hello from afar')\n" + REGISTERS.format(contract=2, names=("far",)))
    assert row(load_plugins(), "foreign").state == "ok"
    assert capsys.readouterr() == ("", "hello from afar\n")


def test_load_plugins_disabled_plugin_is_not_imported(install_plugin):
    install_plugin("foreign", "raise SystemExit('imported')", distribution="foreign-zoo")
    assert set_enabled("foreign", enabled=False).state == "disabled"
    assert row(load_plugins(), "foreign").state == "disabled"
    with pytest.raises(PluginError, match=r"'foreign' of foreign-zoo is disabled .medzoo plugin enable foreign"):
        load_plugins().generator("foreign")
    with pytest.raises(UnknownName, match=r"disabled plugins: foreign"):
        load_plugins().generator("what-it-offers")
    assert set_enabled("foreign-zoo/foreign", enabled=True).state == "broken"
    assert "imported" in row(load_plugins(), "foreign").error


def test_set_enabled_false_does_not_import_the_plugin(install_plugin, tmp_path):
    install_plugin("foreign", f"import pathlib; pathlib.Path({str(tmp_path / 'imported')!r}).touch()")
    set_enabled("foreign", enabled=False)
    assert row(load_plugins(), "foreign").state == "disabled"
    assert not (tmp_path / "imported").exists()


def test_set_enabled_true_returns_the_new_state(install_plugin):
    install_plugin("ddpm", REGISTERS.format(contract=2, names=("ddpm",)), distribution="foreign-zoo")
    set_enabled("foreign-zoo/ddpm", enabled=False)
    assert "is taken by medzoo" in set_enabled("foreign-zoo/ddpm", enabled=True).error


def test_load_plugins_unreadable_disabled_file(user_folders):
    file = user_folders / "config" / "medzoo" / "disabled-plugins.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe")
    forget_installed()
    with pytest.raises(ConfigError, match=r"disabled-plugins\.txt.*fix or remove it"):
        load_plugins()
    file.unlink()
    forget_installed()


def test_load_plugins_from_several_threads(install_plugin):
    install_plugin("foreign", "import time; time.sleep(0.3)\n" + REGISTERS.format(contract=2, names=("far",)))
    before, found = sys.stdout, []
    threads = [threading.Thread(target=lambda: found.append(load_plugins())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is before
    assert len({id(plugins.generator("far")) for plugins in found}) == 1


def test_set_enabled_requires_an_unambiguous_name(install_plugin):
    install_plugin("ddpm", REGISTERS.format(contract=2, names=("far",)), distribution="foreign-zoo")
    with pytest.raises(ConfigError, match=r"two plugins are called 'ddpm' .name one: medzoo/ddpm or foreign-zoo/ddpm"):
        set_enabled("ddpm", enabled=False)
    with pytest.raises(UnknownName, match="did you mean"):
        set_enabled("ddmp", enabled=False)
    set_enabled("foreign-zoo/ddpm", enabled=False)
    assert load_plugins().generator("ddpm")


def test_set_enabled_removed_plugin(user_folders):
    file = user_folders / "config" / "medzoo" / "disabled-plugins.txt"
    file.parent.mkdir(parents=True)
    file.write_text("gone-zoo/gone\nmedzoo/dcgan\n")
    forget_installed()
    assert set_enabled("gone-zoo/gone", enabled=True).state == "not installed"
    assert file.read_text() == "medzoo/dcgan\n"
    forget_installed()


def test_load_plugins_same_name_for_generator_and_metric():
    def metrics():
        return [
            MetricSpec(
                contract=2,
                name="good-one",
                summary="",
                needs_pixels=True,
                unit="",
                higher_is_better=False,
                build=None,
            )
        ]

    plugins = load_plugins(extra=[GOOD, ("metrics", answering("register_metrics", metrics))])
    assert plugins.generator("good-one")
    assert plugins.metric("good-one")


def test_commands_failing_plugin_keeps_the_others():
    class Bad:
        @medzoo.hookimpl
        def register_commands(self, app):
            app.append("half")
            raise ValueError("no")

    class Fine:
        @medzoo.hookimpl
        def register_commands(self, app):
            app.append("whole")

    plugins, apps = load_plugins(extra=[("bad", Bad()), ("fine", Fine())]).commands(list)
    assert [app for _, app in apps] == [["whole"]]
    assert row(plugins, "bad").error.startswith("ValueError: no (plugins/test_discovery.py:")
    assert row(plugins, "fine").state == "ok"


def test_load_plugins_imports_once_per_process(install_plugin):
    install_plugin("foreign", "import sys, medzoo; sys.test_imports = getattr(sys, 'test_imports', 0) + 1")
    load_plugins()
    load_plugins()
    assert sys.test_imports == 1
    del sys.test_imports
