"""The documentation builds without a warning, leaves nothing out, and shows no command that does not exist."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import typer
from helpers.command_lines import commands_in, fault_of, parse
from helpers.undocumented import (
    family,
    missing_exit_codes,
    missing_hooks,
    missing_parameters,
    missing_settings,
    missing_variables,
    told_in_tables,
)
from typer.testing import CliRunner

import medzoo
from medzoo import hookspecs
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import MedzooError
from medzoo.experiment.config import ExperimentSettings, preset_names, read_design
from medzoo.hub.entries import KEYS
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing.card import About
from medzoo.toolkit.remote import RequestError
from medzoo.tuning.config import TuningSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.glob("*.md"))
EXPERIMENTS = [
    (path.name, block)
    for path in WRITTEN
    for block in re.findall(r"^```toml\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    if re.search("^(arms|extends) =", block, re.MULTILINE)
]
COMMANDS = [(path.name, command) for path in WRITTEN for command in commands_in(path.read_text("utf-8"))]


@dataclass(frozen=True)
class Site:
    """The built site: what Sphinx said, where its pages are, and what can be linked to, by kind."""

    code: int
    said: str
    sources: Path
    names: dict[str, set[str]] = field(repr=False)

    def page(self, name: str) -> str:
        """The Markdown of a page."""
        return (self.sources / name).read_text("utf-8")


def on_site(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of the built site: slow, and kept in the one process that builds it."""
    return pytest.mark.slow(pytest.mark.xdist_group("site")(test))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site, built from a copy of docs/ so that the generated pages leave the checkout alone."""
    from sphinx.util.inventory import InventoryFile

    folder = tmp_path_factory.mktemp("docs")
    sources, out = folder / "docs", folder / "site"
    shutil.copytree(DOCS, sources, ignore=shutil.ignore_patterns("_build", "reference", "__pycache__"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDZOO_")}
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-W", "--keep-going", sources, out],
        env=environment | {"XDG_CONFIG_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (out / "objects.inv").is_file(), ran.stderr
    inventory = InventoryFile.loads((out / "objects.inv").read_bytes(), uri="")
    names = {kind: set(found) for kind, found in inventory.data.items()}
    return Site(ran.returncode, ran.stdout + ran.stderr, sources, names)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Every verb and sub-verb with its command."""
    monkeypatch.syspath_prepend(DOCS)
    from reference_pages.command_line import commands

    return list(commands())


@on_site
def test_sphinx_build_has_no_warnings(site: Site) -> None:
    assert site.said == ""
    assert site.code == 0


@on_site
def test_hooks_are_documented(site: Site) -> None:
    assert not missing_hooks(hookspecs, site.names["py:function"])


@on_site
def test_public_api_is_documented(site: Site) -> None:
    left_out = ("__version__", "hookimpl", "classify")  # a text, a decorator, and a module whose functions are there
    public = [getattr(medzoo, name) for name in medzoo.__all__ if name not in left_out]
    public += [medzoo.classify.predict, medzoo.classify.test]
    known = site.names["py:function"] | site.names["py:class"]
    homes = {each: {f"medzoo.{each.__name__}", f"{each.__module__}.{each.__name__}"} for each in public}
    assert medzoo.load in homes
    # errors are documented with their exit codes
    assert [each for each, names in homes.items() if not names & known] == [MedzooError]


@on_site
def test_toolkit_is_documented(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from reference_pages.toolkit import module_names, public

    modules = {name: importlib.import_module(f"medzoo.toolkit.{name}") for name in module_names()}
    parts = [(module.__name__, part) for module in modules.values() for part in public(module)]
    assert ("medzoo.toolkit.training.loop", medzoo.toolkit.training.loop.Loss) in parts
    known = site.names["py:function"] | site.names["py:class"]
    assert not [f"{home}.{part.__name__}" for home, part in parts if f"{home}.{part.__name__}" not in known]
    assert not [f"{home}.{part.__name__}" for home, part in parts if not part.__doc__]
    table = (DOCS / "plugins.md").read_text("utf-8").partition("| module of `medzoo.toolkit` |")[2].partition("\n\n")[0]
    assert told_in_tables(table) == modules.keys()


def test_toolkit_settings_do_not_import_torch() -> None:
    ask = "import medzoo.toolkit.settings, sys; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_hook_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from reference_pages import examples

    plugins, apps = load_plugins(extra=[("examples", examples)]).commands(typer.Typer)
    row = next(row for row in plugins.infos if row.name == "examples")
    assert (row.state, len(plugins.registries)) == ("ok", 1)
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "1.png").touch()
    app = next(app for row, app in apps if row.name == "examples")
    assert CliRunner().invoke(app, [str(tmp_path)]).output == "benign 1\n"


