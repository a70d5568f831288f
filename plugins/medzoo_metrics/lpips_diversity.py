"""How different synthetic images look from each other (LPIPS: Zhang et al. 2018)."""

from __future__ import annotations

from medzoo import MetricSpec, Sample, Score

PAIRS = 500


def lpips_diversity(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the mean LPIPS distance of pairs of synthetic images; details as in `pairs.diversity`."""
    from medzoo_metrics.pairs import diversity

    assert fake.distance is not None, "the metric's spec asks for a distance"
    return diversity(fake.distance, "LPIPS distance", real, fake, seed=seed, pairs=PAIRS)


LPIPS_DIVERSITY = MetricSpec(
    contract=2,
    name="lpips-diversity",
    summary="mean LPIPS distance between synthetic images",
    unit="LPIPS",
    needs_pixels=True,
    needs_labels=True,
    needs_distance=True,
    extractors=("alexnet",),
    build=lambda: lpips_diversity,
)
