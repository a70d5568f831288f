"""The folders medzoo reads and keeps things in."""

import os
from pathlib import Path

from medzoo.errors import ResourceError


def bundled_root() -> Path:
    """The folder of registry.toml and cards/ that came with medzoo: inside the package, or a checkout's root."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "bundled", package.parent.parent):
        if (root / "registry.toml").is_file():
            return root
    raise ResourceError(f"registry.toml is missing beside {package}", "install medzoo again")


def cache_root() -> Path:
    """MEDZOO_CACHE, or `medzoo` in the user's cache folder; it need not exist."""
    if own := os.environ.get("MEDZOO_CACHE"):
        return Path(own).expanduser().absolute()
    return _user_folder("XDG_CACHE_HOME", ".cache")


def latents_root() -> Path:
    """Where training keeps latents by the hash of all they depend on; it need not exist."""
    return cache_root() / "latents"


def pixels_root() -> Path:
    """Where images lie decoded, by the files they come from and the size they were brought to; it need not exist."""
    return cache_root() / "pixels"


def features_root() -> Path:
    """Where an extractor's vectors are kept by the hash of all they depend on; it need not exist."""
    return cache_root() / "features"


def config_root() -> Path:
    """`medzoo` in the user's folder of settings; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _user_folder(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / fallback) / "medzoo"