@on_site
def test_cli_options_are_documented(site: Site, commands: list[tuple[str, object]]) -> None:
    assert len(commands) > 20
    assert not missing_parameters(commands, site.names["std:cmdoption"])


@on_site
@pytest.mark.parametrize("kind", ["generators", "classifiers"])
def test_settings_are_documented(site: Site, kind: str) -> None:
    specs = getattr(load_plugins(), kind)
    own = [spec for name, spec in specs.items() if load_plugins().plugin_of(kind[:-1], name).distribution == "medzoo"]
    assert own
    for spec in own:
        assert not missing_settings(spec.config, site.page(f"reference/settings/{spec.name}.md")), spec.name


@on_site
def test_experiment_and_tuning_settings_are_documented(site: Site) -> None:
    assert not missing_settings(ExperimentSettings, site.page("reference/settings/experiments.md"))
    assert not missing_settings(TuningSettings, site.page("reference/settings/tuning.md"))


@on_site
@pytest.mark.parametrize("kind", ["metric", "extractor"])
def test_metrics_and_extractors_are_documented(site: Site, kind: str) -> None:
    page = site.page("reference/metrics.md")
    offers = [offer.split() for row in load_plugins().infos if row.distribution == "medzoo" for offer in row.provides]
    names = [name for offered, name in offers if offered == kind]
    assert names
    assert not [name for name in names if f"\n| `{name}` |" not in page]


def test_exit_codes_are_documented() -> None:
    page = (DOCS / "exit-codes.md").read_text("utf-8")
    assert RequestError in family(MedzooError)
    assert not missing_exit_codes(family(MedzooError), page)
    assert "\n| 0 | |" in page
    assert "\n| 130 | |" in page


def test_environment_variables_are_documented() -> None:
    code = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in ROOT.glob("[cp][ol]*/**/*.py")}
    assert "core/medzoo/storage/paths.py" in code
    assert not missing_variables(code, (DOCS / "environment.md").read_text("utf-8"))


@pytest.mark.parametrize("kind", KEYS)
def test_registry_file_keys_are_documented(kind: str) -> None:
    part = (DOCS / "registry.md").read_text("utf-8").partition(f"## `[[{kind}]]`\n")[2].partition("\n## ")[0]
    assert KEYS[kind].keys() == told_in_tables(part)


def test_card_toml_keys_are_documented() -> None:
    part = (
        (DOCS / "publishing.md").read_text("utf-8").partition("## What a run does not know\n")[2].partition("\n## ")[0]
    )
    assert {key.name for key in fields(About)} == told_in_tables(part)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_parse(page: str, command: str) -> None:
    assert not fault_of(command), page


@pytest.mark.parametrize(
    "command",
    # these pages' are of plugins that they make, and other tests run them
    [
        command
        for page, command in COMMANDS
        if re.search("--preset|--set", command) and page not in ("tutorial.md", "toolkit.md")
    ],
)
def test_commands_use_existing_presets_and_settings(command: str) -> None:
    context, plugins = parse(command), load_plugins()
    given, overrides = context.params, context.params["overrides"] or ()
    if "experiment" in given:
        if given["experiment"] in preset_names():
            read_design(given["experiment"], overrides=parse_overrides(overrides))
    elif "plugin" in given:
        specs = plugins.classifiers if "classify" in command else plugins.generators
        spec = specs[given["plugin"]]
        resolve(spec.config, presets=spec.presets, preset=given["preset"], overrides=parse_overrides(overrides))


@pytest.mark.parametrize(("page", "experiment"), EXPERIMENTS)
def test_experiment_files_are_valid(page: str, experiment: str, tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(experiment, "utf-8")
    assert read_design(str(path)).arms, page


@pytest.mark.parametrize("preset", preset_names())
def test_experiment_presets_are_documented(preset: str) -> None:
    assert f"`{preset}`" in (DOCS / "experiments.md").read_text("utf-8")
    assert any(f"medzoo experiment plan {preset}" in command for _, command in COMMANDS)


def test_write_keeps_unchanged_pages_and_removes_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from reference_pages import write

    write(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")}
    assert tmp_path / "hooks.md" in times
    (tmp_path / "settings" / "gone.md").write_text("# gone\n", "utf-8")
    write(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")} == times
