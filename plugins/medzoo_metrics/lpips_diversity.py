"""How different synthetic images look from each other (LPIPS: Zhang et al. 2018)."""

from __future__ import annotations

from medzoo.protocols import Sample, Score
from medzoo_metrics.pairs import diversity

PAIRS = 500


def lpips_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The mean LPIPS distance of pairs of synthetic images; figures and errors as in `pairs.diversity`."""
    assert fake.distance is not None, "the metric's spec asks for a distance"
    return diversity("lpips-diversity", fake.distance, "LPIPS distance", real, fake, seed=seed, pairs=PAIRS)
