"""The toolkit: one page for each of its public modules, and one that lists them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from medzoo import config, toolkit
from reference_pages.hooks import autoclass, class_entry, constants, module_entry
from reference_pages.markdown import escaped, page, table, toctree
from reference_pages.settings import shown, takes

LIGHT = ("classifier_settings", "nn.resolutions", "settings")
_INNER = ("training.train_state", "training.state")  # what others need of them is offered by `training.loop`


def toolkit_pages() -> dict[str, str]:
    """A page for each module, and their index."""
    modules = {name: importlib.import_module(f"{toolkit.__name__}.{name}") for name in module_names()}
    rows = [(f"[`{name}`]({name}.md)", escaped(summary(module))) for name, module in modules.items()]
    light = ", ".join(f"`{name}`" for name in LIGHT)
    index = page(
        "# Toolkit",
        "What trained models share, in `medzoo.toolkit`: a plugin imports what it needs, as in "
        "`from medzoo.toolkit.training.loop import train`. [Train a network](../../toolkit.md) shows how the parts "
        f"work together. {light} load no torch and may be imported beside the spec; all others belong into the model's "
        "module.",
        table(("module", "what it has"), rows),
        toctree(modules),
    )
    return {"toolkit/index.md": index} | {f"toolkit/{name}.md": module_page(m) for name, m in modules.items()}


def module_names() -> list[str]:
    """The modules that plugins may import."""
    found = (m.name.removeprefix(f"{toolkit.__name__}.") for m in _modules() if not m.ispkg)
    return sorted(name for name in found if name not in _INNER)


def _modules() -> Iterator[pkgutil.ModuleInfo]:
    return pkgutil.walk_packages(toolkit.__path__, f"{toolkit.__name__}.")


def summary(module: ModuleType) -> str:
    """The first paragraph of a module's docstring."""
    return inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def module_page(module: ModuleType) -> str:
    """A module's docstring, its constants, functions and classes."""
    name = module.__name__
    entries = (entry(name, part) for part in public(module))
    return page(f"# {name}", module_entry(module), constants(module), *entries)


def public(module: ModuleType) -> list[Any]:
    """The functions and classes of a module that plugins may use: those it defines, or those in its `__all__`."""
    found = vars(module)
    if "__all__" in found:
        return [found[name] for name in found["__all__"]]
    own = [part for name, part in found.items() if not name.startswith("_")]
    return [p for p in own if (inspect.isclass(p) or inspect.isfunction(p)) and p.__module__ == module.__name__]


def entry(module: str, part: Any) -> str:
    """A function's signature and docstring; a class's too, with its methods, and its fields or settings."""
    path = f"{module}.{part.__name__}"
    if not inspect.isclass(part):
        return page(f"## {part.__name__}", f"```{{eval-rst}}\n.. autofunction:: {path}\n```")
    if dataclasses.is_dataclass(part) and all(map(described, dataclasses.fields(part))):
        return settings_entry(path, part)
    return class_entry(part, path=path)


def described(field: dataclasses.Field[Any]) -> bool:
    """Whether a field is a setting, or holds settings."""
    return "about" in field.metadata or dataclasses.is_dataclass(field.default)


def settings_entry(path: str, group: type[Any]) -> str:
    """What a group of settings is, and a table of them; of a group within it, the class."""
    own = {each.key: each for each in config.settings_of(group)}
    rows = []
    for name, value in vars(group()).items():
        if name in own:
            rows.append((f"`{name}`", shown(value), takes(own[name]), escaped(own[name].help)))
        else:
            rows.append((f"`{name}`", "", f"`{type(value).__name__}`", ""))
    return page(f"## {group.__name__}", autoclass(group, path), table(("setting", "default", "takes", "meaning"), rows))
