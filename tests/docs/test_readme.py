"""The README says what is true: its tables are the code's, its commands parse, its files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.command_lines import commands_in, fault_of
from helpers.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_readme_tables_are_current() -> None:
    tables = load_script(ROOT / "docs" / "readme_tables.py")
    assert tables.render(README) == README, "run `make readme`"


def test_readme_starts_with_make_commands() -> None:
    assert [line.split()[:2] for line in BLOCKS[0].splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("command", commands_in(README))
def test_readme_commands_parse(command: str) -> None:
    assert not fault_of(command)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:core|tests|bench|docs)/[\w./-]+)`", README))))
def test_readme_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_readme_hooks_are_documented() -> None:
    from medzoo import hookspecs

    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert hooks
    assert not [name for name in hooks if not getattr(hookspecs, name).__doc__]
    assert not [name for name in hooks if f"`{name}`" not in README]


def test_readme_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^## From Python\n\n```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert tuple(names["images"].shape) == (8, 1, 128, 128)
    assert len(names["synthetic"]) == 3 * 500
    assert (tmp_path / "augmented" / "run.json").is_file()
