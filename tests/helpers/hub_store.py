"""What a Hub keeps, in memory: repositories with commits, branches and tags, objects by SHA-256, and who may what."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime

_LFS_SUFFIXES = (".safetensors", ".png", ".npz", ".pth", ".pt", ".bin", ".zip")


class Refusal(Exception):
    """An answer other than success: `code` and `message` go into the headers the client reads."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Token:
    """A user's token."""

    user: str
    write: bool = True


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A committed file; `lfs` says whether git holds only a pointer to its bytes."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        """The object's id in large file storage."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself holds of a large file."""
        head = "version https://git-lfs.github.com/spec/v1"
        return f"{head}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def oid(self) -> str:
        """The id of git's blob: of the file, or of the pointer to it."""
        return git_hash(self.pointer if self.lfs else self.data)

    @property
    def etag(self) -> str:
        """What the Hub sends as ETag: SHA-256 for large files, git's SHA-1 for others."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One state of a repository."""

    oid: str
    title: str
    files: dict[str, Blob]
    date: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(kw_only=True)
class Repo:
    """A model repository; `commits` are by id, oldest first, `branches` and `tags` name some of them."""

    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, an id or the start of one names. Raises: Refusal."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and len(revision) >= 7:
            oid = next((oid for oid in self.commits if oid.startswith(revision)), None)
        if oid is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def file(self, revision: str, path: str) -> tuple[Commit, Blob]:
        """A file and the commit it was looked up in. Raises: Refusal."""
        commit = self.at(revision)
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        return commit, commit.files[path]


class Store:
    """The state of the Hub and its rules; every method is one step, whole or refused."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: dict[str, Token] = {
            "hf_write": Token(user="acme"),
            "hf_read": Token(user="acme", write=False),
            "hf_other": Token(user="stranger"),
        }
        self._number = itertools.count(1)

    def put(self, repo_id: str, files: dict[str, bytes], *, private: bool = False, title: str = "Set up") -> str:
        """The id of a new commit that holds exactly `files`, and .gitattributes, in a repository made if need be."""
        repo = self.repos.setdefault(repo_id, Repo(id=repo_id, private=private))
        repo.private = private
        blobs = {name: Blob(data=data, lfs=is_large(name, data)) for name, data in files.items()}
        return self.commit(repo, {**ATTRIBUTES, **blobs}, title=title)

    def commit(self, repo: Repo, files: dict[str, Blob], *, title: str, branch: str = "main") -> str:
        """The id of a new commit that holds `files`."""
        oid = git_hash(f"{repo.id} {next(self._number)} {title}".encode())
        repo.commits[oid] = Commit(oid=oid, title=title, files=files)
        repo.branches[branch] = oid
        return oid

    def user(self, token: str) -> Token | None:
        """Who sent `token`, or None without one. Raises: Refusal for a token that is unknown or has expired."""
        if not token:
            return None
        if token not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def readable(self, repo_id: str, token: str) -> Repo:
        """The repository. Raises: Refusal; one a user may not see looks as if it were not there."""
        user, repo = self.user(token), self.repos.get(repo_id)
        if repo is not None and repo.gated and user is None:
            raise Refusal(401, f"Access to model {repo_id} is restricted", "GatedRepo")
        if repo is None or (repo.private and (user is None or user.user != repo_id.split("/", maxsplit=1)[0])):
            # The Hub asks strangers for a token, whether the repository exists or not.
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, repo_id: str, token: str) -> Repo:
        """The repository, for a change. Raises: Refusal."""
        repo = self.readable(repo_id, token)
        self.check_writer(repo_id.split("/", maxsplit=1)[0], token)
        return repo

    def check_writer(self, namespace: str, token: str) -> None:
        """Nothing. Raises: Refusal for a token that may not write there."""
        user = self.user(token)
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if user.user != namespace or not user.write:
            raise Refusal(403, f"You don't have the rights to write under the namespace {namespace!r}")

    def create(self, repo_id: str, token: str, *, private: bool) -> Repo:
        """A new repository, which holds .gitattributes. Raises: Refusal."""
        self.check_writer(repo_id.split("/", maxsplit=1)[0], token)
        if repo_id in self.repos:
            raise Refusal(409, "You already created this model repo")
        repo = self.repos[repo_id] = Repo(id=repo_id, private=private)
        self.commit(repo, dict(ATTRIBUTES), title="initial commit")
        return repo


def git_hash(data: bytes) -> str:
    """The SHA-1 git gives a blob of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_large(name: str, data: bytes) -> bool:
    """Whether the Hub keeps this file in large file storage: by its name, its size or because it is no text."""
    return name.endswith(_LFS_SUFFIXES) or len(data) > 10_000_000 or b"\0" in data[:512]


ATTRIBUTES = {
    ".gitattributes": Blob(
        data="".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES).encode(),
        lfs=False,
    )
}
