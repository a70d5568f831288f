"""The report of an experiment: what it says of arms, failures and odd values, and that it repeats itself."""

from __future__ import annotations

import csv
import io
import json

import pytest
from example_experiment import made_experiment

from medzoo.pipelines.report.experiment import write_experiment_report

FAILED = frozenset({("ldm", "resnet18", 2)})
MISSING = frozenset({("classic", "cnn", 4)})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of a report with a failed and a missing cell."""
    folder = tmp_path_factory.mktemp("experiment")
    experiment = made_experiment(folder, failed=FAILED, missing=MISSING, warnings=("scans of one patient lie apart",))
    return {name: (folder / name).read_bytes() for name in write_experiment_report(experiment)}


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_failed_cell_is_shown_with_its_error_and_never_left_out_silently(written):
    page = written["report.html"].decode()
    assert "Failed: resnet18 on ldm</strong>, fold 3." in page
    assert "the device ran out of memory at step 412" in page
    assert page.count("n&nbsp;=&nbsp;4 of 5<br>1 cell failed") == 4
    assert page.count("n&nbsp;=&nbsp;4 of 5<br>1 cell not run") == 4
    assert "68 of 70 cells have scores; 1 failed and 1 not run." in page
    (row,) = [row for row in table(written["cells.csv"]) if row["status"] == "failed"]
    assert (row["arm"], row["fold"], row["accuracy"], row["error"][:13]) == ("ldm", "2", "", "ResourceError")


def test_tables_hold_everything(written):
    assert len(table(written["cells.csv"])) == 70
    assert len(table(written["summaries.csv"])) == 7 * 2 * 6
    assert len(table(written["per_class.csv"])) == 68 * 3
    families = [row["against"] for row in table(written["comparisons.csv"])]
    assert {name: families.count(name) for name in families} == {
        "control: duplicate": 6,
        "control: classic": 6,
        "baseline": 12,
    }
    found = json.loads(written["results.json"])
    assert len(found["cells"]) == 70
    assert len(found["control_comparisons"]["duplicate"]) == 6
