"""One page for each verb of the command line, with its sub-verbs, arguments and options, from the Typer app itself.

sphinx-click, which does this for click, takes no command of Typer's own copy of click.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from medzoo.cli.app import VERBS, app
from reference_pages.markdown import escaped, page, table, toctree


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb of medzoo's own and every sub-verb, as ("data split", its command), groups before what they hold."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("medzoo", [], resilient_parsing=True)
    for name in VERBS:
        verb = group.get_command(context, name)
        yield name, verb
        for inner, command in getattr(verb, "commands", {}).items():
            yield f"{name} {inner}", command


def command_pages() -> dict[str, str]:
    """A page for each verb, and one that lists them."""
    pages: dict[str, list[str]] = {}
    summaries = []
    for path, command in commands():
        verb, _, inner = path.partition(" ")
        link = f"[`medzoo {path}`]({verb}.md{f'#medzoo-{verb}-{inner}' if inner else ''})"
        summaries.append((link, escaped(summary(command))))
        pages.setdefault(verb, []).append(command_section(path, command, level=2 if inner else 1))
    index = page(
        "# Command line",
        "`medzoo VERB --help` prints what stands here. Results go to stdout, as JSON with `--json`; progress and "
        "notices go to stderr. [Exit codes](../../exit-codes.md) and "
        "[environment variables](../../environment.md) have pages of their own.",
        table(("command", "what it does"), summaries),
        toctree(pages),
    )
    return {"command-line/index.md": index} | {
        f"command-line/{verb}.md": page(*sections) for verb, sections in pages.items()
    }


def summary(command: Any) -> str:
    """The first line of a command's help."""
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def command_section(path: str, command: Any, *, level: int) -> str:
    """A heading, the usage, the help, and each argument and option of one command."""
    context = typer.Context(command, info_name=path)
    usage = " ".join(["medzoo", path, *command.collect_usage_pieces(context)])
    blocks = [
        f"{'#' * level} medzoo {path}",
        escaped(inspect.cleandoc(command.help or "")),
        f"```text\n{usage}\n```",
        f"```{{program}} medzoo {path}\n```",
    ]
    return page(*blocks, *(parameter_entry(parameter, context) for parameter in command.params)).rstrip("\n")


def parameter_entry(parameter: Any, context: typer.Context) -> str:
    """An argument or option as `--help` tells it: its names, meaning, default and range."""
    names, told = parameter.get_help_record(context)
    about, _, notes = told.rpartition("  [") if told.endswith("]") else (told, "", "")
    extra = f" *({escaped(notes.removesuffix(']'))})*" if notes else ""
    # Sphinx tells several names of an option apart by commas.
    return f"```{{option}} {names.replace(' / ', ', ')}\n{escaped(about)}{extra}\n```"
