"""The benchmark of reading data, on a few small images and in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import load_script

from medzoo.cli.app import run
from medzoo.data.dataset import open_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "data.py"


@pytest.fixture(scope="module")
def bench():
    return load_script(SCRIPT)


def test_write_images_as_folder_and_npz(bench, tmp_path):
    images, labels = bench.make_images(240, size=16, seed=0)
    assert (images[200] == images[150]).all()
    assert 0 < np.abs(images[199].astype(int) - images[140]).max() <= 3
    folder, npz = (open_dataset(bench.write_images(tmp_path / kind, kind, images, labels)) for kind in bench.KINDS)
    assert folder.counts() == npz.counts()
    assert folder.fingerprint() == npz.fingerprint()


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_main_runs_every_command(bench, tmp_path, capsys, monkeypatch, kind):
    ran: list[str] = []

    def in_this_process(arguments: Sequence[str], *, cache: Path) -> dict[str, float]:
        monkeypatch.setenv("MEDZOO_CACHE", str(cache))
        ran.append(" ".join(arguments[:2]))
        assert run(list(arguments)) == 0
        return {"cpu": 1.0, "wall": 2.0, "peak": 300.0}

    monkeypatch.setattr(bench, "measure", in_this_process)
    bench.main(["--counts", "60", "--kinds", kind, "--size", "16", "--folder", str(tmp_path)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 60 |")]
    assert rows == [f"| 60 | {kind} | {verb} | 1 | 2 | 300 |" for verb in bench.VERBS]
    assert ran == ["data check", "data check", "data split", "classify train", "augment --gen"]
