"""Pull models and assets into the cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from medzoo.hub.entries import AssetEntry, ModelEntry
from medzoo.hub.registry import find_entry, load_registry
from medzoo.hub.repositories import check_source, fetch_repo, is_reference, parse_reference, read_pulled
from medzoo.hub.sources import fetch_asset, fetch_model
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A model or asset in the cache: its folder or file, its size, and its repository on the Hub, "" for none."""

    id: str
    path: Path
    bytes: int
    repo: str
    revision: str


def pull(*names: str, source: str | None = None, progress: Progress | None = None) -> list[Pulled]:
    """Download models and assets into the cache, and check every file by its hash.

    `names` are models, assets, plugins (their default model) or `hf:org/name[@revision]`; `source` is the only place
    to take them from ("bundled", "hub" or a folder). `progress` is called with the bytes of a file that have arrived,
    those it has, and its name.

    Example:
        >>> for pulled in medzoo.pull("dcgan-busi", "cnn-busi"):
        ...     print(pulled.path, pulled.bytes)

    Raises:
        UnknownName, ConfigError: a name that is unknown or has no weights; nothing is pulled then.
        HubError: a file that no source has, or that is corrupt.
        ResourceError: a full or read-only disk.
    """
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    entries: list[str | ModelEntry | AssetEntry] = []
    for name in names:
        if is_reference(name):
            parse_reference(name)
            check_source(name, source)
            entries.append(name)
        else:
            entries.append(find_entry(name, registry, plugins))
    return [_pull(entry, source, progress) for entry in entries]


def _pull(entry: str | ModelEntry | AssetEntry, source: str | None, progress: Progress | None) -> Pulled:
    if isinstance(entry, str):
        folder = fetch_repo(entry, refresh=True, progress=progress)
        pulled = read_pulled(folder)
        logger.info(f"{entry} is now hf:{pulled['repo']}@{pulled['revision']}")
        size = sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith("."))
        return Pulled(id=entry, path=folder, bytes=size, repo=pulled["repo"], revision=pulled["revision"])
    if isinstance(entry, AssetEntry):
        path = fetch_asset(entry, source=source, progress=progress)
    else:
        if entry.notice:
            logger.warning(entry.notice)
        path = fetch_model(entry, source=source, progress=progress)
    return Pulled(id=entry.name, path=path, bytes=entry.bytes, repo=entry.repo, revision=entry.revision)
