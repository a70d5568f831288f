"""Push models to the Hub: check and package a card folder, send it in one commit, and return its registry entry."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, DataError, HubError
from medzoo.evaluation.memorization import CopyCheck, with_warning
from medzoo.hub.entries import KEYS, README
from medzoo.hub.front_matter import complete_card
from medzoo.hub.registry import CONFIG, GENERATOR, ModelEntry, Registry, is_model_folder, load_registry
from medzoo.hub.registry_file import entry_toml
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import FINGERPRINTS, read_description
from medzoo.models.loading import count_parameters
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.publishing.card import TRAININGS, About, entry_values, form_of, load_published, write_card
from medzoo.publishing.checks import Card, find_problems
from medzoo.publishing.upload import RECORD, Repository, check_privacy, published_commits, read_remote
from medzoo.runs.record import read_run
from medzoo.storage.files import sha256_file, write_atomic, write_json_atomic
from medzoo.storage.paths import bundled_root

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Package:
    """A checked model: `files` by name, for `repo`. `entry` is its registry entry.

    `bases` are the commits this folder is known to have been published as. `pinned`: the registry entry names the
    hashes of the very files in the folder. Once published, `commit` holds the files, of which `sent` were sent.
    """

    id: str
    folder: Path
    repo: str
    files: Mapping[str, bytes]
    entry: Mapping[str, Any]
    bases: tuple[str, ...]
    version: int | None
    pinned: bool
    commit: str = ""
    sent: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The tag of the commit, "" for none."""
        return f"v{self.version}" if self.version else ""

    @property
    def entry_toml(self) -> str:
        """The registry entry as TOML, for a registry file."""
        return entry_toml(self.entry)


def push(
    *models: str | Path,
    repo: str = "",
    org: str = "",
    about: str | Path | About | None = None,
    settings: Mapping[str, Any] | None = None,
    version: int | None = None,
    create: bool = False,
    private: bool = False,
    force: bool = False,
    accept_memorization: bool = False,
    publish_fingerprints: bool = False,
    dry_run: bool = False,
) -> list[Package]:
    """Check models, and upload each to the Hugging Face Hub in one commit, or in none if the Hub has all of it.

    A model is an id, a finished training run, or a card folder. A run gets its card first, in RUN/card, from the facts
    in the TOML file `about`, with changed `settings` of sampling or prediction. `repo` is ORG/NAME; without it, `org`
    and the model's id, or the repository that its registry entry or `about` names. `version` numbers the entry and tags
    the commit. `create` creates a missing repository, `private` makes that one private, and `force` overwrites a newer
    card. `accept_memorization` publishes a model that failed its memorization check, which its card then states.
    `publish_fingerprints` also sends fingerprints.json, by which anybody who has an image can tell whether the model
    was trained on it; without it, `augment` and `evaluate` cannot refuse images that the model was trained on. With
    `dry_run`, nothing is sent. All models are checked before the first is uploaded.

    Example:
        >>> (package,) = medzoo.push("runs/ldm", about="ldm.toml", repo="ORG/ldm", dry_run=True)
        >>> print(package.entry_toml)

    Raises:
        DataError: a model must not be published; the message lists every problem and its fix.
        ConfigError: no model, no repository, or no facts about the model are named.
        HubError: no token; the Hub cannot be reached or refuses, or holds a newer card and not `force`.
    """
    if len(models) > 1 and (repo or about is not None):
        raise ConfigError(
            "a push of several models takes neither --repo nor --about: each has its own", "pass --org ORG"
        )
    check_privacy(create=create, private=private)
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    packages = []
    for model in models:
        logger.info(f"checking {model} and samples of its weights")
        package = build_package(
            str(model),
            registry=registry,
            plugins=plugins,
            repo=repo,
            org=org,
            about=About.read(Path(about)) if isinstance(about, str | Path) else about,
            settings=settings,
            version=version,
            accept_memorization=accept_memorization,
            publish_fingerprints=publish_fingerprints,
        )
        packages.append(package)
    if dry_run:
        return packages
    return [publish(package, create=create, private=private, force=force) for package in packages]


