"""`medzoo app` before it serves: what it needs, and what it says where it cannot bind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medzoo.app import server


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Gradio count as installed."""
    monkeypatch.setattr(server, "find_spec", lambda name: object())


def test_app_without_gradio(medzoo, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    found = medzoo("app", "--root", tmp_path)
    assert found.code == 2
    assert found.err.splitlines() == [
        "error: medzoo app needs Gradio, which is not installed",
        "  pip install 'medzoo[app]'",
    ]


def test_app_on_windows(medzoo, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "HAS_LOCKS", False)
    found = medzoo("app", "--root", tmp_path)
    assert found.code == 2
    assert found.err.splitlines() == [
        "error: medzoo app does not run on Windows, whose file locks its jobs cannot use",
        "  run it in WSL",
    ]


@pytest.mark.usefixtures("installed")
def test_app_port_in_use(medzoo, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = medzoo("app", "--root", tmp_path, "--port", port)
    assert found.code == 6
    assert found.err.splitlines() == [
        f"error: cannot serve on 127.0.0.1, port {port}: the port is in use",
        "  choose another --port, or 0 for any that is free",
    ]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--port", "70000"), 2, "error: --port 70000 is not a port"),
        (("--host", "no host"), 6, "error: cannot serve on no host: "),
        (("--host", "192.0.2.1"), 6, "error: cannot serve on 192.0.2.1, port 7860: this machine has no such address"),
        (("--root", "nothing"), 5, "error: nothing is not a folder"),
        (("--share",), 2, "error: no such option: --share"),
    ],
)
def test_app_refused(medzoo, tmp_path: Path, monkeypatch, options: tuple[str, ...], code: int, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = medzoo("app", *options)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith(message)
    assert "Traceback" not in found.err


def test_app_help_imports_no_gradio() -> None:
    code = "import sys; from medzoo.cli.app import run; run(['app', '--help']); print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines()[-1] == "False"
