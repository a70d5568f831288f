"""The `medzoo` commands that a page shows, and whether they parse."""

from __future__ import annotations

import re
import shlex

import typer

from medzoo.cli.app import app
from medzoo.errors import MedzooError

# typer keeps click's base classes to itself.
_UsageError = typer.BadParameter.__bases__[0]

_BLOCK = re.compile(r"^```(?:sh|console|text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(medzoo .*)", re.MULTILINE)


def commands_in(text: str) -> list[str]:
    """The commands in the code blocks of a Markdown page, without comments and without what they write to."""
    blocks = [block.replace("\\\n", " ") for block in _BLOCK.findall(text)]
    commands = [command for block in blocks for command in _COMMAND.findall(block)]
    return [re.split(r" #| > ", command)[0].strip() for command in commands]


def fault_of(command: str) -> str:
    """Why the command line would refuse `command` before it does anything; empty where it would not."""
    _, *words = shlex.split(command)
    place = typer.main.get_command(app)
    context = place.make_context("medzoo", [], resilient_parsing=True)
    try:
        while words and not words[0].startswith("-") and hasattr(place, "get_command"):
            name = words.pop(0)
            place = place.get_command(context, name)
            if place is None:
                return f"{command}: no such command '{name}'"
        place.make_context(command, words)
    except (MedzooError, _UsageError) as error:
        return f"{command}: {error}"
    return ""
