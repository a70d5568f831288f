"""`medzoo augment` and `medzoo sample`: what they print where, exit codes, and one line with the mend for bad input."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.tiny import make_model

from medzoo.data.images import decode
from medzoo.data.phantom import write_phantom


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny model's folder."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Class folders with 3 and 2 simulated images."""
    folder = tmp_path_factory.mktemp("images") / "scans"
    write_phantom(folder, counts={"normal": 3, "thick-wall": 2}, size=16, seed=5)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_augment_prints_plan_then_paths(medzoo, model, images):
    outcome = medzoo("augment", "--gen", model, "--data", images, "--to", 6)
    assert outcome.code == 0
    assert "7 synthetic images of 16x16 pixels into augmented-tiny-6" in outcome.err
    assert re.search(r"normal +3 +3 +tiny 3 +0 +~", outcome.err)
    assert re.search(r"about \d.* in all", outcome.err)
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["class", "real", "synthetic", "total", "seconds", "images/s"]
    assert lines[1].split()[:4] == ["normal", "3", "3", "6"]
    assert lines[-2:] == ["augmented-tiny-6", "augmented-tiny-6.contact-sheet.png"]
    assert all(Path(line).exists() for line in lines[-2:])


def test_augment_json(medzoo, model, images):
    outcome = medzoo("augment", "--gen", model, "--data", images, "--to", 6, "--json")
    result = json.loads(outcome.out)
    assert result["folder"] == "augmented-tiny-6"
    assert result["contact_sheet"] == "augmented-tiny-6.contact-sheet.png"
    assert result["complete"] is True
    assert [row["synthetic"] for row in result["classes"]] == [3, 4]


def test_augment_dry_run_writes_nothing(medzoo, model, images, here):
    outcome = medzoo("augment", "--gen", model, "--data", images, "--to", 6, "--dry-run", "--json")
    assert outcome.code == 0
    assert [row["make"] for row in json.loads(outcome.out)["classes"]] == [{"tiny": 3}, {"tiny": 4}]
    assert not list(here.iterdir())


def test_augment_finished_run(medzoo, model, images):
    command = ("augment", "--gen", model, "--data", images, "--to", 6)
    first, again = medzoo(*command), medzoo(*command)
    assert again.code == 0
    assert "already finished; nothing to do" in again.err
    assert again.out.splitlines()[-2:] == first.out.splitlines()[-2:]


def test_augment_shards(medzoo, model, images):
    command = ("augment", "--gen", model, "--data", images, "--to", 6, "--batch-size", 4)
    first = medzoo(*command, "--shard", "1/2")
    assert "part 1 of 2" in first.err
    assert "3 images are left for other shards" in first.err
    assert first.out.splitlines()[-1] == "augmented-tiny-6"
    assert "still to be made" not in medzoo(*command, "--shard", "2/2").err


def test_augment_reports_copies_instead_of_links(medzoo, model, images, monkeypatch):
    def other_disk(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    assert "were copied" in medzoo("augment", "--gen", model, "--data", images, "--to", 6).err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("--gen ddpm-vra --data DATA --to 6", 2, "unknown generator or model 'ddpm-vra'\n  did you mean ddpm-var"),
        ("--gen MODEL --dta DATA --to 6", 2, "--data"),
        ("--gen MODEL --data DATA --to none", 2, "'none' is not a valid int"),
        ("--gen MODEL --data DATA --to 0", 2, "--to"),
        ("--gen MODEL --data DATA", 2, "--to"),
        ("--gen MODEL=0.5 --gen duplicate=0.6 --data DATA --to 6", 2, "must sum to 1"),
        ("--gen MODEL --data DATA --to 6 --shard 3/2", 2, "--shard 1/2"),
        (
            "--gen MODEL --data DATA --to 6 --originals move",
            2,
            "--originals cannot take 'move'\n  it takes link, copy, gray, omit",
        ),
        (
            "--gen MODEL --data DATA --to 6 --set sampling.num_inference_stps=3",
            2,
            "did you mean sampling.num_inference_steps",
        ),
        ("--gen MODEL --data DATA --to 6 --set sampling.num_inference_steps=0", 2, "allowed: 1 to 10000"),
        ("--gen MODEL --data DATA --to 6 --device gpu", 2, "use auto, cpu, cuda"),
        ("--gen MODEL --data nowhere --to 6", 5, "nowhere does not exist"),
        ("--gen MODEL --data FILE --to 6", 5, "give a folder of class folders"),
        ("--gen MODEL --data DATA --to 6 --out FILE", 5, "is a file"),
        ("--gen MODEL --data DATA --to 6 --out DATA", 5, "is inside the data folder"),
        ("--gen MODEL --data DATA --to 6 --out FILE/sub", 5, "is a file"),
        ("--gen MODEL --to 6", 5, "give them with --data"),
        ("--gen duplicate --to 6", 5, "give them with --data"),
    ],
)
def test_augment_invalid_arguments(medzoo, model, images, here, arguments, code, told):
    (here / "file.txt").write_text("kept")
    words = {"MODEL": str(model), "DATA": str(images), "FILE": "file.txt"}
    outcome = medzoo("augment", *re.sub("|".join(words), lambda word: words[word[0]], arguments).split())
    assert re.search(told, outcome.err), outcome.err
    assert len(re.findall("^error: ", outcome.err, re.MULTILINE)) == 1
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert outcome.code == code
    assert [path.name for path in here.iterdir()] == ["file.txt"]
    assert (here / "file.txt").read_text() == "kept"


