"""Publish a checked package on the Hub: one commit, its tag, and its registry row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medzoo.errors import HubError
from medzoo.publishing.card import README
from medzoo.publishing.checks import RECORD
from medzoo.publishing.package import Package
from medzoo.publishing.upload import Remote, Repository
from medzoo.storage.files import write_atomic, write_json_atomic


@dataclass(frozen=True, kw_only=True)
class Published:
    """A package on the Hub: the commit that holds it, what had to be sent, and its row with repo and commit."""

    package: Package
    commit: str
    sent: tuple[str, ...]
    row: Mapping[str, Any]


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
    title = f"Publish {package.id}" + (f" {package.tag}" if package.tag else "")
    done = repository.commit(package.files, onto=remote, message=title)
    if (package.folder / README).read_bytes() != package.files[README]:
        write_atomic(package.folder / README, package.files[README])
    if package.tag and not tagged:
        repository.tag(package.tag, done.commit)
    if not package.pinned:
        write_json_atomic(package.folder / RECORD, {"repo": package.repo, "commit": done.commit})
    row = {**package.row, "repo": package.repo, "revision": done.commit}
    return Published(package=package, commit=done.commit, sent=done.sent, row=row)


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
