"""The page on the toolkit, done: every file it shows is written and every command run, in a fresh environment."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from helpers.environments import Environment
from helpers.steps import Command, steps

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "toolkit.md"


def test_toolkit_page_works_as_written(tmp_path):
    environment, folder = Environment.create(tmp_path / "environment"), tmp_path / "medzoo-cvae"
    shown = list(steps(PAGE.read_text("utf-8")))
    assert Command(command="pytest", printed=()) in shown, "it makes all checks of both plugins"
    for step in shown:
        step.do(folder, environment)
    run = folder / "runs" / "cvae"
    with (run / "loss.csv").open(newline="", encoding="utf-8") as lines:
        assert {"loss", "pixel", "kl", "learning_rate"} <= csv.DictReader(lines).__next__().keys()
    assert json.loads((run / "run.json").read_text("utf-8"))["notes"]["reconstruction"]["images"] == 64
