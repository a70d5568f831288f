"""Generate one page per command, with its subcommands, arguments and options, from the Typer app.

sphinx-click, which does this for click, does not accept the commands of Typer's vendored click.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from medzoo.cli.app import VERBS, app
from reference_pages.markdown import escaped, page, table, toctree


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command and subcommand of medzoo as ("data split", command), groups before their subcommands."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("medzoo", [], resilient_parsing=True)
    for name in VERBS:
        verb = group.get_command(context, name)
        yield name, verb
        for inner, command in getattr(verb, "commands", {}).items():
            yield f"{name} {inner}", command


def command_pages() -> dict[str, str]:
    """Return a page for each command, and the index."""
    pages: dict[str, list[str]] = {}
    summaries = []
    for path, command in commands():
        verb, _, inner = path.partition(" ")
        link = f"[`medzoo {path}`]({verb}.md{f'#medzoo-{verb}-{inner}' if inner else ''})"
        summaries.append((link, escaped(summary(command))))
        pages.setdefault(verb, []).append(command_section(path, command, level=2 if inner else 1))
    index = page(
        "# Command line",
        "These pages show the output of `medzoo COMMAND --help`. Results are printed on stdout, as JSON with `--json`; "
        "progress and log messages go to stderr. See also the [exit codes](../../exit-codes.md) and the "
        "[environment variables](../../environment.md).",
        table(("command", "description"), summaries),
        toctree(pages),
    )
    return {"command-line/index.md": index} | {
        f"command-line/{verb}.md": page(*sections) for verb, sections in pages.items()
    }


def summary(command: Any) -> str:
    """Return the first paragraph of a command's help."""
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def command_section(path: str, command: Any, *, level: int) -> str:
    """Return the heading, help, usage, arguments and options of one command."""
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
    """Return an argument or option as `--help` shows it: its names, description, default and range."""
    names, text = parameter.get_help_record(context)
    description, _, notes = text.rpartition("  [") if text.endswith("]") else (text, "", "")
    extra = f" *({escaped(notes.removesuffix(']'))})*" if notes else ""
    # Sphinx separates the names of an option by commas.
    return f"```{{option}} {names.replace(' / ', ', ')}\n{escaped(description)}{extra}\n```"
