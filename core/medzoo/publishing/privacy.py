"""Find user names, host names and paths of this machine in a text."""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

from medzoo.storage.paths import expand_home

_ABSOLUTE = re.compile(
    r"(?<![\w/.~*\]\-])(?:file://)?/[\w.+@-]+(?:/[\w.+@-]*)*"  # /home/ann, file:///home/ann; not and/or, ./x, //host
    r"|\b[A-Za-z]:\\\w|\\\\\w+\\\w"  # C:\Users, \\server\share
)
# Names of users and machines that identify nobody.
_GENERIC = {"root", "user", "users", "ubuntu", "debian", "admin", "localhost", "runner", "jovyan", "docker", "home"}


def find_local_identifiers(text: str) -> set[str]:
    """Find absolute paths in a text, and the names of this user and this machine."""
    paths = {match[0] for match in _ABSOLUTE.finditer(text)}
    # A single name after a slash may be a unit or a word, unless this machine has that folder.
    paths = {path for path in paths if not re.fullmatch(r"/[^/]+", path) or Path(path).exists()}
    host = socket.gethostname()
    names = {_user(), host, host.partition(".")[0], expand_home("~").name}
    known = {name for name in names if len(name) > 3 and name.lower() not in _GENERIC}
    return paths | {name for name in known if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return ""
