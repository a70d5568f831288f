"""Models named by their repository on the Hub, `hf:org/name[@revision]`, and pinned to the commit first found there."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import ConfigError, HubError, IntegrityError
from medzoo.hub.download import download, folder_lock, hub_location, mark_used
from medzoo.hub.entries import COMMIT, CONFIG, SHA256, WEIGHTS, FileEntry, is_repo
from medzoo.hub.network import check_network_settings, retry, unexpected_response
from medzoo.runs.progress import Progress
from medzoo.storage.files import disk_errors, is_regular_file, read_json, sha256_file, write_json_atomic
from medzoo.storage.paths import cache_path

DOWNLOADED = (WEIGHTS, CONFIG, "README.md", "samples.png")
"""All that is ever downloaded from a repository: the weights, their description, and the card."""
PULLED = ".pulled.json"
"""Beside a repository's files: where they came from; written when all of them are there."""

_OTHER_FORMAT = "see `medzoo list` for models; other formats cannot be read"
_REFERENCE = re.compile(r"hf:(?P<repo>[^@]+)(@(?P<revision>[^@\s~^:?*\\[]+))?")
_COMMIT = re.compile(r"[0-9a-f]{12,40}")
# Far more than the description, card and picture of a model ever have, in bytes.
_LARGEST = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A repository on the Hub, and a branch, tag or commit there."""

    repo: str
    revision: str

    def folder(self, commit: str) -> Path:
        """Return where the cache keeps the files of that commit. Raises: ResourceError if a link leads out of it."""
        return cache_path("repos", f"{self.repo}@{commit[:12]}")

    @property
    def pins(self) -> Path:
        """The file that maps each revision of the repository to the commit it stood for when it was looked up."""
        return cache_path("repos", f"{self.repo}.json")

    def pinned(self) -> str | None:
        """Return the commit (or its first digits) that this revision is or is pinned to. Raises: IntegrityError."""
        return self.revision if _COMMIT.fullmatch(self.revision) else read_pins(self.pins).get(self.revision)


def is_reference(name: str) -> bool:
    """Return whether `name` stands for a repository on the Hub."""
    return name.startswith("hf:")


def check_source(name: str, source: str | None) -> None:
    """Check that a repository on the Hub is not asked of another source (--from). Raises: ConfigError."""
    if is_reference(name) and source not in (None, "hub"):
        raise ConfigError(f"'{name}' is on the Hub, not in {source}", "leave out --from")


def parse_reference(name: str) -> Reference:
    """Parse `hf:org/name[@revision]`; without a revision it is the branch "main". Raises: ConfigError."""
    match = _REFERENCE.fullmatch(name)
    revision = (match and match["revision"]) or ""
    if match is None or not is_repo(match["repo"]) or ".." in revision or not revision.isprintable():
        raise ConfigError(f"'{name}' is not a repository on the Hub", "write hf:org/name or hf:org/name@revision")
    return Reference(repo=match["repo"], revision=revision or "main")


def fetch_repo(name: str, *, refresh: bool = False, progress: Progress | None = None) -> Path:
    """Return a folder in the cache that holds the model of `hf:org/name[@revision]`, downloaded if necessary.

    A branch or tag stands for the commit it was at when it was first looked up; `refresh` looks it up again, and checks
    every file. An older commit is never returned because a newer one cannot be downloaded.

    Raises: ConfigError, HubError, IntegrityError, ResourceError.
    """
    reference = parse_reference(name)
    pinned = reference.pinned()
    if pinned is not None and not refresh:
        folder = reference.folder(pinned)
        if all(is_regular_file(folder / file) for file in (PULLED, WEIGHTS, CONFIG)):
            mark_used(folder)
            return folder
    commit, files = _look_up(reference.repo, reference.revision if refresh or pinned is None else pinned)
    folder = reference.folder(commit)
    with folder_lock(folder):
        _download_all(folder, reference.repo, commit, files, progress)
    if commit != reference.revision:
        with folder_lock(reference.pins):
            write_json_atomic(reference.pins, {**read_pins(reference.pins), reference.revision: commit})
    mark_used(folder)
    return folder


def read_pulled(folder: Path) -> dict[str, Any]:
    """Read where the files in `folder` came from: `repo`, and the commit as `revision`. Raises: IntegrityError."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        pulled: dict[str, Any] = read_json(folder / PULLED)
        if is_repo(pulled["repo"]) and COMMIT.fullmatch(pulled["revision"]):
            return pulled
    raise IntegrityError(f"{folder / PULLED} is corrupt", "delete that folder, and pull again")


