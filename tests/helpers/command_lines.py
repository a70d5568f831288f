"""The `medzoo` commands that a page shows, and whether they parse."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from medzoo.cli.app import app
from medzoo.errors import MedzooError, UnknownName

# typer keeps click's base classes to itself.
_UsageError = typer.BadParameter.__bases__[0]

_BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = ("", "sh", "console", "text")
_COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(medzoo .*)", re.MULTILINE)


def commands_in(text: str) -> list[str]:
    """The commands in the code blocks of a Markdown page, without comments and without what they write to."""
    blocks = [block.replace("\\\n", " ") for language, block in _BLOCK.findall(text) if language in _SHELL]
    commands = [command for block in blocks for command in _COMMAND.findall(block)]
    return [re.split(r" #| > ", command)[0].strip() for command in commands]


def parse(command: str) -> Any:
    """The context of `command`, whose `params` are its arguments and options by name; nothing is run.

    Raises: MedzooError, or typer's usage error, for what the command line would refuse.
    """
    _, *words = shlex.split(command)
    place: Any = typer.main.get_command(app)
    context = place.make_context("medzoo", [], resilient_parsing=True)
    while words and not words[0].startswith("-") and hasattr(place, "get_command"):
        name = words.pop(0)
        place = place.get_command(context, name)
        if place is None:
            raise UnknownName("command", name, [])
    return place.make_context(command, words)


def fault_of(command: str) -> str:
    """Why the command line would refuse `command` before it does anything; empty where it would not."""
    try:
        parse(command)
    except (MedzooError, _UsageError) as error:
        return f"{command}: {error}"
    return ""
