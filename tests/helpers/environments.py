"""Fresh Python environments, in which tests install and use distributions as their users do."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("medzoo", "mypy", "pip", "pytest", "ruff")


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own that also sees what the running Python has installed, medzoo among it.

    Its medzoo has a cache and settings of its own.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        """An environment in `folder`, where `PROGRAMS` run as this environment's."""
        venv.create(folder, symlinks=True, with_pip=False)
        environment = cls(folder)
        site = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
        # torch takes minutes and gigabytes to install; `addsitedir` also follows the links of editable installs.
        here = sysconfig.get_path("purelib")
        Path(site, "running_python.pth").write_text(f"import site; site.addsitedir({here!r})\n", "utf-8")
        for name in PROGRAMS:
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n', "utf-8")
            program.chmod(0o755)
        return environment

    def install(self, *folders: Path) -> None:
        """Install the distributions in these folders, editable; what they need has to be there, no index is asked."""
        self.run("pip", "install", "--quiet", *(f"--editable={folder}" for folder in folders))

    def run(self, *command: str, cwd: Path | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
        """What a command of this environment answers, which exits with `code`."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        # pip reads the second as "no build isolation".
        pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        own = {"MEDZOO_CACHE": str(self.folder / "cache"), "XDG_CONFIG_HOME": str(self.folder / "config")}
        variables = {**os.environ, **pip, **own, "PATH": path, "VIRTUAL_ENV": str(self.folder)}
        for name in ("MEDZOO_MIRROR", "MEDZOO_REGISTRY"):
            variables.pop(name, None)
        program = self.folder / "bin" / command[0]
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, check=False, cwd=cwd, env=variables
        )
        assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done
