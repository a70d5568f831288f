"""Write a new plugin from templates: a distribution with a working minimal model, tests, CI, and a README."""

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
    "metric": "how far apart the mean gray levels of both sets are",
}
"""The minimal model of each kind of plugin."""

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]{0,28}[A-Za-z0-9])?")
_TEMPLATE = ".jinja"


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """A plugin to be written: its `kind` ("generator", "classifier", "metric"), its `name`, and names derived from it.

    Raises:
        ConfigError: an unknown kind, or a name that is not valid for a module and a distribution.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in SUMMARIES:
            raise UnknownName("kind of plugin", self.kind, SUMMARIES)
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"'{self.name}' is not a valid plugin name",
                "use up to 30 letters, digits, '-' and '_'; begin with a letter, end with a letter or a digit",
            )

    @property
    def distribution(self) -> str:
        """The name to install, as in `pip install medzoo-my-gan`."""
        return f"medzoo-{self.name}"

    @property
    def module(self) -> str:
        """The name to import, as in `import medzoo_my_gan`."""
        return self.distribution.replace("-", "_").lower()

    @property
    def class_name(self) -> str:
        """The prefix of its classes, as in `MyGanConfig`."""
        return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]+", self.name))


def check_name_is_free(plugin: NewPlugin, plugins: Plugins, registry: Registry) -> None:
    """Raise ConfigError if a plugin, a component of one, or a published model already has the name."""
    for row in plugins.infos:
        offered = [offer for offer in row.provides if offer.partition(" ")[2] == plugin.name]
        if offered or plugin.name == row.name or plugin.module == row.module.partition(".")[0]:
            what = offered[0].replace(" ", " '") + "'" if offered else f"plugin '{row.name}' ({row.module})"
            raise ConfigError(
                f"the name '{plugin.name}' is taken: {row.distribution} has the {what}", "choose another name"
            )
    if plugin.name in registry.models:
        # Where a generator is asked for, a model's id goes before a plugin's name.
        raise ConfigError(f"the name '{plugin.name}' is taken: it is a published model", "choose another name")


def write_plugin(plugin: NewPlugin, folder: Path) -> list[str]:
    """Write the files of `plugin` into `folder`, all or none, and return their names.

    Raises:
        DataError: one of the files exists.
        ResourceError: `folder` cannot be written.
    """
    files = render(plugin)
    # Other files, such as those of git, may be there already, but none is overwritten.
    if found := [name for name in sorted(files) if (folder / name).exists()]:
        raise DataError(f"{folder / found[0]} already exists", "choose another folder")
    with new_folder(folder) as unfinished:
        for name, text in files.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    return sorted(files)


def render(plugin: NewPlugin) -> dict[str, str]:
    """Return the text of each of the plugin's files by path; MODULE in a template's path stands for the module."""
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
