"""The folders of medzoo: bundled files, cache and configuration."""

import os
from pathlib import Path

from medzoo.errors import ResourceError


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
        return Path(own).expanduser().absolute()
    return _user_folder("XDG_CACHE_HOME", ".cache")


def latents_root() -> Path:
    """Return the folder of cached latents, named by the hash of all they depend on; it need not exist."""
    return cache_root() / "latents"


def pixels_root() -> Path:
    """Return the folder of decoded images, named by their files and the size they are resized to; it need not exist."""
    return cache_root() / "pixels"


def features_root() -> Path:
    """Return the folder of extractors' cached features, named by the hash of all they depend on; it need not exist."""
    return cache_root() / "features"


def config_root() -> Path:
    """Return `medzoo` in the user's configuration folder; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _user_folder(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / fallback) / "medzoo"
