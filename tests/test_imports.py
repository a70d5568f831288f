"""What importing medzoo does; who may import whom stands in pyproject.toml, as contracts of import-linter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "core" / "medzoo").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])

LIGHT = [["list"], ["cache"], ["list", "--json"], ["show", "ddpm"], ["--help"], ["--version"], ["plugin", "list"]]


def acts_when_imported(statement: ast.stmt) -> bool:
    """Return whether a module-level statement does more than define."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return True
    if isinstance(statement, ast.If):
        test = ast.unparse(statement.test)
        return "__name__" not in test and test != "TYPE_CHECKING"
    if isinstance(statement, ast.Try):  # an import of what some systems lack
        inner = [*statement.body, *(each for handler in statement.handlers for each in handler.body)]
        return not all(isinstance(each, ast.Import | ast.ImportFrom | ast.Assign) for each in inner)
    return isinstance(statement, ast.For | ast.While | ast.With)


def test_import_has_no_side_effects():
    acting = [
        f"{path.relative_to(ROOT)}:{statement.lineno}"
        for path in SOURCES
        for statement in ast.parse(path.read_text("utf-8")).body
        if acts_when_imported(statement)
    ]
    assert acting == []


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_load_no_heavy_library(arguments):
    program = (
        "import sys; from medzoo.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'PIL', 'diffusers', 'huggingface_hub', 'filelock'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
