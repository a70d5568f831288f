"""Commit the changed files of a model or dataset to the Hub, and turn its errors into ones that say what to do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medzoo._version import __version__
from medzoo.errors import ConfigError, DataError, HubError
from medzoo.hub.entries import COMMIT
from medzoo.hub.network import check_network_settings
from medzoo.storage.files import read_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README = "README.md"
RECORD = ".medzoo-published.json"
"""Where a folder that no registry entry pins keeps the commit it was published as; never sent."""

Kind = Literal["model", "dataset"]
_LOGIN = "run `hf auth login`, or set HF_TOKEN to a token with write access (https://huggingface.co/settings/tokens)"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The state of a repository: its newest commit, and each file's ids there (git's and, for large ones, SHA-256)."""

    commit: str | None
    private: bool
    files: Mapping[str, frozenset[str]]
    tags: Mapping[str, str]

    def lacks(self, name: str, data: bytes) -> bool:
        """Return whether the repository holds no file with this name and content."""
        return not blob_ids(data) & self.files.get(name, frozenset())


class Repository:
    """A repository of a model or dataset on the Hub, by the HF_ENDPOINT and HF_TOKEN at the time this is created.

    Raises:
        HubError: there is no token, or a network setting cannot be used.
    """

    def __init__(self, repo: str, *, kind: Kind = "model") -> None:
        check_network_settings()
        from huggingface_hub import HfApi, get_token

        self.repo, self._kind = repo, kind
        self._token = get_token()
        if not self._token:
            raise HubError("uploading requires a token", _LOGIN)
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        self._api: HfApi = HfApi(
            endpoint=endpoint, token=self._token, library_name="medzoo", library_version=__version__
        )

    def read(self) -> Remote | None:
        """Read the state of the repository; None if this token cannot see one. Raises: HubError."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._errors():
            try:
                info = self._api.repo_info(self.repo, repo_type=self._kind)
            except RepositoryNotFoundError as error:
                if error.response.status_code != HTTPStatus.NOT_FOUND:
                    raise  # the token was refused, which says nothing about the repository
                return None
            if info.sha:
                self._check_commit(info.sha)
            # A model has no folders, and a dataset's are read with what they hold.
            listed = (
                self._api.list_repo_tree(self.repo, revision=info.sha, recursive=True, repo_type=self._kind)
                if info.sha
                else ()
            )
            entries = [entry for entry in listed if isinstance(entry, RepoFile)]
            refs = self._api.list_repo_refs(self.repo, repo_type=self._kind)
            tags = {tag.name: tag.target_commit for tag in refs.tags}
        return Remote(
            commit=info.sha,
            private=bool(info.private),
            files={entry.path: _ids(entry) for entry in entries},
            tags=tags,
        )

    def create(self, *, private: bool) -> None:
        """Create the repository, empty. Raises: HubError."""
        with self._errors():
            self._api.create_repo(self.repo, private=private, repo_type=self._kind)

    def readme_ids(self, commits: Sequence[str]) -> frozenset[str]:
        """Return the ids of README.md in those of the commits that exist. Raises: HubError."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RevisionNotFoundError

        found: set[str] = set()
        with self._errors():
            for commit in commits:
                try:
                    entries = self._api.get_paths_info(self.repo, [README], revision=commit, repo_type=self._kind)
                except RevisionNotFoundError:
                    continue
                found |= {key for entry in entries if isinstance(entry, RepoFile) for key in _ids(entry)}
        return frozenset(found)

    def commit(
        self, files: Mapping[str, bytes], *, onto: Remote, message: str, replaced: Sequence[str] = ()
    ) -> tuple[str, tuple[str, ...]]:
        """Commit the changed files on top of `onto`; make no commit if nothing changed.

        Files there in one of the folders `replaced` that are not among `files` are deleted. Return the commit that
        holds all files, and the names of those that were sent.

        Raises:
            HubError: the Hub refuses, or there is a newer commit than `onto`.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        changed = {name: data for name, data in files.items() if onto.lacks(name, data)}
        gone = [name for name in onto.files if name.startswith(tuple(f"{each}/" for each in replaced))]
        gone = sorted(set(gone) - set(files))
        if not changed and not gone and onto.commit:
            return onto.commit, ()
        with self._errors():
            done = self._api.create_commit(
                self.repo,
                [
                    *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in changed.items()),
                    *(CommitOperationDelete(path_in_repo=name) for name in gone),
                ],
                commit_message=message,
                parent_commit=onto.commit,
                repo_type=self._kind,
            )
        self._check_commit(done.oid)
        return done.oid, tuple(changed)

    def _check_commit(self, commit: object) -> None:
        """Check that what the Hub calls a commit is one: it becomes part of requests and of a registry entry."""
        if not COMMIT.fullmatch(str(commit)):
            raise HubError(
                f"unexpected response from the Hub: {self._safe(commit)!r} is not a commit", "push again later"
            )

    def tag(self, name: str, commit: str) -> None:
        """Tag the commit. Raises: HubError, also if another commit has the tag."""
        with self._errors():
            self._api.create_tag(self.repo, tag=name, revision=commit, repo_type=self._kind)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the Hub and of the connection into a HubError that says what to do."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        # The HTTP library is httpx in one version of huggingface_hub and httpx2 in another.
        transport: type[Exception] = HfHubHTTPError.__bases__[0]
        try:
            yield
        except HfHubHTTPError as error:
            raise self._hub_error(error) from None
        except OfflineModeIsEnabled:
            raise HubError("HF_HUB_OFFLINE is set, so the Hub cannot be reached", "unset it to push") from None
        except HFValidationError as error:
            raise HubError(f"'{self.repo}' is not a valid repository: {self._safe(error)}", "use ORG/NAME") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # The client reads the answer to a card's front matter as JSON, whatever its status.
            if "Invalid metadata" in str(error):
                raise HubError(
                    f"the Hub rejects the front matter of {README}: {self._safe(error)}", "correct it and push again"
                ) from None
            raise HubError(f"unexpected response from the Hub: {self._safe(error)}", "push again later") from None
        except PermissionError as error:  # how hf_xet reports a refused token
            raise HubError(f"this token cannot write to {self.repo}: {self._safe(error)}", _LOGIN) from None
        except (transport, ConnectionError, TimeoutError, RuntimeError) as error:
            # The client wraps errors of a large file's upload; hf_xet raises only built-in ones.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._hub_error(error.__cause__) from None
            xet = "; if the server does not support xet, set HF_HUB_DISABLE_XET=1" if "xet" in str(error) else ""
            raise HubError(
                f"the connection to the Hub was lost: {self._safe(error) or type(error).__name__}",
                f"push again: files that arrived are not sent again{xet}",
            ) from None

    def _hub_error(self, error: Any) -> HubError:
        """Return the HubError for an HTTP status."""
        status = error.response.status_code
        message = self._safe(error.server_message or f"status {status}")
        if status >= 500:
            return HubError(
                f"the Hub has a problem: {message}", "push again later: files that arrived are not sent again"
            )
        meanings = {
            401: (f"this token is invalid or has expired: {message}", _LOGIN),
            403: (f"this token cannot write to {self.repo}: {message}", _LOGIN),
            404: (f"{self.repo} does not exist, or this token cannot see it", "create it with --create"),
            409: (f"the name {self.repo} is taken: {message}", "choose another with --repo ORG/NAME"),
            412: (f"there is a newer commit in {self.repo}", "review it and push again"),
            429: (f"too many requests to the Hub: {message}", _waiting(error.response.headers)),
        }
        return HubError(
            *meanings.get(status, (f"the Hub refuses with status {status}: {message}", "correct that, then push again"))
        )

    def _safe(self, error: object) -> str:
        """Return the start of a message on one line, without the token."""
        text = " ".join(str(error).split())[:300]
        return text.replace(self._token or "\0", "***")


def published_commits(folder: Path, repo: str) -> tuple[str, ...]:
    """Return the commit of `repo` that the folder records it was published as, if any. Raises: DataError."""
    try:
        record = read_json(folder / RECORD)
        if record["repo"] != repo:
            return ()
        if not COMMIT.fullmatch(record["commit"]):
            raise ValueError("not a commit")
        return (str(record["commit"]),)
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / RECORD} is damaged", "remove it") from None


def check_privacy(*, create: bool, private: bool) -> None:
    """Raise ConfigError for the privacy of a repository that is not to be created."""
    if private and not create:
        raise ConfigError("--private applies only to a new repository", "add --create")


def read_remote(
    repository: Repository,
    files: Mapping[str, bytes],
    *,
    bases: Sequence[str],
    create: bool,
    private: bool,
    force: bool,
) -> Remote:
    """Read the state of a repository that `files` may be committed to; it is created first if asked.

    `bases` are the commits that the card in `files` is known to have been published as.
    Raises: HubError, also for a card that was changed on the Hub, and not `force`.
    """
    remote = repository.read()
    if remote is None and create:
        repository.create(private=private)
        remote = repository.read()
    elif remote is not None and private and not remote.private:
        raise HubError(f"{repository.repo} exists and is public", "make it private on the Hub, or omit --private")
    if remote is None:
        raise HubError(f"{repository.repo} does not exist, or this token cannot see it", "create it with --create")
    there = remote.files.get(README, frozenset())
    changed_there = there and remote.lacks(README, files[README])
    if changed_there and not force and not there & repository.readme_ids(bases):  # it may be newer
        raise HubError(
            f"{README} of {repository.repo} (commit {remote.commit}) differs from the one this folder was published as",
            "review what changed there; --force overwrites it",
        )
    return remote


def blob_ids(data: bytes) -> frozenset[str]:
    """Return the ids that a file of this content has on the Hub: git's for a small one, SHA-256 for a large one."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return frozenset((git.hexdigest(), hashlib.sha256(data).hexdigest()))


def _ids(entry: Any) -> frozenset[str]:
    # A large file's git id is that of the pointer to it, not of its content.
    return frozenset((entry.lfs.sha256,)) if entry.lfs else frozenset((entry.blob_id,))


def _waiting(headers: Mapping[str, str]) -> str:
    """Say when to push again after too many requests."""
    seconds = headers.get("Retry-After", "")
    if not seconds.isdigit():
        match = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
        seconds = match[1] if match else ""
    return f"push again in {seconds} seconds" if seconds else "push again in a few minutes"
