"""docs/plugins.md names every check, state and bound there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medzoo.plugins import discovery
from medzoo.plugins.lookup import load_plugins
from medzoo.testing import bounds
from medzoo.testing.classifiers import classifier_suite
from medzoo.testing.generators import generator_suite
from medzoo.testing.metrics import metric_suite

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text("utf-8")
PLUGINS = load_plugins()


@pytest.mark.parametrize(
    ("suite", "sections"),
    [
        (generator_suite(PLUGINS.generator("ldm")), ("Generators and classifiers", "Generators")),
        (classifier_suite(PLUGINS.classifier("cnn")), ("Generators and classifiers", "Classifiers")),
        (metric_suite(PLUGINS.metric("fid")), ("Metrics",)),
    ],
)
def test_plugins_page_explains_every_check(suite, sections):
    told = set()
    for section in sections:
        table = PAGE.partition(f"\n### {section}\n")[2].partition("\n### ")[0]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        told |= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {name.removeprefix("multi-label ") for name in suite.names} == told


def test_plugins_page_limits_match_code():
    assert f"within {discovery._DEFAULT_TIMEOUT:g} seconds (`{discovery.TIMEOUT}`" in PAGE
    assert f"a guide: {bounds.GUIDE_SECONDS:g} s on a current CPU" in PAGE
    assert bounds.MAX_MEMORY == 1 << 30
    assert "at most 1 GiB" in PAGE