def test_augment_damaged_weights(medzoo, images, here):
    damaged = make_model(here / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    outcome = medzoo("augment", "--gen", damaged, "--data", images, "--to", 6)
    assert outcome.code == 4
    assert "is damaged" in outcome.err
    assert [path.name for path in here.iterdir()] == ["damaged"]


def test_augment_resumes_after_ctrl_c(medzoo, model, images, here):
    command = f"augment --gen {model} --data {images} --to 200 --batch-size 4 --device cpu --out out"
    process = subprocess.Popen([sys.executable, "-m", "medzoo", *command.split()], stderr=subprocess.PIPE, text=True)
    while len(list(here.glob("out/*/synthetic-*"))) < 20 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130
    assert "run the same command again to resume" in told
    assert "Traceback" not in told
    assert 20 <= len(list(here.glob("out/*/synthetic-*"))) < 395
    assert not list(here.glob("out/**/.*.part"))
    outcome = medzoo(*command.split())
    assert outcome.code == 0
    assert len(list(here.glob("out/*/synthetic-*"))) == 395


def test_augment_progress_bar_on_terminal(model, images, here):
    command = f"augment --gen {model} --data {images} --to 40 --device cpu"
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "medzoo", *command.split()], stderr=terminal, stdout=subprocess.PIPE, text=True
    )
    os.close(terminal)
    shown = b""
    while process.poll() is None or shown == b"":
        try:
            shown += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    process.communicate()
    os.close(main)
    assert process.returncode == 0
    assert b"75/75" in shown
    assert b"images/s" in shown


def test_progress_lines_without_terminal(model, images, capsys, monkeypatch):
    from medzoo.cli.output import logging_to_stderr
    from medzoo.cli.progress import ProgressDisplay

    monkeypatch.setattr(ProgressDisplay, "EVERY", 0.0)
    with logging_to_stderr(), ProgressDisplay("drawing") as display:
        for done in (10, 20, 30):
            display(done, 30)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"drawing: 20/30 images, \d+\.\d images/s, .* left", lines[0])


def test_progress_of_a_stage_leaves_out_what_earlier_runs_did(capsys, monkeypatch):
    from medzoo.cli import progress
    from medzoo.cli.output import logging_to_stderr

    clock = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with logging_to_stderr(), progress.ProgressDisplay("tune", unit="") as display:
        display(133, 200, "policies, best 0.750")
        display(143, 200, "policies, best 0.750")
        display(0, 8, "tasks of the finalists")
        display(2, 8, "tasks of the finalists")
    assert capsys.readouterr().err.splitlines() == [
        "tune: 143/200 policies, best 0.750, 57 s left of this stage",
        "tune: 2/8 tasks of the finalists, 30 s left of this stage",
    ]


def test_progress_counts_the_next_file_from_its_beginning(capsys, monkeypatch):
    from medzoo.cli.output import logging_to_stderr
    from medzoo.cli.progress import ProgressDisplay

    monkeypatch.setattr(ProgressDisplay, "EVERY", 0.0)
    with logging_to_stderr(), ProgressDisplay("downloading", unit="MB") as progress:
        for file in ("a", "b"):
            for done in (0, 2_000_000, 4_000_000):
                progress(done, 4_000_000, file)
    lines = capsys.readouterr().err.splitlines()
    amounts = [line.partition(" MB, ")[0] for line in lines]
    assert amounts == ["downloading: 2.0/4.0", "downloading: 4.0/4.0"] * 2
    assert [line.split(", ")[1] for line in lines] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "0.2 s"), (25, "25 s"), (192, "3.2 min"), (5400, "1.5 h")])
