"""The README says what is true: its tables are the code's, its commands parse, its files exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from medzoo.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("medzoo ")
]


def test_the_tables_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "docs" / "readme_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.render(README) == README, "run `make readme`"


def test_it_opens_with_the_two_commands() -> None:
    assert [line.split()[:2] for line in BLOCKS[0].splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)[1:]
    place = typer.main.get_command(app)
    context = place.make_context("medzoo", [], resilient_parsing=True)
    while words and hasattr(place, "get_command"):
        place = place.get_command(context, words.pop(0))
    options = {option for parameter in place.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:core|tests|bench|docs)/[\w./-]+)`", README))))
def test_every_file_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_hook_is_documented() -> None:
    from medzoo import hookspecs

    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert hooks
    assert not [name for name in hooks if not getattr(hookspecs, name).__doc__]
    assert not [name for name in hooks if f"`{name}`" not in README]
