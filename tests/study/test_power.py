"""How many images and readers a reading study needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medzoo.errors import ConfigError
from medzoo.study.power import study_power
from medzoo.study.statistics import equivalence, over_readers, roc_areas


def test_study_power_one_reader_published_formula() -> None:
    # Two one-sided tests at 5% with 80% power at a true difference of 0 need (1.645 + 1.282)^2 var / margin^2 (Chow,
    # Shao & Wang 2008, section 3.1); a share of right choices has a variance of 0.25 / n.
    [row] = study_power(margin=0.1, readers=[1], images=[214], pairs=True)
    assert row.needed == math.ceil((stats.norm.isf(0.05) + stats.norm.isf(0.1)) ** 2 * 0.25 / 0.1**2) == 215
    assert row.equivalence[0] == pytest.approx(0.8, abs=0.005)


def test_study_power_more_is_better() -> None:
    rows = study_power(margin=0.1, readers=[3, 5, 10], images=[20, 50, 100])
    for row in rows:
        assert list(row.equivalence) == sorted(row.equivalence)
        assert list(row.detection) == sorted(row.detection)
    assert [row.needed for row in rows] == sorted((row.needed or 0 for row in rows), reverse=True)


def test_study_power_is_that_of_simulated_studies() -> None:
    # Five readers who guess, with continuous ratings whose errors correlate by 0.4, 80 images of each set.
    random = np.random.default_rng(7)
    repetitions, readers, n = 300, 5, 80
    shown = 0
    for _ in range(repetitions):
        ratings = math.sqrt(0.4) * random.normal(size=(1, 2 * n)) + math.sqrt(0.6) * random.normal(
            size=(readers, 2 * n)
        )
        found = over_readers(roc_areas(ratings[:, :n], ratings[:, n:]))
        shown += equivalence(found, margin=0.1, center=0.5).shown
    [row] = study_power(margin=0.1, readers=[readers], images=[n], correlation=0.38, reader_sd=0.0)
    assert shown / repetitions == pytest.approx(row.equivalence[0], abs=0.08)


@pytest.mark.parametrize(
    "given", [{"margin": 0.0}, {"margin": 0.6}, {"readers": [0]}, {"images": [1]}, {"correlation": 1.5}]
)
def test_study_power_out_of_range(given: dict) -> None:
    with pytest.raises(ConfigError):
        study_power(**given)
