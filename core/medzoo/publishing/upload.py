"""One commit on the Hub with a card's files: only those that changed, and errors that say how to mend them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from medzoo._version import __version__
from medzoo.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README = "README.md"
_LOGIN = "`hf auth login`, or HF_TOKEN with a token that may write (https://huggingface.co/settings/tokens)"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository as it stands: its newest commit, and each file's ids there (git's and, for large ones, SHA-256)."""

    commit: str | None
    private: bool
    files: Mapping[str, frozenset[str]]
    tags: Mapping[str, str]

    def lacks(self, name: str, data: bytes) -> bool:
        """Whether the repository holds another file under this name, or none."""
        return not blob_ids(data) & self.files.get(name, frozenset())


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """The commit that holds all files, and the names of those that had to be sent for it; none if it was there."""

    commit: str
    sent: tuple[str, ...]


class Repository:
    """A model repository on the Hub, as HF_ENDPOINT and HF_TOKEN name it when this is made.

    Raises:
        HubError: there is no token.
    """

    def __init__(self, repo: str) -> None:
        from huggingface_hub import HfApi, get_token

        self.repo = repo
        self._token = get_token()
        if not self._token:
            raise HubError("the Hub takes nothing without a token", _LOGIN)
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        self._api: HfApi = HfApi(
            endpoint=endpoint, token=self._token, library_name="medzoo", library_version=__version__
        )

    def look(self) -> Remote | None:
        """The repository as it stands; None where there is none that this token may see. Raises: HubError."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._errors():
            try:
                info = self._api.model_info(self.repo)
            except RepositoryNotFoundError as error:
                if error.response.status_code != HTTPStatus.NOT_FOUND:
                    raise  # the token is refused, which says nothing of the repository
                return None
            listed = self._api.list_repo_tree(self.repo, revision=info.sha) if info.sha else ()
            entries = [entry for entry in listed if isinstance(entry, RepoFile)]
            tags = {tag.name: tag.target_commit for tag in self._api.list_repo_refs(self.repo).tags}
        return Remote(
            commit=info.sha,
            private=bool(info.private),
            files={entry.path: _ids(entry) for entry in entries},
            tags=tags,
        )

    def create(self, *, private: bool) -> None:
        """Nothing; the repository is there, with nothing of ours in it. Raises: HubError."""
        with self._errors():
            self._api.create_repo(self.repo, private=private)

    def readme_ids(self, commits: Sequence[str]) -> frozenset[str]:
        """Ids of README.md in these commits, those that are not there left out. Raises: HubError."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RevisionNotFoundError

        found: set[str] = set()
        with self._errors():
            for commit in commits:
                try:
                    entries = self._api.get_paths_info(self.repo, [README], revision=commit)
                except RevisionNotFoundError:
                    continue
                found |= {key for entry in entries if isinstance(entry, RepoFile) for key in _ids(entry)}
        return frozenset(found)

    def commit(self, files: Mapping[str, bytes], *, onto: Remote, message: str) -> Uploaded:
        """One commit on top of `onto` with those files that changed; none where nothing did.

        Raises:
            HubError: also if somebody committed since `onto`.
        """
        from huggingface_hub import CommitOperationAdd

        changed = {name: data for name, data in files.items() if onto.lacks(name, data)}
        if not changed and onto.commit:
            return Uploaded(commit=onto.commit, sent=())
        with self._errors():
            done = self._api.create_commit(
                self.repo,
                [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in changed.items()],
                commit_message=message,
                parent_commit=onto.commit,
            )
        return Uploaded(commit=done.oid, sent=tuple(changed))

    def tag(self, name: str, commit: str) -> None:
        """Nothing; the commit has that tag. Raises: HubError, also if another commit has it."""
        with self._errors():
            self._api.create_tag(self.repo, tag=name, revision=commit)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Nothing; inside it, whatever the Hub or the way there refuses becomes a HubError that says what to do."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        # The HTTP library is httpx in one version of huggingface_hub and httpx2 in another.
        transport: type[Exception] = HfHubHTTPError.__bases__[0]
        try:
            yield
        except HfHubHTTPError as error:
            raise self._refusal(error) from None
        except OfflineModeIsEnabled:
            raise HubError("HF_HUB_OFFLINE forbids to reach the Hub", "unset it to push") from None
        except HFValidationError as error:
            raise HubError(f"'{self.repo}' cannot be a repository: {self._safe(error)}", "name it ORG/NAME") from None
        except ValueError as error:
            # The client reads the answer to a card's front matter as JSON, whatever its status.
            if "Invalid metadata" in str(error):
                told = f"the Hub refuses the front matter of {README}: {self._safe(error)}"
                raise HubError(told, f"mend the front matter of {README}") from None
            raise HubError(f"the Hub answered what is no answer: {self._safe(error)}", "push again later") from None
        except PermissionError as error:  # hf_xet's word for a token it was refused
            raise HubError(f"this token may not write to {self.repo}: {self._safe(error)}", _LOGIN) from None
        except (transport, ConnectionError, TimeoutError, RuntimeError) as error:
            # The client wraps what a large file's upload met; hf_xet raises built-in errors alone.
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._refusal(error.__cause__) from None
            xet = "; where the server knows no xet, set HF_HUB_DISABLE_XET=1" if "xet" in str(error) else ""
            raise HubError(
                f"the connection to the Hub broke: {self._safe(error) or type(error).__name__}",
                f"push again: what arrived is not sent twice{xet}",
            ) from None

    def _refusal(self, error: Any) -> HubError:
        """The HubError that an HTTP status means for a push."""
        status = error.response.status_code
        told = self._safe(error.server_message or f"status {status}")
        if status >= 500:
            return HubError(f"the Hub is out of order: {told}", "push again later: what arrived is not sent twice")
        meanings = {
            401: (f"the Hub does not know this token, or it has expired: {told}", _LOGIN),
            403: (f"this token may not write to {self.repo}: {told}", _LOGIN),
            404: (f"there is no {self.repo} that this token may see", "create it with --create"),
            409: (f"the name {self.repo} is taken: {told}", "choose another: --repo ORG/NAME"),
            412: (f"somebody committed to {self.repo} meanwhile", "look at it and push again"),
            429: (f"the Hub asks to wait: {told}", _waiting(error.response.headers)),
        }
        return HubError(
            *meanings.get(status, (f"the Hub refuses with status {status}: {told}", "mend that, then push"))
        )

    def _safe(self, error: object) -> str:
        """The first lines of a message in one, without the token."""
        text = " ".join(str(error).split())[:300]
        return text.replace(self._token or "\0", "***")


def blob_ids(data: bytes) -> frozenset[str]:
    """The ids a file with this content has on the Hub: git's for a small one, SHA-256 for a large one."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return frozenset((git.hexdigest(), hashlib.sha256(data).hexdigest()))


def _ids(entry: Any) -> frozenset[str]:
    # A large file's git id is that of the pointer to it, which says nothing of its content.
    return frozenset((entry.lfs.sha256,)) if entry.lfs else frozenset((entry.blob_id,))


def _waiting(headers: Mapping[str, str]) -> str:
    """When to push again after too many requests."""
    seconds = headers.get("Retry-After", "")
    if not seconds.isdigit():
        match = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
        seconds = match[1] if match else ""
    return f"push again in {seconds} seconds" if seconds else "push again in some minutes"
