"""The plugins a user has switched off, each by its distribution and name, as in "medzoo/ddpm"."""

from __future__ import annotations

from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.storage.paths import config_root


def disabled_file() -> Path:
    """Return the file that lists the disabled plugins, one per line; it need not exist."""
    return config_root() / "disabled-plugins.txt"


def read_disabled() -> frozenset[str]:
    """Return the disabled plugins. Raises: ConfigError for a file that cannot be read."""
    path = disabled_file()
    if not path.is_file():
        return frozenset()
    try:
        return frozenset(filter(None, path.read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "fix or remove it") from error


def write_disabled(keys: frozenset[str]) -> None:
    """Write the list of plugins that are not to be imported. Raises: ResourceError."""
    from medzoo.storage.files import write_atomic

    write_atomic(disabled_file(), "".join(f"{key}\n" for key in sorted(keys)).encode())
