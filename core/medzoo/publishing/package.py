"""A model made ready for the Hub: its card folder checked whole, and the registry row it will have."""

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
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.card import README, TRAININGS, About, form_of, load_published, parameters, row_values, write_card
from medzoo.publishing.checks import RECORD, Card, problems
from medzoo.runs.record import read_run
from medzoo.storage.files import sha256_file
from medzoo.storage.paths import bundled_root


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to publish and where. `given` is a model's id, a training run or a card folder.

    `repo` is ORG/NAME; without it, `org` and the model's id, or the repository its registry row or `about` names.
    `version` numbers the row and tags the commit; None leaves both as they are.
    """

    given: str
    repo: str = ""
    org: str = ""
    about: About | None = None
    overrides: Mapping[str, Any] | None = None
    version: int | None = None
    accept_memorisation: bool = False


@dataclass(frozen=True, kw_only=True)
class Package:
    """What a push would send: `files` under their names, to `repo`. `row` is the registry row, without its commit.

    `bases` are the commits this folder is known to have been published as.
    """

    id: str
    folder: Path
    repo: str
    files: Mapping[str, bytes]
    row: Mapping[str, Any]
    bases: tuple[str, ...]
    version: int | None
    pinned: bool

    @property
    def tag(self) -> str:
        """The tag of the commit, "" for none."""
        return f"v{self.version}" if self.version else ""


def prepare(request: Request, *, registry: Registry, plugins: Plugins) -> Package:
    """The package of a model that may be published; nothing is sent. A training run gets its card folder first.

    Raises:
        DataError: it may not be published, with every reason and its mend.
        ConfigError: no model, no repository, or no facts about it are named.
    """
    folder, row, pinned = _source(request, registry=registry, plugins=plugins)
    description = read_description(folder)
    model_id = str(description.get("id", "")) or folder.resolve().name
    row = row or _row_of(registry, model_id, request.version)
    before = row or registry.models.get(model_id)
    if request.about is None and before is None:
        raise ConfigError(f"no registry row tells of '{model_id}'", "--about FILE.toml, as `medzoo card` takes it")
    repo = _repo(request, model_id, row)
    pinned = pinned or _pins(row, folder)
    notes = _notes(_record_of(request) or description)
    card = Card(
        folder=folder,
        readme=_readme(folder, description, notes=notes, pinned=pinned),
        description=description,
        notes=notes,
        row=row,
        pinned=pinned,
        license=request.about.license if request.about is not None else row.license if row is not None else "",
    )
    files = _checked_files(card, model_id, plugins=plugins, accept_memorisation=request.accept_memorisation)
    return Package(
        id=model_id,
        folder=folder,
        repo=repo,
        files=files,
        row={**_facts(request, folder, before, plugins=plugins), "repo": repo, "files": _listed(files)},
        bases=_bases(registry, model_id, repo, folder),
        version=request.version,
        pinned=pinned,
    )


def bundled_models(registry: Registry) -> tuple[ModelEntry, ...]:
    """Rows of the models whose cards came with medzoo."""
    return tuple(row for row in registry.entries if (bundled_root() / "cards" / row.folder / CONFIG).is_file())


def _source(request: Request, *, registry: Registry, plugins: Plugins) -> tuple[Path, ModelEntry | None, bool]:
    """The card folder, its registry row where the model's id was given, and whether that row pins its files."""
    folder = Path(request.given)
    if request.given in registry.models:
        if is_model_folder(folder):
            raise ConfigError(
                f"'{request.given}' is both a folder here and a name in the catalogue",
                f"write ./{request.given} for the folder",
            )
        row = registry.model(request.given)
        if request.version not in (None, row.version):
            raise ConfigError(
                f"'{request.given}' is version {row.version}",
                f"--version v{row.version}, or push the newer one's folder",
            )
        bundled = bundled_root() / "cards" / row.folder
        return (bundled if bundled.is_dir() else fetch_model(row)), row, True
    record = _record_of(request)
    if record is not None and record.get("job") in TRAININGS:
        if request.about is None:
            raise ConfigError(f"{folder} is a training run, and no run knows its license", "--about FILE.toml")
        write_card(folder, folder / "card", request.about, plugins=plugins, overrides=request.overrides)
        return folder / "card", None, False
    if request.overrides:
        raise ConfigError("--set changes what a training run is published with", f"{folder} is none: leave it out")
    if folder.is_dir() and not is_model_folder(folder):
        raise ConfigError(f"{folder} is neither a finished training run nor a card folder", "see `medzoo push --help`")
    if not folder.is_dir():
        registry.model(request.given)  # which knows the nearest spelling
    return folder, None, False


