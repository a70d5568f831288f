"""docs/plugins.md names every check, state and bound there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medzoo.plugins import discovery
from medzoo.plugins.lookup import load_plugins
from medzoo.testing import classifier_checks, generator_checks, metric_checks, monitor

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text("utf-8")
PLUGINS = load_plugins()


@pytest.mark.parametrize(
    ("checks", "sections"),
    [
        (generator_checks(PLUGINS.generator("ldm")), ("Generators and classifiers", "Generators")),
        (classifier_checks(PLUGINS.classifier("cnn")), ("Generators and classifiers", "Classifiers")),
        (metric_checks(PLUGINS.metric("fid")), ("Metrics",)),
    ],
)
def test_plugins_page_explains_every_check(checks, sections):
    told = set()
    for section in sections:
        table = PAGE.partition(f"\n### {section}\n")[2].partition("\n### ")[0]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        told |= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {name.removeprefix("multi-label ") for name in (check.id for check in checks.args[1])} == told


def test_plugins_page_limits_match_code():
    assert f"within {discovery._DEFAULT_TIMEOUT:g} seconds (`{discovery.TIMEOUT}`" in PAGE
    assert f"a guide: {monitor.GUIDE_SECONDS:g} s on a current CPU" in PAGE
    assert monitor.MAX_MEMORY == 1 << 30
    assert "at most 1 GiB" in PAGE
