"""`make gpu-check` on the CPU: a tiny part, a tiny training with its resume, and tables of runs that were cut off."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("gpu_check")


@pytest.fixture
def context(check, tmp_path):
    return check.Context("cpu", True, 600.0, tmp_path, part="noise")


def test_measure_noise_records_each_way_of_drawing(check, context, tmp_path):
    check.measure_noise(context)
    (row,) = check.read_rows(tmp_path / check.RESULTS)
    assert (row["part"], row["error"]) == ("noise", "")
    assert all(row["values"][name] > 0 for name in ("at once ms", "ahead ms", "device ms", "network ms/step"))
    check.write_table(tmp_path)
    text = (tmp_path / check.TABLE).read_text("utf-8")
    assert "### noise" in text
    assert f"| {row['values']['at once ms']} |" in text


def test_train_and_resume_is_exact(check, context):
    values = {}
    one = check.Training("cnn", "tiny", "fp32", steps=6, resumed=3, images=24)
    check.train_and_resume(context, one, values)
    assert values["resume"] == "exact"
    assert values["images/s"] > 0


def test_trainings_cover_presets_and_precisions(check):
    found = check.trainings(quick=False, cuda=True)
    assert {one.precision for one in found} == {"bf16", "fp16"}
    defaults = {one.name for one in found if one.preset == "default"}
    assert {"ddpm", "ddpm-var", "dcgan", "ldm", "latent-ddpm"} <= defaults
    assert "paper" in {one.preset for one in found}


def test_context_case_records_errors_and_what_is_left_out(check, context, tmp_path):
    with context.case("broken"):
        raise RuntimeError("CUDA error: something\nmore")
    with context.case("long", needs=1e6) as values:
        assert values == {"skip": True}
    with (tmp_path / check.RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"part": "noise"})[:-3])  # what a process that was killed leaves
    broken, long = check.read_rows(tmp_path / check.RESULTS)
    assert broken["error"] == "RuntimeError: CUDA error: something more"
    assert long["error"].startswith("left out: ")
    assert "CUDA error: something more" in check.table([broken, long])
