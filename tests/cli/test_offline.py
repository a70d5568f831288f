"""What came with medzoo works on a machine without a network: any use of one ends the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

PROGRAM = """
import sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise AssertionError(f"{event} {arguments[1:]}")

sys.addaudithook(refuse)
from medzoo.cli.app import run

for line in sys.stdin.read().splitlines():
    if run(line.split()) != 0:
        sys.exit(f"failed: medzoo {line}")
"""


def run_offline(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], input="\n".join(lines), cwd=folder, capture_output=True, text=True, check=False
    )


def test_bundled_models_work_offline(tmp_path):
    for name in ("benign", "malignant", "normal"):
        (tmp_path / "real" / name).mkdir(parents=True)
        Image.new("L", (64, 64), 90).save(tmp_path / "real" / name / "0.png")
    done = run_offline(
        tmp_path,
        "list",
        "list --json",
        "show dcgan-busi",
        "pull dcgan-busi",
        "cache",
        "mirror carried dcgan-busi",
        "sample dcgan-busi --n 1 --device cpu --out drawn",
        "augment --gen dcgan-busi --to 2 --data real --device cpu --out filled",
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 3
    assert len(list((tmp_path / "filled").rglob("*.png"))) == 6
    assert (tmp_path / "carried" / "dcgan-busi" / "model.safetensors").is_file()


def test_run_offline_detects_network_use(tmp_path):
    done = run_offline(tmp_path, "pull hf:acme/model")
    assert done.returncode != 0
    assert "socket." in done.stderr