def read_pins(path: Path) -> dict[str, str]:
    """Read the commit that each revision of a repository is pinned to. Raises: IntegrityError."""
    try:
        pins = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError:
        pins = None
    if not isinstance(pins, dict) or not all(COMMIT.fullmatch(str(commit)) for commit in pins.values()):
        raise IntegrityError(f"{path} is corrupt", "delete it, and pull again")
    return pins


def _look_up(repo: str, revision: str) -> tuple[str, dict[str, FileEntry]]:
    """Ask the Hub for the commit at `revision` and its files.

    Raises: HubError, also for one that holds no model, and for an answer that is not one of the Hub.
    """
    check_network_settings()
    from huggingface_hub import HfApi, constants

    what, api = f"{repo} at {revision}", HfApi(library_name="medzoo")
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    try:
        info = retry(what, lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=timeout))
        commit, siblings = str(info.sha), [file for file in info.siblings or () if file.rfilename in DOWNLOADED]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unexpected_response(
            what, f"it is not the description of a repository ({type(error).__name__})"
        ) from error
    if not COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and not commit.startswith(revision)):
        raise unexpected_response(what, f"'{commit[:60]}' is not its commit")
    if missing := {WEIGHTS, CONFIG} - {file.rfilename for file in siblings}:
        raise HubError(f"{what} is not a medzoo model: it has no {' and no '.join(sorted(missing))}", _OTHER_FORMAT)
    files = {file.rfilename: _file_entry(file, what) for file in siblings}
    return commit, files


def _file_entry(file: Any, what: str) -> FileEntry:
    """Describe a file of the Hub, which states the SHA-256 of large ones, and git's hash of others.

    Raises: HubError for values that are not a hash and a size.
    """
    large = file.lfs is not None
    size, digest = (file.lfs.size, file.lfs.sha256) if large else (file.size, file.blob_id)
    most = _LARGEST if file.rfilename != WEIGHTS else sys.maxsize
    if not (SHA256 if large else COMMIT).fullmatch(str(digest)) or type(size) is not int or not 0 < size <= most:
        raise unexpected_response(what, f"the hash or size of {file.rfilename} is invalid")
    return FileEntry(name=file.rfilename, bytes=size, sha256=digest if large else "", git_sha1="" if large else digest)


def _download_all(folder: Path, repo: str, commit: str, files: dict[str, FileEntry], progress: Progress | None) -> None:
    """Download the files that `folder` lacks, config.json first, because the repository may not hold a medzoo model."""
    what = f"{repo} at {commit[:12]}"
    stated = ""
    for name in sorted(files, key=lambda name: name != CONFIG):
        if not is_regular_file(folder / name) or not files[name].matches(folder / name):
            download(hub_location(repo, commit, name), files[name], folder / name, progress=progress)
        if name == CONFIG and not (stated := _weights_sha256(folder / CONFIG)):
            _discard(folder)
            message = f"{what} is not a medzoo model: its {CONFIG} names no plugin and no weights_sha256"
            raise HubError(message, _OTHER_FORMAT)
    if (found := sha256_file(folder / WEIGHTS)) != stated:
        _discard(folder)
        message = f"{what}: the sha256 of {WEIGHTS} is {found}, {CONFIG} says {stated}"
        raise IntegrityError(message, "the two files belong to different models; report it to the publisher")
    write_json_atomic(folder / PULLED, {"repo": repo, "revision": commit})


def _weights_sha256(path: Path) -> str:
    """Read the weights' SHA-256 from a config.json, "" if it is not one of medzoo."""
    try:
        description = read_json(path)
    except ValueError:
        return ""
    if not isinstance(description, dict) or not isinstance(description.get("plugin"), str):
        return ""
    sha256 = str(description.get("weights_sha256", ""))
    return sha256 if SHA256.fullmatch(sha256) else ""


def _discard(folder: Path) -> None:
    with disk_errors(folder):
        shutil.rmtree(folder)
