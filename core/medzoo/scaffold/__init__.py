"""New plugins: a distribution with a working minimal model, its tests and its papers, written from templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.hub.registry import Registry
from medzoo.plugins.lookup import Plugins
from medzoo.specs import CONTRACT
from medzoo.storage.files import new_folder

SUMMARIES: Mapping[str, str] = {
    "generator": "a Gaussian for each class, of its mean image and its principal components",
    "classifier": "the class whose mean thumbnail is nearest",
    "metric": "how far apart the mean grey levels of both sets are",
}
"""By kind of plugin, what its minimal model is."""

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,28}[A-Za-z0-9])?")
_TEMPLATE = ".jinja"


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """What a new plugin offers, a `kind` ("generator", "classifier", "metric") called `name`, and names made of that.

    Raises:
        ConfigError: another kind, or a name that a module and a distribution cannot have.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in SUMMARIES:
            raise UnknownName("kind of plugin", self.kind, SUMMARIES)
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"'{self.name}' cannot name a plugin and its module",
                "take up to 30 letters, digits, '-' and '_'; the first a letter, the last none of '-' and '_'",
            )

    @property
    def distribution(self) -> str:
        """What is installed, as by `pip install medzoo-my-gan`."""
        return f"medzoo-{self.name}"

    @property
    def module(self) -> str:
        """What is imported, as in `import medzoo_my_gan`."""
        return self.distribution.replace("-", "_").lower()

    @property
    def class_name(self) -> str:
        """What its classes' names begin with, as in `MyGanConfig`."""
        return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]+", self.name))


def refuse_taken(plugin: NewPlugin, plugins: Plugins, registry: Registry) -> None:
    """Nothing. Raises: ConfigError if a plugin, what it offers, or a published model has the new plugin's name."""
    for row in plugins.rows:
        offered = [offer for offer in row.offers if offer.partition(" ")[2] == plugin.name]
        if offered or plugin.name == row.name or plugin.module == row.module.partition(".")[0]:
            what = offered[0].replace(" ", " '") + "'" if offered else f"plugin '{row.name}' ({row.module})"
            raise ConfigError(f"the name '{plugin.name}' is taken: {row.distribution} has the {what}", "choose another")
    if plugin.name in registry.models:
        # Where a generator is asked for, a model's id goes before a plugin's name.
        raise ConfigError(f"the name '{plugin.name}' is taken: it is a published model", "choose another")


def write_plugin(plugin: NewPlugin, folder: Path) -> list[str]:
    """The files of `plugin`, written below `folder`: all or none.

    Raises:
        DataError: `folder` is not empty.
        ResourceError: it cannot be written.
    """
    files = render(plugin)
    # Hidden files, such as those of git, may be there already, but none is written over.
    if found := [name for name in sorted(files) if (folder / name).exists()]:
        raise DataError(f"{folder / found[0]} exists already", "give another folder")
    with new_folder(folder) as unfinished:
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    return sorted(files)


def render(plugin: NewPlugin) -> dict[str, str]:
    """The text of each of the plugin's files, by its path. In the templates' paths MODULE stands for its module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from medzoo._version import __version__

    environment = Environment(
        loader=PackageLoader(__name__, "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    values = {
        "name": plugin.name,
        "kind": plugin.kind,
        "distribution": plugin.distribution,
        "module": plugin.module,
        "class_name": plugin.class_name,
        "summary": SUMMARIES[plugin.kind],
        "contract": CONTRACT,
        "version": __version__,
    }
    files = {}
    for template in environment.list_templates():
        folder, _, path = template.partition("/")
        if folder in ("common", plugin.kind) and path.endswith(_TEMPLATE):
            written = path.removesuffix(_TEMPLATE).replace("MODULE", plugin.module)
            files[written] = environment.get_template(template).render(values)
    return files
