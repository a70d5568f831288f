"""The sweep of a model's sampling settings, on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import load_script
from helpers.tiny import CLASSES, make_model

from medzoo.data.images import write_image

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "pareto.py"


@pytest.fixture(scope="module")
def pareto():
    return load_script(SCRIPT)


@pytest.fixture
def command(tmp_path):
    make_model(tmp_path / "model")
    random = np.random.default_rng(0)
    for label, count in zip(CLASSES, (8, 4, 4), strict=True):
        for number in range(count):
            pixels = random.integers(0, 256, (1, 16, 16), dtype=np.uint8)
            write_image(tmp_path / "real" / label / f"{number}.png", pixels)
    given = [tmp_path / "model", "--real", tmp_path / "real", "--out", tmp_path / "out", "--n", "10"]
    given += [
        "--steps",
        "2",
        "3",
        "--intervals",
        "none",
        "0.3:5",
        "--scales",
        "2",
        "--schedules",
        "karras",
        "--extractors",
        "pixels",
    ]
    return [str(each) for each in given] + ["--draws", "2", "--device", "cpu"]


def test_pareto_resumes_and_reports(pareto, command, tmp_path, capsys, monkeypatch):
    assert pareto.main(command) == 0
    points = [json.loads(line) for line in (tmp_path / "out" / "points.jsonl").read_text().splitlines()]
    assert [point["name"] for point in points][:2] == ["card", "2 dpm-solver++ karras 2.0"]
    cost = {point["name"]: point["evaluations"] for point in points}
    assert (cost["2 dpm-solver++ karras 2.0"], cost["3 dpm-solver++ karras 2.0"]) == (4, 6)
    assert 3 < cost["3 dpm-solver++ karras 2.0 0.3-5"] < 6
    assert {point["images"] for point in points} == {10}
    text = (tmp_path / "out" / "pareto.md").read_text()
    assert "means ± standard deviations over 2 draws of 8 real and 8 synthetic images" in text
    assert "| floor: real to real |" in text
    assert "(card) |" in text
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "points.jsonl").open("a") as file:
        file.write('{"identity": "cut o')
    monkeypatch.setattr(pareto.Bench, "measure", lambda *_: pytest.fail("measured again"))
    capsys.readouterr()
    assert pareto.main(command) == 0
    told = capsys.readouterr()
    assert told.out.count(", known") == len(points)
    assert "a line that was cut off" in told.err
    assert (tmp_path / "out" / "pareto.md").read_text() == text
    pareto.append_point(tmp_path / "out" / "points.jsonl", {"identity": "x"})
    assert set(pareto.read_points(tmp_path / "out" / "points.jsonl")) == {"x", *(point["identity"] for point in points)}


def test_pareto_shares_of_classes_are_the_real_ones(pareto, command):
    bench = pareto.prepare(pareto.parser().parse_args(command))
    assert bench.counts == {"thick-wall": 5, "normal": 3, "narrow-canal": 2}
    assert bench.n == 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--intervals", "5"], "sampling.guidance_interval = [5.0]: two noise levels are needed"),
        (["--intervals", "low"], "--intervals cannot take 'low'"),
        (["--schedules", "cosine"], "sampling.timestep_spacing = 'cosine'"),
        (["--extractors", "pixel"], "unknown extractor 'pixel'"),
    ],
)
def test_pareto_refuses_in_one_line(pareto, command, capsys, changes, told):
    assert pareto.main([*command, *changes]) != 0
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_pareto_refuses_training_images(pareto, command, tmp_path, capsys):
    from medzoo.data.dataset import open_dataset

    make_model(tmp_path / "model", trained_on=open_dataset(tmp_path / "real").fingerprints()[:3])
    assert pareto.main(command) == 5
    assert "3 of the 16 real images were used in training" in capsys.readouterr().err


def test_pareto_front_and_not_worse(pareto):
    def point(evaluations, kid, recall=0.5, spread=0.01):
        quality = {"kid": [kid, spread], "precision": [0.5, spread], "recall": [recall, spread]}
        return {"evaluations": evaluations, "processor_seconds_per_image": 1.0, "quality": {"pixels": quality}}

    points = {"card": point(50, 0.05), "fast": point(24, 0.055), "slow": point(24, 0.06), "bad": point(10, 0.07)}
    assert pareto.front(points) == {"card", "fast", "bad"}
    assert [name for name in points if pareto.not_worse(points[name], points["card"])] == ["card", "fast", "slow"]
    assert not pareto.not_worse(point(24, 0.05, recall=0.48), points["card"])
