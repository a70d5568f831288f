"""`medzoo plugin new`: a distribution with a working plugin, to start from."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.output import Json, print_json, print_text

logger = logging.getLogger(__name__)


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will type, as in `medzoo train NAME`.")],
    kind: Annotated[str, typer.Option(help="generator, classifier or metric.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.  [default: medzoo-NAME]")] = None,
    as_json: Json = False,
) -> None:
    """Write a working plugin to start from, with its tests."""
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
    logger.info("next:\n  " + "\n  ".join(steps))
