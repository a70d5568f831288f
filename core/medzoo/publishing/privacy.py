"""What a text tells of the machine it was written on."""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

_ABSOLUTE = re.compile(
    r"(?<![\w/.~*\]\-])(?:file://)?/[\w.+@-]+(?:/[\w.+@-]*)*"  # /home/ann, file:///home/ann; not and/or, ./x, //host
    r"|\b[A-Za-z]:\\\w|\\\\\w+\\\w"  # C:\Users, \\server\share
)
# Names of users and machines that say nothing of who or where.
_NOBODY = {"root", "user", "users", "ubuntu", "debian", "admin", "localhost", "runner", "jovyan", "docker", "home"}


def traces(text: str) -> set[str]:
    """Absolute paths in a text, and the names of this user and this machine."""
    paths = {match[0] for match in _ABSOLUTE.finditer(text)}
    # A single name behind a slash may be a unit or a word; whether this machine has that folder decides.
    paths = {path for path in paths if not re.fullmatch(r"/[^/]+", path) or Path(path).exists()}
    host = socket.gethostname()
    names = {_user(), host, host.partition(".")[0], Path.home().name}
    telling = {name for name in names if len(name) > 3 and name.lower() not in _NOBODY}
    return paths | {name for name in telling if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""
