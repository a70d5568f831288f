"""The folders of medzoo: bundled files, cache and configuration."""

import os
from pathlib import Path

from medzoo.errors import ResourceError

NO_HOME = Path(os.devnull)
"""Stands for the home folder of a user who has none: nothing is found below it, and nothing can be written there."""


def bundled_root() -> Path:
    """Return the folder of registry.toml and cards/ that came with medzoo: in the package, or a checkout's root."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "bundled", package.parent.parent):
        if (root / "registry.toml").is_file():
            return root
    raise ResourceError(f"registry.toml is missing beside {package}", "reinstall medzoo")


def cache_root() -> Path:
    """Return MEDZOO_CACHE, or `medzoo` in the user's cache folder; it need not exist."""
    if own := os.environ.get("MEDZOO_CACHE"):
        return expand_home(own).absolute()
    return _user_folder("XDG_CACHE_HOME", ".cache")


def cache_path(*names: str) -> Path:
    """Return the path of `names` in the cache; it need not exist. Raises: ResourceError if a link leads out of it."""
    path = cache_root().joinpath(*names)
    check_inside_cache(path)
    return path


def check_inside_cache(path: Path) -> None:
    """Check that no link or ".." leads from the cache to `path`, which need not exist. Raises: ResourceError."""
    root = cache_root()
    if not (end := path.resolve()).is_relative_to(root.resolve()):
        raise ResourceError(f"{path} leads out of the cache, to {end}", "remove that link")


def latents_root() -> Path:
    """Return the folder of cached latents, named by the hash of all they depend on; it need not exist."""
    return cache_path("latents")


def pixels_root() -> Path:
    """Return the folder of decoded images, named by their files and the size they are resized to; it need not exist."""
    return cache_path("pixels")


def thumbnails_root() -> Path:
    """Return the folder of what was read of images, their thumbnails and fingerprints; it need not exist."""
    return cache_path("thumbnails")


def features_root() -> Path:
    """Return the folder of extractors' cached features, named by the hash of all they depend on; it need not exist."""
    return cache_path("features")


def scores_root() -> Path:
    """Return the folder of cached scores of metrics, named by the hash of all they depend on; it need not exist."""
    return cache_path("scores")


def config_root() -> Path:
    """Return `medzoo` in the user's configuration folder; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def expand_home(path: str) -> Path:
    """Return `path` with the user's home folder for a "~" at its start, which stays if there is no home folder."""
    return Path(os.path.expanduser(path))


def _user_folder(variable: str, fallback: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():
        try:
            base = Path.home() / fallback
        except RuntimeError:  # HOME is not set, and the user is in no list of users, as in many containers
            base = NO_HOME / fallback
    return base / "medzoo"
