"""Generate one page per public module of the toolkit."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from medzoo import config, toolkit
from reference_pages.hooks import autoclass, class_entry, constants, module_entry
from reference_pages.markdown import escaped, page, table, toctree
from reference_pages.settings import shown, takes


def toolkit_pages() -> dict[str, str]:
    """Return a page for each module, and the index."""
    modules = {name: importlib.import_module(f"{toolkit.__name__}.{name}") for name in module_names()}
    rows = [(f"[`{name}`]({name}.md)", escaped(summary(module))) for name, module in modules.items()]
    index = page(
        "# Toolkit",
        "`medzoo.toolkit` contains code shared by trained models. A plugin imports what it needs, as in "
        "`from medzoo.toolkit.training.loop import train`. [Train a network](../../toolkit.md) shows how the parts "
        "work together. `settings` does not import torch, so the module of the spec may import it; import all others "
        "in the module of the model.",
        table(("module", "description"), rows),
        toctree(modules),
    )
    return {"toolkit/index.md": index} | {f"toolkit/{name}.md": module_page(m) for name, m in modules.items()}


def module_names() -> list[str]:
    """Return the names of the modules that plugins may import."""
    prefix = f"{toolkit.__name__}."
    return sorted(m.name.removeprefix(prefix) for m in pkgutil.walk_packages(toolkit.__path__, prefix) if not m.ispkg)


def summary(module: ModuleType) -> str:
    """Return the first paragraph of a module's docstring."""
    return inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def module_page(module: ModuleType) -> str:
    """Return a module's docstring, constants, functions and classes."""
    name = module.__name__
    entries = (entry(name, part) for part in public(module))
    return page(f"# {name}", module_entry(module), constants(module), *entries)


def public(module: ModuleType) -> list[Any]:
    """Return the public functions and classes that a module defines."""
    own = [part for name, part in vars(module).items() if not name.startswith("_")]
    return [p for p in own if (inspect.isclass(p) or inspect.isfunction(p)) and p.__module__ == module.__name__]


def entry(module: str, part: Any) -> str:
    """Return the signature and docstring of a function, or of a class with its methods and fields or settings."""
    path = f"{module}.{part.__name__}"
    if not inspect.isclass(part):
        return page(f"## {part.__name__}", f"```{{eval-rst}}\n.. autofunction:: {path}\n```")
    if dataclasses.is_dataclass(part) and all(map(described, dataclasses.fields(part))):
        return settings_entry(path, part)
    return class_entry(part, path=path)


def described(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field is a setting or a group of settings."""
    return "help" in field.metadata or dataclasses.is_dataclass(field.default)


def settings_entry(path: str, group: type[Any]) -> str:
    """Return a settings class with a table of its settings; nested groups are given by their class."""
    own = {each.key: each for each in config.settings_of(group)}
    rows = []
    for name, value in vars(group()).items():
        if name in own:
            rows.append((f"`{name}`", shown(value), takes(own[name]), escaped(own[name].help)))
        else:
            rows.append((f"`{name}`", "", f"`{type(value).__name__}`", ""))
    return page(
        f"## {group.__name__}", autoclass(group, path), table(("setting", "default", "values", "description"), rows)
    )
