import sys

import pytest

import medzoo
from medzoo.errors import PluginError, UnknownName
from medzoo.plugins import load_plugins
from medzoo.specs import GeneratorSpec, MetricSpec


def generator(name):
    return GeneratorSpec(contract=1, name=name, summary="", config=dict, presets=None, build=None)


def offering(*names):
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
    return next(row for row in plugins.rows if row.name == name)


def raising(error):
    def answer():
        raise error

    return answer


GOOD = ("good", offering("good-one"))


def test_first_party_plugins_come_through_entry_points():
    plugins = load_plugins()
    assert {"ddpm", "ddpm-var", "classic", "duplicate"} <= set(plugins.generators)
    for name in ("ddpm", "classic"):
        assert row(plugins, name).distribution == "medzoo"
        assert row(plugins, name).version == medzoo.__version__
        assert row(plugins, name).state == "ok"


def test_an_extra_plugin_is_found_by_name():
    plugins = load_plugins(extra=[GOOD])
    assert plugins.generator("good-one").name == "good-one"
    assert plugins.row_of("generator", "good-one").name == "good"
    assert row(plugins, "good").offers == ("generator good-one",)


def test_an_unknown_name_offers_the_nearest_spelling_and_names_broken_plugins():
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
        (offering("two words"), "'two words' must be letters"),
        (offering("same", "same"), "two generators called 'same'"),
    ],
)
def test_a_broken_plugin_is_a_row_with_its_reason_and_the_others_go_on(plugin, reason):
    plugins = load_plugins(extra=[("bad", plugin), GOOD])
    bad = row(plugins, "bad")
    assert (bad.state, bad.offers) == ("broken", ())
    assert reason in bad.error
    assert "Traceback" in bad.traceback
    assert plugins.generator("good-one")
    with pytest.raises(PluginError, match="medzoo plugin list --verbose"):
        plugins.generator("bad")


def test_a_hook_with_a_wrong_argument_breaks_its_plugin():
    class Plugin:
        @medzoo.hookimpl
        def register_generators(self, wrong):
            return []

    assert "wrong" in row(load_plugins(extra=[("bad", Plugin())]), "bad").error


def test_a_plugin_that_raises_at_import_breaks_only_itself(install_plugin):
    install_plugin("foreign", "raise OSError('no licence server')", distribution="foreign-zoo")
    plugins = load_plugins()
    bad = row(plugins, "foreign")
    assert (bad.state, bad.distribution, bad.version) == ("broken", "foreign-zoo", "1.0")
    assert bad.error == "OSError: no licence server"
    assert plugins.generator("ddpm")


def test_a_plugin_that_exits_at_import_breaks_only_itself(install_plugin):
    install_plugin("foreign", "import sys; sys.exit(0)")
    assert row(load_plugins(), "foreign").state == "broken"


def test_ctrl_c_during_an_import_is_not_the_plugins_failure(install_plugin):
    install_plugin("foreign", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


def test_a_missing_module_is_a_broken_row(install_plugin):
    site = install_plugin("foreign", "")
    for module in site.glob("*.py"):
        module.unlink()
    assert "ModuleNotFoundError" in row(load_plugins(), "foreign").error


def test_two_plugins_claiming_one_name_are_both_named(install_plugin):
    source = (
        "import medzoo\n@medzoo.hookimpl\ndef register_generators():\n"
        "    return [medzoo.GeneratorSpec(contract=1, name=n, summary='', config=dict, presets=None, build=None)"
        " for n in ('ddpm', 'own-{0}')]\n"
    )
    install_plugin("ddpm", source.format(1), distribution="foreign-zoo")
    plugins = load_plugins()
    with pytest.raises(PluginError, match=r"foreign-zoo.*and medzoo|medzoo.*and foreign-zoo") as caught:
        plugins.generator("ddpm")
    assert caught.value.exit_code == 3
    assert plugins.generator("own-1")
    assert plugins.generator("ddpm-var")
    assert {row.distribution for row in plugins.rows if row.state == "conflict"} == {"foreign-zoo", "medzoo"}


def test_one_name_may_be_a_generator_and_a_metric():
    def metrics():
        return [
            MetricSpec(
                contract=1,
                name="good-one",
                summary="",
                needs_pixels=True,
                unit="",
                better="lower",
                build=None,
            )
        ]

    plugins = load_plugins(extra=[GOOD, ("metrics", answering("register_metrics", metrics))])
    assert plugins.generator("good-one")
    assert plugins.metric("good-one")


def test_a_plugin_that_fails_to_add_commands_is_broken_and_the_others_add_theirs():
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
    assert row(plugins, "bad").error == "ValueError: no"
    assert row(plugins, "fine").state == "ok"


def test_plugins_are_imported_once_a_process(install_plugin):
    install_plugin("foreign", "import sys, medzoo; sys.test_imports = getattr(sys, 'test_imports', 0) + 1")
    load_plugins()
    load_plugins()
    assert sys.test_imports == 1
    del sys.test_imports
