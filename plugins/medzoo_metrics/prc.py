"""Precision and recall of synthetic images (Kynkaanniemi et al. 2019)."""

from __future__ import annotations

from medzoo import MetricSpec, Sample, Score
from medzoo.specs import DOMAIN

NEIGHBORS = 3


def prc(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the harmonic mean of precision and recall, in [0, 1].

    Precision is the share of synthetic images that are nearer to some real image than its third neighbor among the real
    images is; recall is the same with the sets exchanged. `seed` is not used.
    """
    from torch_fidelity.metric_prc import (
        KEY_METRIC_F_SCORE,
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    from medzoo.toolkit.metric_samples import features_of

    found = prc_features_to_metric(
        features_of(fake),  # torch-fidelity takes the synthetic ones first
        features_of(real),
        prc_neighborhood=NEIGHBORS,
        save_cpu_ram=True,
        verbose=False,
    )
    return Score(
        value=found[KEY_METRIC_F_SCORE],
        n_real=real.size,
        n_fake=fake.size,
        details={"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]},
        method=f"F-score; balls that reach to neighbor {NEIGHBORS} of the same set",
    )


PRC = MetricSpec(
    contract=2,
    name="prc",
    summary="F-score of precision (realism of synthetic images) and recall (coverage of real images)",
    unit="share",
    higher_is_better=True,
    needs_features=("features",),
    extractors=("efficientnet-lite0", "vgg16", DOMAIN),
    min_samples=NEIGHBORS + 1,
    baseline=True,
    symmetric=True,
    build=lambda: prc,
)
