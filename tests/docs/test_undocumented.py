"""What the documentation leaves out is found: `undocumented` and `command_lines`, on things made up."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

import pytest
import typer
from helpers.command_lines import commands_in, fault_of
from helpers.undocumented import (
    missing_exit_codes,
    missing_hooks,
    missing_parameters,
    missing_settings,
    missing_variables,
)

from medzoo.config import setting
from medzoo.errors import MedzooError


def test_missing_hooks_found() -> None:
    module = ModuleType("made_up")

    def register_colors() -> None:
        """Return colors."""

    def register_smells() -> None: ...

    vars(module).update(register_colors=register_colors, register_smells=register_smells)
    both = ["made_up.register_colors", "made_up.register_smells"]
    assert missing_hooks(module, both) == ["register_smells"]
    assert missing_hooks(module, ["made_up.register_smells"]) == ["register_colors", "register_smells"]


def test_missing_parameters_found() -> None:
    def paint(
        color: Annotated[str, typer.Argument(help="Of the wall.")],
        coats: Annotated[int, typer.Option(help="How many.")] = 1,
        dry: Annotated[bool, typer.Option()] = False,
    ) -> None:
        """Paint a wall."""

    def clean() -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(paint)
    app.command()(clean)
    commands = list(typer.main.get_group(app).commands.items())
    told = {"medzoo-paint.color", "medzoo-paint.--coats", "medzoo-paint.--dry", "medzoo-paint.--no-dry"}
    assert missing_parameters(commands, told) == ["paint --dry", "clean"]
    assert missing_parameters(commands, told - {"medzoo-paint.--coats"}) == ["paint --coats", "paint --dry", "clean"]
    assert missing_parameters(commands, told - {"medzoo-paint.color"})[0] == "paint color"


@dataclass(frozen=True, kw_only=True)
class _Inner:
    depth: int = setting(1, "how deep")
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class _Outer:
    inner: _Inner = _Inner()


def test_missing_settings_found() -> None:
    page = "| `inner.depth` | `1` | how deep |\n| `inner.width` | `1` | |\n"
    assert missing_settings(_Outer, page) == ["inner.width"]
    assert missing_settings(_Outer, "inner.depth") == ["inner.depth", "inner.width"]


def test_missing_exit_codes_found() -> None:
    class WeatherError(MedzooError):
        exit_code = 7

    assert missing_exit_codes([WeatherError], "\n| 7 | `WeatherError` | it rains |") == []
    assert missing_exit_codes([WeatherError], "\n| 6 | `WeatherError` | it rains |") == ["WeatherError"]


def test_missing_variables_found() -> None:
    code = {"a.py": 'os.environ.get("EDITOR")', "b.py": '"see MEDZOO_CACHE"', "c.py": 'os.environ["CXX"]'}
    assert missing_variables(code, "| `MEDZOO_CACHE`, `CXX` | |\n") == ["EDITOR (a.py)"]
    assert missing_variables(code, "MEDZOO_CACHE EDITOR CXX") == ["CXX (c.py)", "EDITOR (a.py)", "MEDZOO_CACHE (b.py)"]


@pytest.mark.parametrize(
    "command", ["medzoo smaple", "medzoo data splti", "medzoo list --jsn", "medzoo sample", "medzoo augment --to 0"]
)
def test_fault_of_invalid_command(command: str) -> None:
    assert commands_in(f"```\n$ MEDZOO_CACHE=here {command}  # a remark\n```") == [command]
    assert command in fault_of(command)


def test_commands_in_reads_only_shell_blocks() -> None:
    shell = "```sh\nmedzoo list \\\n  --json > here\npython x.py\n```"
    page = f"medzoo list\n{shell}\n```python\nmedzoo show x\n```\nmedzoo pull x\n"
    assert [command.split() for command in commands_in(page)] == [["medzoo", "list", "--json"]]
