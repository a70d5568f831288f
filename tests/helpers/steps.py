"""The files and commands that a page of the documentation shows, as steps to do."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.environments import Environment

_BLOCK = re.compile(r"(?P<before>[^\n]*)\n+^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`(?P<path>[\w./]+\.(?:toml|py))`(?:, `(?P<part>\w+)`)?")
_LEFT_OUT = "..."


@dataclass(frozen=True)
class Shown:
    """A file, or the `part` (a function or class) of it that takes the place of the one of that name."""

    path: str
    part: str | None
    text: str

    def do(self, folder: Path, environment: Environment) -> None:
        """Write it."""
        path = folder / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text if self.part is None else replaced(path.read_text("utf-8"), self.part, self.text))


@dataclass(frozen=True)
class Command:
    """A command and the lines it prints; it fails where one of them is an error."""

    command: str
    printed: tuple[str, ...]

    def do(self, folder: Path, environment: Environment) -> None:
        """Run it, and look for the lines in what it prints."""
        fails = any(line.startswith("error: ") for line in self.printed)
        done = environment.run(*shlex.split(self.command), cwd=folder, code=3 if fails else 0)
        said = [words(line) for line in (done.stdout + done.stderr).splitlines()]
        missing = [line for line in self.printed if words(line) not in said]
        assert not missing, f"{self.command} does not print {missing}, but\n{done.stdout}{done.stderr}"


Step = Shown | Command


def words(line: str) -> str:
    """A line with one space between its words, for columns are as wide as what else is in them."""
    return " ".join(line.split())


def replaced(source: str, name: str, text: str) -> str:
    """`source` with the function or class `name` replaced by `text`, which is indented as it is."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    (node,) = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and node.name == name]
    lines = source.splitlines(keepends=True)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "".join([*lines[: first - 1], text, *lines[node.end_lineno :]])


def steps(markdown: str) -> Iterator[Step]:
    """What a page asks its reader to do. Raises: AssertionError for a block of an unknown sort."""
    assert markdown.count("```") == 2 * len(_BLOCK.findall(markdown)), "a block is not closed"
    for block in _BLOCK.finditer(markdown):
        file = _FILE.fullmatch(block["before"])
        if block["language"] in ("toml", "python") and file is not None:
            yield Shown(path=file["path"], part=file["part"], text=block["text"])
        elif block["language"] == "console" and block["text"].startswith("$ "):
            for told in re.split(r"^\$ ", block["text"].replace("\\\n", ""), flags=re.MULTILINE)[1:]:
                command, *printed = told.splitlines()
                yield Command(command=command, printed=tuple(line for line in printed if line != _LEFT_OUT))
        else:
            raise AssertionError(f"a block of an unknown sort: ```{block['language']} after {block['before']!r}")
