"""Which run a folder belongs to."""

from __future__ import annotations

import json

import pytest

from medzoo.errors import DataError
from medzoo.runs.identity import lock_run_dir


def test_claim_folder_with_old_setting_names_raises(tmp_path):
    lock_run_dir(tmp_path / "run", {"config": {"training.rate": 0.1, "training.epochs": 3}})
    plan = tmp_path / "run" / ".medzoo-plan.json"
    before = plan.read_bytes()
    with pytest.raises(
        DataError, match=r"earlier version of medzoo: its config\.training\.rate was renamed to config\.t"
    ):
        lock_run_dir(tmp_path / "run", {"config": {"training.learning_rate": 0.1, "training.epochs": 3}})
    assert plan.read_bytes() == before
    assert json.loads(before)["config"]["training.rate"] == 0.1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 900 + "1" + "}" * 900, '{"a"', "5", "\x00"])
def test_lock_run_dir_damaged_plan(tmp_path, text):
    (tmp_path / ".medzoo-plan.json").write_text(text)
    with pytest.raises(DataError):
        lock_run_dir(tmp_path, {"job": "train"})
    assert (tmp_path / ".medzoo-plan.json").read_text() == text
