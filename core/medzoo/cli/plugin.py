"""`medzoo plugin`: list, create, check, disable and enable plugins."""

import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medzoo.cli.options import Overrides, parse_overrides
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.errors import ConfigError, PluginError, UnknownName
from medzoo.plugins.lookup import PluginInfo, load_plugins, set_enabled

if TYPE_CHECKING:
    from medzoo.testing import CheckResult

logger = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, create, check and disable plugins.")

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Plugin, as in `medzoo plugin list`; DISTRIBUTION/NAME if two have the name."),
]


@app.command("list")
def list_plugins(
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Show the hooks a plugin implements, not what it provides.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show why a plugin is broken.")] = False,
    json: Json = False,
) -> None:
    """List installed plugins, what they provide, and their states."""
    plugins, _ = load_plugins().commands(typer.Typer)
    if json:
        print_json([asdict(row) for row in plugins.infos])
        return

    def shown(row: PluginInfo) -> str:
        return ", ".join(row.hooks if hooks else row.provides)

    rows = [(row.name, row.distribution, row.version, row.state, row.error or shown(row)) for row in plugins.infos]
    print_table(("plugin", "distribution", "version", "state", "hooks" if hooks else "provides"), rows)
    for row in plugins.infos:
        if row.error and verbose:
            print_text("", f"{row.name} ({row.module}): {row.error}", *row.traceback.splitlines())


@app.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name that users will type, as in `medzoo train NAME`.")],
    kind: Annotated[str, typer.Option(help="generator, classifier or metric.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.  [default: medzoo-NAME]")] = None,
    as_json: Json = False,
) -> None:
    """Create a working plugin to start from, with its tests."""
    from medzoo.hub.registry import load_registry
    from medzoo.plugins.lookup import load_plugins
    from medzoo.scaffold import NewPlugin, check_name_is_free, write_plugin

    plugin = NewPlugin(name=name, kind=kind)
    plugins = load_plugins()
    check_name_is_free(plugin, plugins, load_registry(plugins=plugins))
    folder = out or Path(plugin.distribution)
    files = write_plugin(plugin, folder)
    if as_json:
        print_json({"folder": folder, "distribution": plugin.distribution, "module": plugin.module, "files": files})
    else:
        print_text(str(folder))
    steps = (f"cd {shlex.quote(str(folder))}", "pip install -e '.[test]'", f"medzoo plugin check {name}", "pytest")
    for step in ("next:", *(f"  {step}" for step in steps)):
        logger.info(step)


@app.command("check")
def check_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a generator, a classifier or a metric.")],
    device: Annotated[
        str, typer.Option(help="Where to run a generator or a classifier; metrics are on the CPU.")
    ] = "cpu",
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run the conformance checks on what a plugin provides."""
    results = _check(name, device=device, overrides=parse_overrides(overrides))
    if json:
        print_json([asdict(result) for result in results])
    else:
        rows = [("ok" if r.passed else "FAILED", r.name, f"{r.seconds:.2f}", r.detail) for r in results]
        print_table(("result", "check", "seconds", "detail"), rows, right=("seconds",))
    failed = [result.name for result in results if not result.passed]
    if failed:
        raise PluginError(f"'{name}' fails {len(failed)} of {len(results)} checks: {', '.join(failed)}")


@app.command("disable")
def disable(name: Name, json: Json = False) -> None:
    """Disable a plugin: it stays installed but is not imported."""
    _switch(name, enabled=False, json=json)


@app.command("enable")
def enable(name: Name, json: Json = False) -> None:
    """Enable a disabled plugin."""
    _switch(name, enabled=True, json=json)


def _check(name: str, *, device: str, overrides: dict[str, Any]) -> "list[CheckResult]":
    """Run the checks for its kinds. Raises: UnknownName; PluginError if its plugin is broken or its name contested."""
    plugins = load_plugins()
    known = {*plugins.generators, *plugins.classifiers, *plugins.metrics}
    if name not in known:
        plugins.check_usable(name)
        raise UnknownName("generator, classifier or metric", name, known, plugins.unavailable_hint)
    if overrides and name not in {*plugins.generators, *plugins.classifiers}:
        raise ConfigError(f"'{name}' is a metric, which has no settings", "leave --set out")
    from medzoo import testing

    found = []
    if name in plugins.generators:
        found += testing.check_generator(plugins.generators[name], device=device, overrides=overrides)
    if name in plugins.classifiers:
        found += testing.check_classifier(plugins.classifiers[name], device=device, overrides=overrides)
    if name in plugins.metrics:
        found += testing.check_metric(plugins.metrics[name])
    return found


def _switch(name: str, *, enabled: bool, json: bool) -> None:
    """Enable or disable a plugin and print its state."""
    row = set_enabled(name, enabled=enabled)
    if json:
        print_json(asdict(row))
    else:
        print_text(f"{row.key} {row.state}" + (f": {row.error}" if row.error else ""))
