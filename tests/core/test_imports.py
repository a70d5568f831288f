"""Who imports whom, read from the source; and what the light verbs load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CORE = ROOT / "core" / "medzoo"
PACKAGE = CORE / "__init__.py"
PLUGINS = ROOT / "plugins"

RANKS = [
    {"errors"},
    {"disabled", "failures", "files", "places"},
    {"protocols"},
    {"specs"},
    {"hookspecs"},
    {""},  # the package itself: public names
    {"discovery", "plugins"},
    {
        "cache",
        "catalogue",
        "checks",
        "config",
        "data",
        "decoded",
        "downloads",
        "duplicates",
        "hub",
        "images",
        "layers",
        "mirror",
        "mixture",
        "phantom",
        "provenance",
        "readers",
        "registry",
        "remote",
        "repos",
        "rows",
        "rules",
        "splits",
    },
    {"toolkit"},
    {"conformance", "pipelines", "scaffold", "testing"},
    {"api"},
    {"cli"},
    {"__main__"},
]
TOOLKIT_MAY_IMPORT = {"errors", "protocols", "specs", "images", "config", "toolkit"}
# `medzoo.load` and its like come from rooms to the right of the package that they are names of. Its `__getattr__` alone
# imports them, when a program first asks for one and the package is whole: `import medzoo` loads none of them.
FRONT_DOOR = {"api", "pipelines", "registry"}
PLUGINS_MAY_IMPORT = {"", "errors", "protocols", "specs", "hookspecs", "config", "toolkit"}
LIGHT = [["list"], ["cache"], ["list", "--json"], ["show", "ddpm"], ["--help"], ["--version"], ["plugin", "list"]]


def imported(path: Path) -> set[str]:
    """Dotted names of the modules a file imports anywhere, those for type checkers and the front door's left out."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        if path == PACKAGE and isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.update(_module(node.module, alias.name) for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return names


def _module(module: str, name: str) -> str:
    """`from medzoo import config` imports a module, `from medzoo import hookimpl` a name of the package."""
    inner = CORE.parent / module.replace(".", "/") / name
    return f"{module}.{name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else module


def rooms(path: Path) -> set[str]:
    """First-level names of the parts of medzoo that a file imports; "" is the package itself."""
    own = [name.split(".") for name in imported(path) if name.split(".")[0] == "medzoo"]
    return {parts[1] if len(parts) > 1 else "" for parts in own}


def room_of(path: Path) -> str:
    first = path.relative_to(CORE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def rank(room: str) -> int:
    places = [number for number, names in enumerate(RANKS) if room in names]
    assert places, f"medzoo.{room} has no place in the order of imports"
    return places[0]


def identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=identify)
def test_core_imports_only_to_the_left(path):
    room = room_of(path)
    for other in rooms(path):
        assert rank(other) <= rank(room), f"{room} may not import {other}"
        if room == "toolkit":
            assert other in TOOLKIT_MAY_IMPORT, f"toolkit may not import {other}"
    assert not [name for name in imported(path) if name.startswith("medzoo_")], "core imports no plugin"


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=identify)
def test_a_plugin_imports_what_a_stranger_may(path):
    own = path.relative_to(PLUGINS).parts[0]
    assert rooms(path) <= PLUGINS_MAY_IMPORT
    assert {name.split(".")[0] for name in imported(path) if name.startswith("medzoo_")} <= {own}


def test_the_package_imports_the_front_door_when_asked_for_it():
    (door,) = (
        node
        for node in ast.walk(ast.parse(PACKAGE.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
    )
    asked = [node for node in ast.walk(door) if isinstance(node, ast.ImportFrom)]
    modules = {_module(node.module, alias.name) for node in asked for alias in node.names}
    assert {name.split(".")[1] for name in modules} == FRONT_DOOR


def test_core_modules_import_each_other_in_no_circle():
    graph: dict[str, set[str]] = {}
    for path in CORE.glob("*.py"):
        graph[room_of(path)] = rooms(path) - {room_of(path)}
    settled: set[str] = set()
    while ready := {room for room in graph if room not in settled and graph[room] & set(graph) <= settled}:
        settled |= ready
    assert settled == set(graph)


@pytest.mark.parametrize("path", sorted([*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")]), ids=identify)
def test_importing_does_nothing(path):
    for statement in ast.parse(path.read_text("utf-8")).body:
        call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        main = isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
        typing = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        assert not call, f"line {statement.lineno} acts at import"
        assert not isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try) or main or typing


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_verbs_load_no_heavy_library(arguments):
    program = (
        "import sys; from medzoo.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'PIL', 'diffusers', 'huggingface_hub', 'filelock'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
