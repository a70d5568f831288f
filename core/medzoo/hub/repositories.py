"""Models named by their place on the Hub, `hf:org/name[@revision]`: looked up once, then pinned to that commit."""

from __future__ import annotations

import json
import re
import shutil
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, HubError, IntegrityError
from medzoo.hub.download import (
    Progress,
    Wanted,
    announcing,
    download,
    folder_lock,
    hub_origin,
    in_parallel,
    mark_used,
)
from medzoo.hub.entries import CONFIG, NAME, WEIGHTS
from medzoo.hub.network import ask
from medzoo.storage.files import disk_errors, sha256_file, write_json_atomic
from medzoo.storage.paths import cache_root

TAKEN = (WEIGHTS, CONFIG, "README.md", "samples.png")
"""All that is ever downloaded of a repository: weights, their description, and the card."""
PULLED = ".pulled.json"
"""Beside a repository's files: where they came from; there only when all of them are."""

_NO_MODEL = "`medzoo list` shows models; medzoo reads no other format"
_REFERENCE = re.compile(rf"hf:(?P<repo>{NAME.pattern}/{NAME.pattern})(@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{12,40}")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A repository of the Hub, and a branch, tag or commit there."""

    repo: str
    revision: str

    def folder(self, commit: str) -> Path:
        """Where the cache keeps that commit's files."""
        return cache_root() / "repos" / f"{self.repo}@{commit[:12]}"

    @property
    def pins(self) -> Path:
        """The file that says which commit each revision of the repository stood for when it was looked up."""
        return cache_root() / "repos" / f"{self.repo}.json"

    def pinned(self) -> str | None:
        """The commit this revision is or is pinned to, or None; its first digits are enough. Raises: IntegrityError."""
        return self.revision if _COMMIT.fullmatch(self.revision) else read_pins(self.pins).get(self.revision)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A commit of a repository and the files of it that are taken."""

    commit: str
    files: tuple[Wanted, ...]


def is_reference(given: str) -> bool:
    """Whether `given` names a place on the Hub."""
    return given.startswith("hf:")


def check_source(given: str, source: str | None) -> None:
    """Nothing. Raises: ConfigError if `given` is a place on the Hub, and `source` (--from) is another place."""
    if is_reference(given) and source not in (None, "hub"):
        raise ConfigError(f"'{given}' comes from the Hub and not from {source}", "leave out --from")


def parse_reference(given: str) -> Reference:
    """The repository and revision that `hf:org/name[@revision]` names. Raises: ConfigError."""
    match = _REFERENCE.fullmatch(given)
    if match is None:
        raise ConfigError(f"'{given}' is no place on the Hub", "write hf:org/name or hf:org/name@revision")
    return Reference(repo=match["repo"], revision=match["revision"] or "main")


def fetch_repo(
    given: str,
    *,
    refresh: bool = False,
    progress: Progress | None = None,
) -> Path:
    """A folder in the cache that holds the model of `hf:org/name[@revision]`.

    A branch or tag means the commit it was at when it was first looked up; `refresh` looks again, and checks every
    file. Never is an older commit taken because a newer one cannot be had.

    Raises: ConfigError, HubError, IntegrityError, ResourceError.
    """
    reference = parse_reference(given)
    pinned = reference.pinned()
    if pinned is not None and not refresh and _is_whole(reference.folder(pinned)):
        folder = reference.folder(pinned)
    else:
        snapshot = _look_up(reference, reference.revision if refresh or pinned is None else pinned)
        folder = reference.folder(snapshot.commit)
        with folder_lock(folder):
            _fill(folder, reference.repo, snapshot, progress or announcing())
        if snapshot.commit != reference.revision:
            with folder_lock(reference.pins):
                write_json_atomic(reference.pins, {**read_pins(reference.pins), reference.revision: snapshot.commit})
    mark_used(folder)
    return folder


def read_pulled(folder: Path) -> dict[str, Any]:
    """What the cache keeps beside a repository's files: `repo` and `revision`, the commit."""
    pulled: dict[str, Any] = json.loads((folder / PULLED).read_text("utf-8"))
    return pulled


def _look_up(reference: Reference, revision: str) -> Snapshot:
    """What the Hub has at `revision`. Raises: HubError, also for a repository that holds no model."""
    from huggingface_hub import HfApi, constants

    what = f"{reference.repo} at {revision}"
    api = HfApi(library_name="medzoo")
    info = ask(
        what,
        lambda: api.model_info(
            reference.repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        ),
    )
    files = tuple(_wanted(file) for file in info.siblings or () if file.rfilename in TAKEN)
    if lacking := {WEIGHTS, CONFIG} - {file.name for file in files}:
        raise HubError(f"{what} holds no model of medzoo: it has no {' and no '.join(sorted(lacking))}", _NO_MODEL)
    return Snapshot(commit=str(info.sha), files=files)


def _wanted(file: Any) -> Wanted:
    """A file as the Hub describes it: large ones by SHA-256, others by git's hash."""
    if file.lfs is not None:
        return Wanted(name=file.rfilename, bytes=file.lfs.size, digest=file.lfs.sha256)
    return Wanted(name=file.rfilename, bytes=file.size, digest=file.blob_id, kind="git")


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (PULLED, WEIGHTS, CONFIG))


def _fill(folder: Path, repo: str, snapshot: Snapshot, progress: Progress) -> None:
    """Nothing; `folder` holds every file, sound and of one model; the description first, for it may be another's."""
    jobs = {file.name: partial(_take, folder, repo, snapshot.commit, file, progress) for file in snapshot.files}
    in_parallel([jobs.pop(CONFIG)])
    what = f"{repo} at {snapshot.commit[:12]}"
    stated = _stated_weights(folder / CONFIG)
    if stated is None:
        _discard(folder)
        message = f"{what} holds no model of medzoo: its {CONFIG} names no plugin and no weights_sha256"
        raise HubError(message, _NO_MODEL)
    in_parallel(jobs.values())
    if (found := sha256_file(folder / WEIGHTS)) != stated:
        _discard(folder)
        message = f"{what}: the sha256 of {WEIGHTS} is {found}, {CONFIG} says {stated}"
        raise IntegrityError(message, "its two files are not of one model; tell whoever published it")
    write_json_atomic(folder / PULLED, {"repo": repo, "revision": snapshot.commit})


def _discard(folder: Path) -> None:
    with disk_errors(folder):
        shutil.rmtree(folder)


def _take(folder: Path, repo: str, commit: str, wanted: Wanted, progress: Progress, stop: threading.Event) -> None:
    """Nothing; `folder` holds the file, downloaded unless it was there and sound."""
    target = folder / wanted.name
    if not wanted.is_at(target):
        download(hub_origin(repo, commit, wanted.name), wanted, target, stop=stop, progress=progress)


def _stated_weights(path: Path) -> str | None:
    """The weights' SHA-256 that a description states, or None for one that is not medzoo's."""
    try:
        description = json.loads(path.read_text("utf-8"))
    except ValueError:
        return None
    stated = description if isinstance(description, dict) else {}
    weights = stated.get("weights_sha256")
    return weights if isinstance(weights, str) and isinstance(stated.get("plugin"), str) else None


def read_pins(path: Path) -> dict[str, str]:
    """The commit each revision of a repository is pinned to. Raises: IntegrityError."""
    try:
        pins = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        pins = None
    if not isinstance(pins, dict) or not all(isinstance(commit, str) for commit in pins.values()):
        raise IntegrityError(f"{path} is damaged", "delete it, and pull again")
    return pins