def bundled_models(registry: Registry) -> tuple[ModelEntry, ...]:
    """List the models whose cards come with medzoo."""
    return tuple(entry for entry in registry.entries if (bundled_root() / "cards" / entry.folder / CONFIG).is_file())


def build_package(
    model: str,
    *,
    registry: Registry,
    plugins: Plugins,
    repo: str = "",
    org: str = "",
    about: About | None = None,
    settings: Mapping[str, Any] | None = None,
    version: int | None = None,
    accept_memorization: bool = False,
    publish_fingerprints: bool = False,
) -> Package:
    """Check a model and package it, without sending anything. A training run gets its card folder first.

    Raises: DataError, ConfigError as `push`.
    """
    path = Path(model)
    record = read_run(path) if path.is_dir() and model not in registry.models else None
    if record is not None and record.get("job") in TRAININGS:
        if about is None:
            raise ConfigError(f"{path} is a training run, which does not know its license", "pass --about FILE.toml")
        folder = path / "card"
        write_card(path, folder, about, plugins=plugins, settings=settings)
    elif settings:
        raise ConfigError(f"--set was given, but {path} is not a training run", "leave out --set")
    else:
        folder = _card_folder(model, registry, version)
    entry = registry.models.get(model)
    description = read_description(folder)
    model_id = str(description.get("id", "")) or folder.resolve().name
    if entry is None:
        entry = registry.models.get(f"{model_id}@v{version}" if version is not None else model_id)
    previous = entry or registry.models.get(model_id)
    if about is None and previous is None:
        raise ConfigError(
            f"'{model_id}' has no registry entry that describes it", "pass --about FILE.toml, as for `medzoo card`"
        )
    repo = repo or (f"{org}/{model_id}" if org else "")
    repo = repo or (entry.repo if entry is not None else "") or (about.repo if about is not None else "")
    if not repo:
        raise ConfigError(f"no repository is given for '{model_id}'", "pass --repo ORG/NAME, or --org ORG")
    notes = (record or description).get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(facts, dict) for facts in notes.values()):
        raise DataError(
            "the notes of the training are not a table of tables", "write the card again with `medzoo card`"
        )
    # An entry that names exactly the card text in the folder pins it: it must not be completed.
    named = {file.name: file.sha256 for file in entry.files} if entry is not None else {}
    readme = folder / README
    pinned = model in registry.models or (readme.is_file() and named.get(README) == sha256_file(readme))
    card = Card(
        folder=folder,
        readme=_readme(readme, description, notes=notes, pinned=pinned),
        description=description,
        notes=notes,
        entry=entry,
        pinned=pinned,
        license=about.license if about is not None else entry.license if entry is not None else "",
    )
    if found := find_problems(card, plugins=plugins, accept_memorization=accept_memorization):
        lines = "".join(f"\n  - {problem}" for problem in found)
        raise DataError(f"{model_id} ({folder}) cannot be published:{lines}")
    check = CopyCheck.of(notes)
    text = with_warning(card.readme, check) if check is not None and check.failed else card.readme
    files = {name: (folder / name).read_bytes() for name in card.form.files} | {README: text.encode()}
    if publish_fingerprints and (folder / FINGERPRINTS).is_file():
        files[FINGERPRINTS] = (folder / FINGERPRINTS).read_bytes()
        logger.warning(
            f"{model_id}: {FINGERPRINTS} is published: anybody who has an image can look up whether it was trained on"
        )
    elif not pinned:
        logger.info(
            f"{model_id}: how many images it was trained on is published, not which: `augment` and `evaluate` will say "
            "that its lineage is unknown (--publish-fingerprints publishes it)"
        )
    listed = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
    ]
    return Package(
        id=model_id,
        folder=folder,
        repo=repo,
        files=files,
        entry={**_entry(folder, previous, about, version, plugins), "repo": repo, "files": listed},
        bases=_bases(registry, model_id, repo, folder),
        version=version,
        pinned=pinned,
    )


