"""Generate the pages on hooks, specs and protocols."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from types import ModuleType
from typing import Any, Protocol

from sphinx.pycode import ModuleAnalyzer

from medzoo import hookspecs, protocols, specs
from medzoo.plugins.lookup import PluginInfo, load_plugins
from reference_pages import examples
from reference_pages.markdown import escaped, page, table, toctree


def hook_pages() -> dict[str, str]:
    """Return the pages of the hooks, the specs and the protocols."""
    return {
        "hooks.md": hooks_page(),
        "specs.md": module_page("Specs", specs),
        "protocols.md": module_page("Protocols", protocols),
    }


def hooks(module: ModuleType = hookspecs) -> list[str]:
    """Return the names of all hooks in the order of the file."""
    return [name for name in vars(module) if name.startswith("register_")]


def hooks_page() -> str:
    """Return a page with each hook's signature, docstring and an example implementation."""
    rows = [row for row in load_plugins().infos if row.distribution == "medzoo"]
    return page(
        "# Hooks",
        "A plugin is a module with an entry point in the group `medzoo`. It implements any of these hooks, marked with "
        "`@medzoo.hookimpl`. They are the complete extension interface: hooks return [specs](specs.md), whose `build` "
        "returns objects that implement the [protocols](protocols.md).",
        *(hook_entry(name, rows) for name in hooks()),
        toctree(("specs", "protocols")),
    )


def hook_entry(name: str, rows: list[PluginInfo]) -> str:
    """Return a hook's signature and docstring, the first-party plugins that implement it, and the shortest example."""
    modules = {row.name: importlib.import_module(row.module) for row in rows}
    sources = {
        plugin: inspect.getsource(vars(module)[name]) for plugin, module in modules.items() if name in vars(module)
    }
    if sources:
        shortest = min(sources, key=lambda plugin: len(sources[plugin]))
        text = f"Implemented by {', '.join(f'`{plugin}`' for plugin in sources)}"
        text += f"; the implementation in `{shortest}`:" if len(sources) > 1 else ":"
    else:
        shortest = "example"
        sources[shortest] = inspect.getsource(vars(examples)[name])
        text = "No first-party plugin implements this hook. An example:"
    signature = f"```{{eval-rst}}\n.. autofunction:: medzoo.hookspecs.{name}\n```"
    return page(f"## {name}", signature, text, f"```python\n{sources[shortest].rstrip()}\n```")


def module_page(title: str, module: ModuleType) -> str:
    """Return a module's docstring, constants, and classes with their fields and methods."""
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
    return page(f"# {title}", module_entry(module), constants(module), *map(class_entry, classes))


def module_entry(module: ModuleType) -> str:
    """Return a module's docstring."""
    return f"```{{eval-rst}}\n.. automodule:: {module.__name__}\n   :no-members:\n```"


def constants(module: ModuleType) -> str:
    """Return a table of a module's documented constants, or "" if there are none."""
    analyzed = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    notes = {name: " ".join(lines).strip() for (_, name), lines in analyzed.items()}
    rows = [(f"`{name}`", f"`{vars(module)[name]!r}`", escaped(note)) for name, note in notes.items()]
    return table(("constant", "value", "meaning"), rows) if rows else ""


def class_entry(cls: type[Any], *, path: str = "") -> str:
    """Return a class's docstring, methods and dataclass fields; `path` is its import path."""
    auto = autoclass(cls, path or f"{cls.__module__}.{cls.__qualname__}")
    if not dataclasses.is_dataclass(cls):
        return page(f"## {cls.__name__}", auto)
    rows = [(f"`{field.name}`", f"`{field.type}`", default(field)) for field in dataclasses.fields(cls)]
    return page(f"## {cls.__name__}", auto, table(("field", "type", "default"), rows))


def autoclass(cls: type[Any], path: str) -> str:
    """Return the autodoc directive for a class: its bases, docstring and methods."""
    options = ["members:", "special-members: __call__, __getitem__"]
    options.append("exclude-members: __new__" if written_constructor(cls) else "exclude-members: __init__, __new__")
    if set(cls.__bases__) - {object, Protocol}:
        options.append("show-inheritance:")
    return "\n".join(["```{eval-rst}", f".. autoclass:: {path}", *(f"   :{each}" for each in options), "```"])


def written_constructor(cls: type[Any]) -> bool:
    """Return whether a class defines its own `__init__`, unlike dataclasses and protocols."""
    own = vars(cls).get("__init__")
    return own is not None and own.__module__ == cls.__module__ and not dataclasses.is_dataclass(cls)


def default(field: dataclasses.Field[Any]) -> str:
    """Return the repr of a field's default, or "required"."""
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "required"
