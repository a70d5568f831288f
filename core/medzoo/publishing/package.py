"""Package a model for the Hub: its checked card folder, and the registry entry it will have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.memorization import CopyCheck, with_warning
from medzoo.hub.entries import KEYS
from medzoo.hub.front_matter import complete_card
from medzoo.hub.registry import CONFIG, GENERATOR, ModelEntry, Registry, is_model_folder
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import read_description
from medzoo.models.loading import count_parameters
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.card import (
    README,
    TRAININGS,
    About,
    entry_values,
    form_of,
    load_published,
    write_card,
)
from medzoo.publishing.checks import RECORD, Card, find_problems
from medzoo.runs.record import read_run
from medzoo.storage.files import sha256_file
from medzoo.storage.paths import bundled_root


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to publish and where. `given` is a model's id, a training run or a card folder.

    `repo` is ORG/NAME; without it, `org` and the model's id, or the repository its registry entry or `about` names.
    `version` numbers the entry and tags the commit; None leaves both as they are.
    """

    given: str
    repo: str = ""
    org: str = ""
    about: About | None = None
    overrides: Mapping[str, Any] | None = None
    version: int | None = None
    accept_memorization: bool = False


@dataclass(frozen=True, kw_only=True)
class Package:
    """What a push would send: `files` by name, to `repo`. `entry` is the registry entry, without its commit.

    `bases` are the commits this folder is known to have been published as. `pinned`: the registry entry names the
    hashes of the very files in the folder.
    """

    id: str
    folder: Path
    repo: str
    files: Mapping[str, bytes]
    entry: Mapping[str, Any]
    bases: tuple[str, ...]
    version: int | None
    pinned: bool

    @property
    def tag(self) -> str:
        """The tag of the commit, "" for none."""
        return f"v{self.version}" if self.version else ""


def build_package(request: Request, *, registry: Registry, plugins: Plugins) -> Package:
    """Check a model and package it, without sending anything. A training run gets its card folder first.

    Raises:
        DataError: it must not be published; the message lists every problem and its fix.
        ConfigError: no model, no repository, or no facts about the model are named.
    """
    folder, entry, pinned = _find_card(request, registry=registry, plugins=plugins)
    description = read_description(folder)
    model_id = str(description.get("id", "")) or folder.resolve().name
    if entry is None:
        entry = registry.models.get(f"{model_id}@v{request.version}" if request.version is not None else model_id)
    previous = entry or registry.models.get(model_id)
    if request.about is None and previous is None:
        raise ConfigError(
            f"'{model_id}' has no registry entry that describes it", "pass --about FILE.toml, as for `medzoo card`"
        )
    repo = request.repo or (f"{request.org}/{model_id}" if request.org else "")
    repo = repo or (entry.repo if entry is not None else "") or (request.about.repo if request.about else "")
    if not repo:
        raise ConfigError(f"no repository is given for '{model_id}'", "pass --repo ORG/NAME, or --org ORG")
    pinned = pinned or _pins(entry, folder)
    notes = (_record_of(request) or description).get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(facts, dict) for facts in notes.values()):
        raise DataError(
            "the notes of the training are not a table of tables", "write the card again with `medzoo card`"
        )
    card = Card(
        folder=folder,
        readme=_readme(folder, description, notes=notes, pinned=pinned),
        description=description,
        notes=notes,
        entry=entry,
        pinned=pinned,
        license=request.about.license if request.about is not None else entry.license if entry is not None else "",
    )
    if found := find_problems(card, plugins=plugins, accept_memorization=request.accept_memorization):
        lines = "".join(f"\n  - {problem}" for problem in found)
        raise DataError(f"{model_id} ({folder}) cannot be published:{lines}")
    check = CopyCheck.of(notes)
    readme = with_warning(card.readme, check) if check is not None and check.failed else card.readme
    files = {name: (folder / name).read_bytes() for name in card.form.files} | {README: readme.encode()}
    listed = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
    ]
    return Package(
        id=model_id,
        folder=folder,
        repo=repo,
        files=files,
        entry={**_entry(request, folder, previous, plugins=plugins), "repo": repo, "files": listed},
        bases=_bases(registry, model_id, repo, folder),
        version=request.version,
        pinned=pinned,
    )


