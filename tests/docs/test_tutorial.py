"""The tutorial, done: every file it shows is written and every command run, in order, in a fresh environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.environments import Environment
from helpers.steps import Command, replaced, steps

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"


def test_tutorial_works_as_written(tmp_path):
    environment, folder = Environment.create(tmp_path / "environment"), tmp_path / "medzoo-eigen"
    for step in steps(TUTORIAL.read_text("utf-8")):
        step.do(folder, environment)
    first, second = (kid(folder / "reports" / name) for name in ("first", "second"))
    assert second < first, "the tutorial says that the second model is nearer to the real images"


def kid(report: Path) -> float:
    """The kernel distance that an evaluation reports."""
    (row,) = json.loads((report / "evaluation.json").read_text("utf-8"))["results"]
    return float(row["score"]["value"])


@pytest.mark.parametrize(
    "page",
    [
        "Say hello:\n\n```python\nprint()\n```\n",
        "`eigen.py`\n\n```\nprint()\n```\n",
        "```console\nmedzoo list\n```\n",
        "`eigen.py`\n\n```python\nprint()\n",
    ],
)
def test_steps_block_without_command_raises(page):
    with pytest.raises(AssertionError, match="a block"):
        list(steps(page))


@pytest.mark.parametrize(
    ("command", "printed", "why"),
    [
        ("medzoo --version", "medzoo 0.0.0", "does not print"),
        ("medzoo --version", "error: no version", "medzoo --version: 0"),
        ("medzoo plugin check nothing", "result  check", "medzoo plugin check nothing: 2"),
    ],
)
def test_command_unexpected_output_raises(tmp_path, command, printed, why):
    environment = Environment.create(tmp_path / "environment")
    with pytest.raises(AssertionError, match=re.escape(why)):
        Command(command=command, printed=(printed,)).do(tmp_path, environment)


def test_replaced_swaps_a_function():
    source = "class A:\n    @staticmethod\n    def f():\n        return 1\n\n    def g(self):\n        return 2\n"
    found = replaced(source, "f", "    def f():\n        return 3\n")
    assert found == "class A:\n    def f():\n        return 3\n\n    def g(self):\n        return 2\n"
