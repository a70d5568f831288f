"""The Dockerfile installs what the package offers, from files that reach the build."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
COPIED = [source for line in re.findall(r"^COPY (.*)$", TEXT, re.MULTILINE) for source in line.split()[:-1]]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_dockerfile_copies_all_that_the_wheel_needs() -> None:
    assert all((ROOT / source).exists() for source in COPIED)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], PROJECT["project"]["readme"]]
    needed += [*PROJECT["project"]["license-files"], PROJECT["tool"]["hatch"]["version"]["path"], "pyproject.toml"]
    assert {name.partition("/")[0] for name in needed} == set(COPIED)


def test_dockerignore_lets_in_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(COPIED)


def test_dockerfile_extras_exist() -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", TEXT, re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_dockerfile_runs_without_root_and_keeps_the_cache_in_a_volume() -> None:
    (user,) = re.findall(r"^USER (\d+)$", TEXT, re.MULTILINE)
    assert int(user) > 0
    assert f"--uid {user} " in TEXT
    (cache,) = re.findall(r"MEDZOO_CACHE=(\S+)", TEXT)
    assert re.search(rf"^VOLUME {cache}$", TEXT, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["medzoo"\]$', TEXT, re.MULTILINE)