def bundled_models(registry: Registry) -> tuple[ModelEntry, ...]:
    """List the models whose cards come with medzoo."""
    return tuple(entry for entry in registry.entries if (bundled_root() / "cards" / entry.folder / CONFIG).is_file())


def _find_card(request: Request, *, registry: Registry, plugins: Plugins) -> tuple[Path, ModelEntry | None, bool]:
    """Return the card folder, its registry entry if a model's id was given, and whether that entry pins its files."""
    folder = Path(request.given)
    if request.given in registry.models:
        if is_model_folder(folder):
            raise ConfigError(
                f"'{request.given}' is both a folder here and a model of the registry",
                f"write ./{request.given} for the folder",
            )
        entry = registry.model(request.given)
        if request.version not in (None, entry.version):
            raise ConfigError(
                f"'{request.given}' is version {entry.version}",
                f"pass --version v{entry.version}, or push the newer version's folder",
            )
        bundled = bundled_root() / "cards" / entry.folder
        return (bundled if bundled.is_dir() else fetch_model(entry)), entry, True
    record = _record_of(request)
    if record is not None and record.get("job") in TRAININGS:
        if request.about is None:
            raise ConfigError(f"{folder} is a training run, which does not know its license", "pass --about FILE.toml")
        write_card(folder, folder / "card", request.about, plugins=plugins, overrides=request.overrides)
        return folder / "card", None, False
    if request.overrides:
        raise ConfigError(f"--set was given, but {folder} is not a training run", "leave out --set")
    if folder.is_dir() and not is_model_folder(folder):
        raise ConfigError(f"{folder} is neither a finished training run nor a card folder", "see `medzoo push --help`")
    if not folder.is_dir():
        registry.model(request.given)  # which knows the nearest spelling
    return folder, None, False


def _record_of(request: Request) -> dict[str, Any] | None:
    folder = Path(request.given)
    return read_run(folder) if folder.is_dir() else None


def _pins(entry: ModelEntry | None, folder: Path) -> bool:
    """Return whether the entry names exactly the card text in the folder, which then must not be completed."""
    readme = folder / README
    named = {file.name: file.sha256 for file in entry.files} if entry is not None else {}
    return readme.is_file() and named.get(README) == sha256_file(readme)


def _readme(folder: Path, description: Mapping[str, Any], *, notes: Mapping[str, Any], pinned: bool) -> str:
    """Return the text of the card; if no entry pins it, with what its front matter lacks."""
    try:
        text = (folder / README).read_text("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise DataError(f"{folder / README} is not UTF-8", "write the card again with `medzoo card`") from None
    if pinned:
        return text
    dataset = str(description["data"].get("name", ""))
    model_id = str(description.get("id", ""))
    try:
        plugin, task = description["plugin"], form_of(description).task
        return complete_card(text, task, model=model_id, plugin=plugin, dataset=dataset, notes=notes)
    except ValueError:
        return text  # its front matter is reported with the other problems


def _entry(request: Request, folder: Path, previous: ModelEntry | None, *, plugins: Plugins) -> dict[str, Any]:
    """Return the registry values that describe the model: by `about`, or else by the `previous` entry."""
    model = load_published(folder, plugins=plugins)
    if request.about is not None:
        values = entry_values(request.about, model, folder)
    else:
        values = {key: getattr(previous, key) for key in KEYS["model"]}
        values["kind"] = "" if values["kind"] == GENERATOR else values["kind"]  # the default
    version = request.version or values.get("version", 1)
    # Without a version, an entry in another file counts as the newest.
    number = version if version > 1 or not (previous is None or previous.newest) else None
    return {**values, "version": number, "parameters": count_parameters(model.model)}


def _bases(registry: Registry, model_id: str, repo: str, folder: Path) -> tuple[str, ...]:
    """Return commits of `repo` that this folder was published as, by the registry and the folder's own record."""
    commits = [entry.revision for entry in registry.entries if (entry.id, entry.repo) == (model_id, repo)]
    commits = [commit for commit in commits if commit]
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        if record["repo"] == repo:
            commits.append(str(record["commit"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / RECORD} is damaged", "remove it") from None
    return tuple(commits)
