"""Publish a checked package on the Hub: one commit, its tag, and its registry entry."""

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
    """A package on the Hub: the commit that holds it, the files that were sent, and its registry entry."""

    package: Package
    commit: str
    sent: tuple[str, ...]
    entry: Mapping[str, Any]


def publish(package: Package, *, create: bool, private: bool, force: bool) -> Published:
    """Push the package in one commit, or in none if the Hub has all of it; tag it if it has a version.

    Raises:
        HubError: the Hub cannot be reached or refuses, or holds a newer card and not `force`.
    """
    repository = Repository(package.repo)
    remote = _remote(repository, package, create=create, private=private)
    tagged = remote.tags.get(package.tag)
    _check_not_newer(repository, remote, package, force=force)
    changed = any(remote.lacks(name, data) for name, data in package.files.items())
    if tagged and (changed or tagged != remote.commit):
        raise HubError(
            f"{package.repo} already has the tag {package.tag}, on another commit", "pass the next number to --version"
        )
    title = f"Publish {package.id}" + (f" {package.tag}" if package.tag else "")
    done = repository.commit(package.files, onto=remote, message=title)
    if (package.folder / README).read_bytes() != package.files[README]:
        write_atomic(package.folder / README, package.files[README])
    if package.tag and not tagged:
        repository.tag(package.tag, done.commit)
    if not package.pinned:
        write_json_atomic(package.folder / RECORD, {"repo": package.repo, "commit": done.commit})
    entry = {**package.entry, "repo": package.repo, "revision": done.commit}
    return Published(package=package, commit=done.commit, sent=done.sent, entry=entry)


def _remote(repository: Repository, package: Package, *, create: bool, private: bool) -> Remote:
    """Read the state of the repository, created first if asked. Raises: HubError."""
    remote = repository.read()
    if remote is None and create:
        repository.create(private=private)
        remote = repository.read()
    elif remote is not None and private and not remote.private:
        raise HubError(f"{package.repo} exists and is public", "make it private on the Hub, or omit --private")
    if remote is None:
        raise HubError(f"{package.repo} does not exist, or this token cannot see it", "create it with --create")
    return remote


def _check_not_newer(repository: Repository, remote: Remote, package: Package, *, force: bool) -> None:
    """Raise HubError if the card on the Hub is not one that this folder was published as: it may be newer."""
    there = remote.files.get(README)
    if force or there is None or not remote.lacks(README, package.files[README]):
        return
    if not there & repository.readme_ids(package.bases):
        raise HubError(
            f"{README} of {package.repo} (commit {remote.commit}) differs from the one this folder was published as",
            "review what changed there; --force overwrites it",
        )
