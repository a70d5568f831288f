"""`medzoo evaluate` as a user types it: offline, in an empty folder, and with input that cannot be measured."""

from __future__ import annotations

import csv
import json
import re
import runpy
from pathlib import Path

import pytest
from helpers.tiny import make_model

from medzoo.data.phantom import CLASSES, write_phantom
from medzoo.report.evaluation import report
from medzoo.storage.files import temporary_name

DOCS = Path(__file__).resolve().parents[2] / "docs"
FAST = ("--metric", "kid@cnn-udder", "--metric", "intensity")
RECORDS = ("run.json", "report.html", "evaluation.json")  # they hold times


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for name, seed in (("real", 1), ("fake", 2), ("train", 3)):
        write_phantom(root / name, counts=dict.fromkeys(CLASSES, 3), size=32, seed=seed)
    return root


@pytest.fixture
def paths(sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ("--real", sets / "real", "--fake", sets / "fake")


def test_evaluate_offline_lists_skipped_metrics(medzoo, paths, sets):
    done = medzoo("evaluate", *paths, "--train", sets / "train", "--out", "report")
    assert done.code == 0, done.err
    measured = {line.split()[0] for line in done.out.splitlines() if line.strip()}
    assert {"fid@cnn-udder", "kid@cnn-udder", "prc@cnn-udder", "ssim", "edge-density", "wasserstein"} <= measured
    assert {"nearest-train@pixels", "nearest-train@cnn-udder"} <= measured
    assert {f"{name}@efficientnet-lite0" for name in ("fid", "kid", "prc", "nearest-train")} <= measured
    (left_out,) = [line for line in done.err.splitlines() if line.startswith("skipped metrics")]
    assert "fid@inception" in left_out
    assert "medzoo pull inception-fid" in left_out
    assert "compared at 32x32 pixels in gray" in done.err
    assert "below 2048 images FID is biased upwards" in done.err
    assert done.out.splitlines()[-1] == "report/report.html"
    record = json.loads(Path("report/run.json").read_text())
    assert record["job"] == "evaluate"
    written = {output["file"] for output in record["outputs"]}
    assert {"report.html", "metrics.csv", "pairwise.csv", "evaluation.json"} <= written
    assert record["scores"]["ssim"]["n_real"] == 12
    assert set(record["weights"]) >= {"fid@cnn-udder"}
    with Path("report/metrics.csv").open() as file:
        assert {row["name"] for row in csv.DictReader(file)} >= {"kid@cnn-udder", "intensity"}


def test_evaluate_json(medzoo, paths):
    done = medzoo("evaluate", *paths, *FAST, "--per-class", "--json")
    told = json.loads(done.out)
    assert {row["name"] for row in told["results"]} == {"kid@cnn-udder", "intensity"}
    missing = {row["missing"] for row in told["per_class"] if row["name"] == "kid@cnn-udder"}
    assert missing == {"insufficient: it needs 50 images per set, there are 3 real and 3 synthetic"}


def test_evaluate_again_replaces_only_its_report(medzoo, paths):
    assert medzoo("evaluate", *paths, *FAST, "--out", "report").code == 0
    first = Path("report/metrics.csv").read_bytes()
    assert medzoo("evaluate", *paths, *FAST, "--out", "report").code == 0
    assert Path("report/metrics.csv").read_bytes() == first
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("precious")
    done = medzoo("evaluate", *paths, *FAST, "--out", "mine")
    assert done.code == 5
    assert "holds other files" in done.err
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in RECORDS}


@pytest.mark.parametrize("stopped", [0, 1, 3])
def test_evaluate_stopped_while_writing_continues(medzoo, paths, monkeypatch, stopped):
    assert medzoo("evaluate", *paths, *FAST, "--out", "whole").code == 0
    write, left = report.write_atomic, iter(range(stopped))

    def write_some(path, data):
        if next(left, None) is None:
            temporary_name(path).write_bytes(data[:10])
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_atomic", write_some)
        assert medzoo("evaluate", *paths, *FAST, "--out", "stopped").code == 130
    assert not Path("stopped/run.json").exists()
    again = medzoo("evaluate", *paths, *FAST, "--out", "stopped")
    assert (again.code, "error" in again.err) == (0, False)
    assert Path("stopped/run.json").exists()
    assert contents("stopped") == contents("whole")
    assert medzoo("evaluate", *paths, *FAST, "--out", "stopped").code == 0


def test_evaluate_over_damaged_records(medzoo, paths):
    """A cut run.json, and a folder of a version that wrote run.json alone."""
    assert medzoo("evaluate", *paths, *FAST, "--out", "report").code == 0
    whole = Path("report/run.json").read_bytes()
    Path("report/run.json").write_bytes(whole[:100])
    assert medzoo("evaluate", *paths, *FAST, "--out", "report").code == 0
    Path("report/.medzoo-plan.json").unlink()
    assert medzoo("evaluate", *paths, *FAST, "--out", "report").code == 0
    Path("report/.medzoo-plan.json").write_text(json.dumps({"job": "train"}))
    Path("report/run.json").unlink()
    assert "holds other files" in medzoo("evaluate", *paths, *FAST, "--out", "report").err


def test_evaluate_model_samples_images(medzoo, paths, sets, tmp_path):
    model = make_model(tmp_path / "model", classes=CLASSES)
    done = medzoo("evaluate", model, *paths[:2], "--n", 3, *FAST)
    assert done.code == 0, done.err
    assert re.search(r"intensity .* 12 +12", done.out)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--metric", "kidd"), 2, "kid"),
        (("--metric", "kid@cnn-uder"), 2, "cnn-udder"),
        (("--metric", "fid@inception"), 4, "medzoo pull inception-fid"),
        (("--metric", "nearest-train@pixels"), 5, "--train DIR"),
        (("--crop", "round"), 2, "center"),
        (("--train", "nowhere"), 5, "nowhere does not exist"),
    ],
)
def test_evaluate_invalid_arguments(medzoo, paths, arguments, code, says):
    done = medzoo("evaluate", *paths, *arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_evaluate_requires_images_or_a_model(medzoo, paths, sets):
    assert medzoo("evaluate", *paths[:2]).code == 2
    both = medzoo("evaluate", "ddpm-udder", *paths)
    assert both.code == 2
    assert "either" in both.err
    assert "--train" in medzoo("evaluate", "ddpm-udder", *paths[:2], "--checkpoints").err


def test_evaluate_training_images_as_real_are_refused(medzoo, paths, sets):
    done = medzoo("evaluate", *paths, "--train", sets / "real", *FAST)
    assert done.code == 5
    assert "12 of the 12 real images are among the training images" in done.err
    assert "--leave-out-seen" in done.err
    assert medzoo("evaluate", *paths, "--train", sets / "real", *FAST, "--allow-leak").code == 0


def test_metrics_page_python_example_runs(sets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(sets)
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "metrics.md").read_text(), flags=re.S)
    (tmp_path / "example.py").write_text(code)
    runpy.run_path(str(tmp_path / "example.py"))
    assert capsys.readouterr().out.startswith("ssim 0.")
