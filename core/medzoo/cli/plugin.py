"""`medzoo plugin`: what is installed, and whether it keeps the contract."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import Overrides
from medzoo.cli.output import Json, print_json, print_table, print_text
from medzoo.errors import PluginError, UnknownName
from medzoo.plugins import load_plugins

if TYPE_CHECKING:
    from medzoo.testing import CheckResult

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and check plugins.")


@app.command("list")
def list_plugins(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show why a plugin is broken.")] = False,
    json: Json = False,
) -> None:
    """List the installed plugins and what they offer; a broken one says why."""
    plugins, _ = load_plugins().commands(typer.Typer)
    if json:
        print_json([asdict(row) for row in plugins.rows])
        return
    columns = ("plugin", "distribution", "version", "state", "offers")
    rows = [
        (row.name, row.distribution, row.version, row.state, ", ".join(row.offers) or row.error) for row in plugins.rows
    ]
    print_table(columns, rows)
    for row in plugins.rows:
        if row.error and verbose:
            print_text(f"\n{row.name} ({row.module}): {row.error}\n{row.traceback}".rstrip())


@app.command("check")
def check_plugin(
    name: Annotated[str, typer.Argument(help="The name of a generator, a classifier or a metric.")],
    device: Annotated[str, typer.Option(help="Where to run a generator or a classifier: cpu, cuda:0.")] = "cpu",
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run a generator, a classifier or a metric through the conformance checks."""
    results = _check(name, device=device, overrides=overrides or ())
    if json:
        print_json([asdict(result) for result in results])
    else:
        rows = [("ok" if r.passed else "FAILED", r.name, f"{r.seconds:.2f}", r.detail) for r in results]
        print_table(("result", "check", "seconds", "detail"), rows, right=("seconds",))
    failed = [result.name for result in results if not result.passed]
    if failed:
        raise PluginError(f"'{name}' fails {len(failed)} of {len(results)} checks: {', '.join(failed)}")


def _check(name: str, *, device: str, overrides: Sequence[str]) -> "list[CheckResult]":
    """What the checks of its kind find. Raises: UnknownName; PluginError if its plugin is broken or contested."""
    plugins = load_plugins()
    plugins.refuse_unusable(name)
    known = {*plugins.generators, *plugins.classifiers, *plugins.metrics}
    if name not in known:
        raise UnknownName("generator, classifier or metric", name, known, plugins.broken_hint)
    from medzoo import testing

    if name in plugins.metrics:
        return testing.check_metric(plugins.metrics[name])
    if name in plugins.classifiers:
        return testing.check_classifier(plugins.classifiers[name], device=device, overrides=overrides)
    return testing.check_generator(plugins.generators[name], device=device, overrides=overrides)
