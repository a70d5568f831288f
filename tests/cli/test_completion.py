"""Completion in a shell: commands, options and models, as its script asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medzoo.cli.app import run
from medzoo.cli.options import complete_generators, complete_models
from medzoo.hub.registry import load_registry


@pytest.fixture
def complete(capsys, monkeypatch):
    """Return what bash is offered for the last of these words."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["medzoo", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_MEDZOO_COMPLETE", "complete_bash")
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run([])
        return capsys.readouterr().out.split()

    return ask


def test_completion_of_commands_and_options(complete):
    assert complete("aug") == ["augment"]
    assert complete("data", "s") == ["split"]
    assert set(complete("augment", "--po")) == {"--policy", "--pool"}


def test_completion_of_models(complete):
    assert complete("sample", "ddpm-var-u") == ["ddpm-var-udder"]
    assert complete("augment", "--gen", "ldm-b") == ["ldm-busi"]
    assert "cnn-busi" in complete("pull", "cnn-")


def test_complete_generators_and_models():
    registry = load_registry()
    assert {"ddpm-var", "ddpm-var-busi"} <= set(complete_generators("ddpm"))
    assert not set(complete_generators("")) & {"cnn-busi", "cnn"}
    assert set(complete_models("")) == {*registry.ids, *(asset.id for asset in registry.assets)}
    assert complete_models("nothing-begins-so") == []


def test_completion_imports_neither_torch_nor_numpy():
    code = (
        "import sys\n"
        "from medzoo.cli.app import run\n"
        "try:\n"
        "    run([])\n"
        "except SystemExit:\n"
        "    print({'torch', 'numpy', 'pydantic'} & set(sys.modules), file=sys.stderr)\n"
    )
    words = {"COMP_WORDS": "medzoo pull cnn", "COMP_CWORD": "2", "_MEDZOO_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**_environment(), **words}, capture_output=True, text=True, check=True
    )
    assert "cnn-busi" in done.stdout
    assert done.stderr.strip() == "set()"


def test_install_completion_writes_the_script_of_the_shell(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m medzoo --install-completion; exit $?"],
        env={**_environment(), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bash completion installed" in done.stdout + done.stderr
    scripts = list(Path(tmp_path).rglob("medzoo.sh"))
    assert len(scripts) == 1
    assert "_MEDZOO_COMPLETE=complete_bash" in scripts[0].read_text()
    assert str(scripts[0]) in (tmp_path / ".bashrc").read_text()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "_MEDZOO_COMPLETE"}