def _card_folder(model: str, registry: Registry, version: int | None) -> Path:
    """Return the folder that `model` is, or the one of a registry entry, downloaded if it did not come with medzoo."""
    folder = Path(model)
    if model not in registry.models and folder.is_dir():
        if is_model_folder(folder):
            return folder
        raise ConfigError(f"{folder} is neither a finished training run nor a card folder", "see `medzoo push --help`")
    entry = registry.model(model)
    if is_model_folder(folder):
        raise ConfigError(
            f"'{model}' is both a folder here and a model of the registry", f"write ./{model} for the folder"
        )
    if version not in (None, entry.version):
        raise ConfigError(
            f"'{model}' is version {entry.version}",
            f"pass --version v{entry.version}, or push the newer version's folder",
        )
    bundled = bundled_root() / "cards" / entry.folder
    return bundled if bundled.is_dir() else fetch_model(entry)


def _entry(
    folder: Path, previous: ModelEntry | None, about: About | None, version: int | None, plugins: Plugins
) -> dict[str, Any]:
    """Return the registry values that describe the model: by `about`, or else by the `previous` entry."""
    model = load_published(folder, plugins=plugins)
    if about is not None:
        values = entry_values(about, model, folder)
    else:
        values = {key: getattr(previous, key) for key in KEYS["model"]}
        values["kind"] = "" if values["kind"] == GENERATOR else values["kind"]  # the default
    number = version or values.get("version", 1)
    # Without a version, an entry in another file counts as the newest.
    stated = number if number > 1 or not (previous is None or previous.newest) else None
    return {**values, "version": stated, "parameters": count_parameters(model.model)}


def _readme(path: Path, description: Mapping[str, Any], *, notes: Mapping[str, Any], pinned: bool) -> str:
    """Return the text of the card; if no entry pins it, with what its front matter lacks."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8", "write the card again with `medzoo card`") from None
    if pinned:
        return text
    dataset, model_id = str(description["data"].get("name", "")), str(description.get("id", ""))
    try:
        plugin, task = description["plugin"], form_of(description).task
        return complete_card(text, task, model=model_id, plugin=plugin, dataset=dataset, notes=notes)
    except ValueError:
        return text  # its front matter is reported with the other problems


def _bases(registry: Registry, model_id: str, repo: str, folder: Path) -> tuple[str, ...]:
    """Return commits of `repo` that this folder was published as, by the registry and the folder's own record."""
    commits = [entry.revision for entry in registry.entries if (entry.id, entry.repo) == (model_id, repo)]
    return tuple(filter(None, [*commits, *published_commits(folder, repo)]))


def publish(package: Package, *, create: bool, private: bool, force: bool) -> Package:
    """Push the package in one commit, or in none if the Hub has all of it; tag it if it has a version.

    Raises:
        HubError: the Hub cannot be reached or refuses, or holds a newer card and not `force`.
    """
    repository = Repository(package.repo)
    remote = read_remote(repository, package.files, bases=package.bases, create=create, private=private, force=force)
    tagged = remote.tags.get(package.tag)
    changed = any(remote.lacks(name, data) for name, data in package.files.items())
    if tagged and (changed or tagged != remote.commit):
        raise HubError(
            f"{package.repo} already has the tag {package.tag}, on another commit", "pass the next number to --version"
        )
    title = f"Publish {package.id}" + (f" {package.tag}" if package.tag else "")
    commit, sent = repository.commit(package.files, onto=remote, message=title)
    if (package.folder / README).read_bytes() != package.files[README]:
        write_atomic(package.folder / README, package.files[README])
    if package.tag and not tagged:
        repository.tag(package.tag, commit)
    if not package.pinned:
        write_json_atomic(package.folder / RECORD, {"repo": package.repo, "commit": commit})
    return replace(package, commit=commit, sent=sent, entry={**package.entry, "revision": commit})
