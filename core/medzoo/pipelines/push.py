"""Publish a model on the Hub: its card folder checked whole, then one commit, its tag and its registry row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, DataError, HubError
from medzoo.files import sha256_file, write_atomic, write_json_atomic
from medzoo.hub import fetch_model
from medzoo.pipelines.card import CARD_FILES, README, About, parameters, row_values, write_card
from medzoo.pipelines.card_checks import RECORD, Card, problems
from medzoo.pipelines.copy_check import CopyCheck, with_warning
from medzoo.pipelines.front_matter import completed
from medzoo.pipelines.hub_upload import Remote, Repository, Uploaded
from medzoo.pipelines.models import load_model, read_description
from medzoo.places import bundled_root
from medzoo.plugins import Plugins
from medzoo.provenance import read_run
from medzoo.registry import CONFIG, FileRow, Registry, Row, is_model_folder
from medzoo.rows import KEYS

Notice = Callable[[str], None]


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
    overrides: tuple[str, ...] = ()
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


@dataclass(frozen=True, kw_only=True)
class Published:
    """A package on the Hub: the commit that holds it, what had to be sent, and its row with repo and commit."""

    package: Package
    commit: str
    sent: tuple[str, ...]
    row: Mapping[str, Any]


def prepare(request: Request, *, registry: Registry, plugins: Plugins, notice: Notice) -> Package:
    """The package of a model that may be published; nothing is sent. A training run gets its card folder first.

    Raises:
        DataError: it may not be published, with every reason and its mend.
        ConfigError: no model, no repository, or no facts about it are named.
    """
    folder, row, pinned = _source(request, registry=registry, plugins=plugins, notice=notice)
    description = read_description(folder)
    model_id = str(description.get("id", "")) or folder.resolve().name
    if row is None:
        row = _row_of(registry, model_id, request.version)
    pinned = pinned or _pins(row, folder)
    notes = _notes(_record_of(request) or description)
    readme = _readme(folder, description, notes=notes, pinned=pinned)
    card = Card(
        folder=folder,
        readme=readme,
        description=description,
        notes=notes,
        row=row,
        pinned=pinned,
        license=request.about.license if request.about is not None else row.license if row is not None else "",
    )
    found = problems(card, plugins=plugins, accept_memorisation=request.accept_memorisation)
    if found:
        lines = "".join(f"\n  - {problem}" for problem in found)
        raise DataError(f"{model_id} ({folder}) is not fit to be published:{lines}")
    check = CopyCheck.of(notes)
    if check is not None and check.failed:
        readme = with_warning(readme, check)
    files = {name: (folder / name).read_bytes() for name in CARD_FILES} | {README: readme.encode()}
    repo = _repo(request, model_id, row)
    return Package(
        id=model_id,
        folder=folder,
        repo=repo,
        files=files,
        row=_new_row(request, folder, row, repo, files, plugins=plugins, registry=registry, model_id=model_id),
        bases=_bases(registry, model_id, repo, folder),
        version=request.version,
        pinned=pinned,
    )


def publish(package: Package, *, create: bool, private: bool, force: bool) -> Published:
    """The package on the Hub, in one commit, or in none where it is there already; tagged if it has a version.

    Raises:
        HubError: the Hub cannot be reached or refuses, or holds a newer card and `force` is false.
    """
    repository = Repository(package.repo)
    remote = _remote(repository, package, create=create, private=private)
    tagged = remote.tags.get(package.tag)
    _refuse_newer(repository, remote, package, force=force)
    changed = any(remote.lacks(name, data) for name, data in package.files.items())
    if tagged and (changed or tagged != remote.commit):
        raise HubError(
            f"{package.repo} has {package.tag} already, and it is another commit", "give the next number to --version"
        )
    if (package.folder / README).read_bytes() != package.files[README]:
        write_atomic(package.folder / README, package.files[README])
    title = f"Publish {package.id}" + (f" {package.tag}" if package.tag else "")
    done: Uploaded = repository.commit(package.files, onto=remote, message=title)
    if package.tag and not tagged:
        repository.tag(package.tag, done.commit)
    if not package.pinned:
        write_json_atomic(package.folder / RECORD, {"repo": package.repo, "commit": done.commit})
    row = {**package.row, "repo": package.repo, "revision": done.commit}
    return Published(package=package, commit=done.commit, sent=done.sent, row=row)


def bundled_models(registry: Registry) -> tuple[Row, ...]:
    """Rows of the models whose cards came with medzoo."""
    return tuple(row for row in registry.rows if (bundled_root() / "cards" / row.folder / CONFIG).is_file())


def _source(request: Request, *, registry: Registry, plugins: Plugins, notice: Notice) -> tuple[Path, Row | None, bool]:
    """The card folder, its registry row where the model's id was given, and whether that row pins its files."""
    folder = Path(request.given)
    if request.given in registry.models:
        if is_model_folder(folder):
            raise ConfigError(
                f"'{request.given}' is both a folder here and a name in the catalogue",
                f"write ./{request.given} for the folder",
            )
        row = registry.model(request.given)
        bundled = bundled_root() / "cards" / row.folder
        return (bundled if bundled.is_dir() else fetch_model(row, notice=notice)), row, True
    record = _record_of(request)
    if record is not None and record.get("job") == "train":
        if request.about is None:
            raise ConfigError(f"{folder} is a training run, and no run knows its licence", "--about FILE.toml")
        write_card(folder, folder / "card", request.about, plugins=plugins, overrides=request.overrides)
        return folder / "card", None, False
    if request.overrides:
        raise ConfigError("--set changes what a training run is published with", f"{folder} is none: leave it out")
    if not is_model_folder(folder):
        registry.model(request.given)  # a name with its nearest spelling
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


