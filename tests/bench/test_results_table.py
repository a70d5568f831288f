"""The table of results names every bundled generator, measured or not."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from medzoo.evaluation.results import Baseline, MetricResult
from medzoo.hub.registry import GENERATOR, load_registry
from medzoo.protocols import Score

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("results_table")


def test_page_names_every_bundled_generator(table: ModuleType) -> None:
    def result(name: str, value: float, **details: float) -> MetricResult:
        baseline = Baseline(n=60, draws=5, real=0.001, real_spread=0.0, fake=value, fake_spread=0.0)
        score = Score(value=value, n_real=125, n_fake=300, details=details)
        return MetricResult(name=name, unit="", better="", score=score, baseline=baseline)

    entry = next(entry for entry in table.generators() if entry.id == "dcgan-busi")
    extractors = (table.IMAGENET, *table.domain_classifiers(entry.dataset))
    results = [result(f"kid@{name}", 0.0712) for name in extractors]
    results += [result(f"prc@{table.IMAGENET}", 0.5, precision=0.75, recall=0.375)]
    results += [MetricResult(name="nearest-train@efficientnet-lite0", unit="", better="", missing="no training images")]
    named = {one.name: one for one in results}
    row = table.Row(entry=entry, results=named, n=300, held_out=125)
    of_one = {name: result for name, result in named.items() if name != "kid@cnn-busi"}
    assert "| 0.071 (0.001) | - | 0.500 (0.001) |" in table.row_of(
        table.Row(entry=entry, results=of_one, n=9, held_out=9)
    )
    page = table.page([row], command="python bench/results_table.py", machine="a CPU")
    assert (
        "| `dcgan-busi` | busi | 300 | 125 | 0.071 (0.001) | 0.071 (0.001) | 0.500 (0.001) | 0.75 | 0.38 | - |" in page
    )
    bundled = [entry.id for entry in load_registry().entries if entry.kind == GENERATOR]
    assert not [name for name in bundled if f"`{name}`" not in page]
    assert (table.domain_classifiers("busi"), table.domain_classifiers("rbc")) == (["cnn-busi"], [])
