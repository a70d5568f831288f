"""The plugins a user has switched off, each by its distribution and name, as in "medzoo/ddpm"."""

from __future__ import annotations

from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.storage.paths import config_root


def disabled_file() -> Path:
    """The file that lists them, one a line; it need not exist."""
    return config_root() / "disabled-plugins.txt"


def read_disabled() -> frozenset[str]:
    """The disabled plugins. Raises: ConfigError for a file that cannot be read."""
    path = disabled_file()
    if not path.is_file():
        return frozenset()
    try:
        return frozenset(filter(None, path.read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "mend or remove it") from error


def write_disabled(keys: frozenset[str]) -> None:
    """Nothing; from now on these plugins are not imported. Raises: ResourceError."""
    from medzoo.storage.files import write_atomic

    write_atomic(disabled_file(), "".join(f"{key}\n" for key in sorted(keys)).encode())