def _row_of(registry: Registry, model_id: str, version: int | None) -> Row | None:
    if version is not None:
        return registry.models.get(f"{model_id}@v{version}")
    return registry.models.get(model_id)


def _pins(row: Row | None, folder: Path) -> bool:
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
        return completed(text, model=model_id, plugin=description["plugin"], dataset=dataset, notes=notes)
    except ValueError:
        return text  # its front matter is told of with everything else


def _repo(request: Request, model_id: str, row: Row | None) -> str:
    """Where to: what the request says, or else what the row or the facts about the model say. Raises: ConfigError."""
    named = request.repo or (f"{request.org}/{model_id}" if request.org else "")
    repo = named or (row.repo if row is not None else "") or (request.about.repo if request.about else "")
    if not repo:
        raise ConfigError(f"nothing says where '{model_id}' goes", "--repo ORG/NAME, or --org ORG")
    return repo


def _new_row(
    request: Request,
    folder: Path,
    row: Row | None,
    repo: str,
    files: Mapping[str, bytes],
    *,
    plugins: Plugins,
    registry: Registry,
    model_id: str,
) -> dict[str, Any]:
    """The registry row of the package, without its commit. Raises: ConfigError where nobody told its facts."""
    before = row or registry.models.get(model_id)
    model = load_model(folder, plugins=plugins, device="cpu")
    if request.about is not None:
        values = row_values(request.about, model, folder)
    elif before is not None:
        values = {field.name: getattr(before, field.name) for field in fields(before) if field.name in KEYS["model"]}
    else:
        raise ConfigError(f"no registry row tells of '{model_id}'", "--about FILE.toml, as `medzoo card` takes it")
    version = request.version or values.get("version", 1)
    listed = [
        asdict(FileRow(name=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)))
        for name, data in files.items()
    ]
    # Without a version, a row of another file speaks of the newest.
    number = version if version > 1 or not (before is None or before.newest) else None
    facts = {"repo": repo, "version": number, "parameters": parameters(model)}
    return {**values, **facts, "files": listed}


def _bases(registry: Registry, model_id: str, repo: str, folder: Path) -> tuple[str, ...]:
    """Commits of `repo` that this folder is known to have been: by the registry, and by the folder's own record."""
    commits = [row.revision for row in registry.rows if row.id == model_id and row.repo == repo and row.revision]
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        if record["repo"] == repo:
            commits.append(str(record["commit"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / RECORD} is damaged", "remove it") from None
    return tuple(commits)


def _remote(repository: Repository, package: Package, *, create: bool, private: bool) -> Remote:
    """The repository as it stands, made first if asked. Raises: HubError."""
    remote = repository.look()
    if remote is None and create:
        repository.create(private=private)
        remote = repository.look()
    elif remote is not None and private and not remote.private:
        raise HubError(f"{package.repo} is there already, and public", "make it private on the Hub, or leave --private")
    if remote is None:
        raise HubError(f"there is no {package.repo} that this token may see", "create it with --create")
    return remote


def _refuse_newer(repository: Repository, remote: Remote, package: Package, *, force: bool) -> None:
    """Nothing. Raises: HubError for a card on the Hub that this folder never was, which thus may be a newer one."""
    there = remote.files.get(README)
    if force or there is None or not remote.lacks(README, package.files[README]):
        return
    if not there & repository.readme_ids(package.bases):
        raise HubError(
            f"{package.repo} holds another {README} (commit {remote.commit}) than this folder was published as",
            "look at what changed there; --force puts this one over it",
        )
