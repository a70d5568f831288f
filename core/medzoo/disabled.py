"""The plugins a user has switched off, each by its distribution and name, as in "medzoo/ddpm"."""

from __future__ import annotations

from pathlib import Path

from medzoo.places import config_root


def disabled_file() -> Path:
    """The file that lists them, one a line; it need not exist."""
    return config_root() / "disabled-plugins.txt"


def read_disabled() -> frozenset[str]:
    """The disabled plugins."""
    path = disabled_file()
    return frozenset(path.read_text("utf-8").split()) if path.is_file() else frozenset()


def write_disabled(keys: frozenset[str]) -> None:
    """Nothing; from now on these plugins are not imported. Raises: ResourceError."""
    from medzoo.files import write_atomic

    path = disabled_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{key}\n" for key in sorted(keys)).encode())