def test_duration_format(seconds, text):
    from medzoo.cli.progress import duration

    assert duration(seconds) == text


def test_sample_prints_folder_and_grid(medzoo, model):
    outcome = medzoo("sample", model, "--label", "normal", "--n", 3, "--out", "out", "--grid", "grid.png")
    assert outcome.code == 0
    assert outcome.out.split() == ["out", "grid.png"]
    assert decode(Path("grid.png")).ndim == 3
    assert len(list(Path("out").glob("normal/*.png"))) == 3


def test_sample_grid_only(medzoo, model, here):
    assert medzoo("sample", model, "--n", 2, "--grid", "grid.png").out == "grid.png\n"
    assert [path.name for path in here.iterdir()] == ["grid.png"]


def test_sample_default_folder(medzoo, model):
    result = json.loads(medzoo("sample", model, "--n", 2, "--json").out)
    assert result == {
        "folder": "samples-tiny",
        "grid": None,
        "counts": {"thick-wall": 2, "normal": 2, "narrow-canal": 2},
        "seed": 0,
        "device": result["device"],
        "data": {},
    }
    assert "already sampled" in medzoo("sample", model, "--n", 2).err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("MODEL --label normel", 2, "did you mean normal"),
        ("nothing-like-it", 2, "unknown generator or model"),
        ("MODEL --n 0", 2, "--n"),
        ("MODEL --grid grid.jpg", 2, "the grid is a PNG"),
        ("MODEL --set sampling.scheduler=dmp", 2, "dpm-solver"),
        ("classic", 5, "give them with --data"),
        ("MODEL --grid FILE/grid.png", 6, "a file is in the way"),
    ],
)
def test_sample_invalid_arguments(medzoo, model, here, arguments, code, told):
    (here / "file.txt").write_text("kept")
    outcome = medzoo("sample", *arguments.replace("MODEL", str(model)).replace("FILE", "file.txt").split())
    assert outcome.code == code
    assert told in outcome.err
    assert outcome.out == ""
    assert [path.name for path in here.iterdir()] == ["file.txt"]


def test_augment_select_prints_what_was_kept(medzoo, model, images):
    command = ("augment", "--gen", model, "--data", images, "--to", 6, "--select", "novelty", "--extractor", "pixels")
    outcome = medzoo(*command)
    assert outcome.code == 0
    assert "drawn first: a pool of 14 into augmented-tiny-6-novelty-pool; kept: 7 by novelty" in outcome.err
    assert re.search(r"normal +3 +6 +tiny 6 +0 +~", outcome.err)
    assert re.search(r"about .* more to compare features by 'pixels', which are cached", outcome.err)
    assert "kept 7 of 14 images by novelty, features by 'pixels'; the pool stays in" in outcome.err
    assert re.search(r"normal +6 +3 +0 +3\n", outcome.err)
    assert outcome.out.splitlines()[1].split()[:4] == ["normal", "3", "3", "6"]
    assert outcome.out.splitlines()[-2] == "augmented-tiny-6-novelty"
    again = json.loads(medzoo(*command, "--json").out)
    assert again["already_done"]
    assert again["selection"]["classes"]["thick-wall"] == {
        "pool": 8,
        "kept": 4,
        "ranked_lower": 4,
        "near_copies": 0,
    }


def test_augment_select_dry_run_writes_nothing(medzoo, model, images, here):
    outcome = medzoo(
        "augment",
        "--gen",
        model,
        "--data",
        images,
        "--to",
        6,
        "--select",
        "random",
        "--pool",
        "3",
        "--dry-run",
        "--json",
    )
    assert [row["make"] for row in json.loads(outcome.out)["classes"]] == [{"tiny": 9}, {"tiny": 12}]
    assert "kept: 7 by random" in outcome.err
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--select", "agrement"), "unknown criterion 'agrement'"),
        (("--select", "random", "--select", "distance"), "--select random is the control for distance"),
        (("--select", "novelty", "--pool", "1"), "--pool 1 leaves nothing to select from"),
        (("--pool", "2"), "--pool draws more images than are kept, without --select"),
        (("--select", "novelty", "--extractor", "nothing"), "unknown extractor 'nothing'"),
    ],
)
def test_augment_select_bad_option(medzoo, model, images, here, options, message):
    outcome = medzoo("augment", "--gen", model, "--data", images, "--to", 6, *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(here.iterdir())
