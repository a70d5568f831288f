"""Precision and recall of synthetic images (Kynkaanniemi et al. 2019)."""

from __future__ import annotations

from torch_fidelity.metric_prc import (
    KEY_METRIC_F_SCORE,
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from medzoo.protocols import Sample, Score
from medzoo.toolkit.metric_samples import FAKE, REAL, expect_enough, features_of

NEIGHBOURS = 3


def prc(real: Sample, fake: Sample, *, seed: int) -> Score:
    """The harmonic mean of precision and recall, in [0, 1]; nothing is drawn from `seed`.

    Precision: the share of synthetic images nearer to some real image than its third neighbour among the real ones is.
    Recall: the same with the sets exchanged. Raises: DataError for fewer than four images a side.
    """
    expect_enough("prc", NEIGHBOURS + 1, real=real, synthetic=fake)
    found = prc_features_to_metric(
        features_of("prc", fake, FAKE),  # torch-fidelity wants the synthetic ones first
        features_of("prc", real, REAL),
        prc_neighborhood=NEIGHBOURS,
        save_cpu_ram=True,
        verbose=False,
    )
    return Score(
        value=found[KEY_METRIC_F_SCORE],
        n_real=real.size,
        n_fake=fake.size,
        details={"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]},
        method=f"F-score; balls that reach to neighbour {NEIGHBOURS} of the same set",
    )