def _record_of(request: Request) -> dict[str, Any] | None:
    folder = Path(request.given)
    return read_run(folder) if folder.is_dir() else None


def _notes(stated: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the training measured, by its record or by config.json. Raises: DataError."""
    notes = stated.get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(facts, dict) for facts in notes.values()):
        raise DataError("the notes of the training are no table of tables", "write the card again with `medzoo card`")
    return notes


def _row_of(registry: Registry, model_id: str, version: int | None) -> ModelEntry | None:
    if version is not None:
        return registry.models.get(f"{model_id}@v{version}")
    return registry.models.get(model_id)


def _pins(row: ModelEntry | None, folder: Path) -> bool:
    """Whether the row names exactly the card text that is there, which is then not to be completed."""
    readme = folder / README
    named = {file.name: file.sha256 for file in row.files} if row is not None else {}
    return readme.is_file() and named.get(README) == sha256_file(readme)


def _readme(folder: Path, description: Mapping[str, Any], *, notes: Mapping[str, Any], pinned: bool) -> str:
    """The text of the card; where no row pins it, with what its front matter lacked."""
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
        return text  # its front matter is told of with everything else


def _repo(request: Request, model_id: str, row: ModelEntry | None) -> str:
    """Where to: what the request says, or else what the row or the facts about the model say. Raises: ConfigError."""
    named = request.repo or (f"{request.org}/{model_id}" if request.org else "")
    repo = named or (row.repo if row is not None else "") or (request.about.repo if request.about else "")
    if not repo:
        raise ConfigError(f"nothing says where '{model_id}' goes", "--repo ORG/NAME, or --org ORG")
    return repo


def _checked_files(card: Card, model_id: str, *, plugins: Plugins, accept_memorisation: bool) -> dict[str, bytes]:
    """The files to be sent, the card with its warning if one is due. Raises: DataError."""
    found = problems(card, plugins=plugins, accept_memorisation=accept_memorisation)
    if found:
        lines = "".join(f"\n  - {problem}" for problem in found)
        raise DataError(f"{model_id} ({card.folder}) is not fit to be published:{lines}")
    check = CopyCheck.of(card.notes)
    readme = with_warning(card.readme, check) if check is not None and check.failed else card.readme
    return {name: (card.folder / name).read_bytes() for name in card.form.files} | {README: readme.encode()}


def _facts(request: Request, folder: Path, before: ModelEntry | None, *, plugins: Plugins) -> dict[str, Any]:
    """The values of the registry row that say what the model is: by `about`, or else by the row there is."""
    model = load_published(folder, plugins=plugins)
    if request.about is not None:
        values = row_values(request.about, model, folder)
    else:
        values = {key: getattr(before, key) for key in KEYS["model"]}
        values["kind"] = "" if values["kind"] == GENERATOR else values["kind"]  # which goes without saying
    version = request.version or values.get("version", 1)
    # Without a version, a row of another file speaks of the newest.
    number = version if version > 1 or not (before is None or before.newest) else None
    return {**values, "version": number, "parameters": parameters(model)}


def _listed(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Name, hash and size of each file, as a row lists them."""
    return [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
    ]


def _bases(registry: Registry, model_id: str, repo: str, folder: Path) -> tuple[str, ...]:
    """Commits of `repo` that this folder is known to have been: by the registry, and by the folder's own record."""
    commits = [row.revision for row in registry.entries if row.id == model_id and row.repo == repo and row.revision]
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        if record["repo"] == repo:
            commits.append(str(record["commit"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / RECORD} is damaged", "remove it") from None
    return tuple(commits)
