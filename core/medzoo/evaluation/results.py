"""The results of an evaluation as plain values, which the report, CSV and JSON show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medzoo.protocols import Score
from medzoo.specs import ImageSpec

REAL, FAKE, TRAIN, OTHER = "real", "synthetic", "train", "unrelated"
"""The roles of image sets: held-out real images, synthetic ones, those trained on, and some of another kind."""


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """An image set as given: `sizes` such as "256x256" or "200x180 to 640x480", `codecs` such as "PNG".

    `data` is what its path was taken for, as `DataSummary.to_dict` gives it."""

    role: str
    path: str
    counts: Mapping[str, int]
    sizes: str
    color: str
    codecs: str
    fingerprint: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of images."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The real-vs-real baseline of a metric at `n` images per set, as means over seeded draws.

    `real` is the metric between two disjoint halves of the real images, `fake` between such a half and as many
    synthetic ones. Both have the same `n`, so they can be compared even if the metric depends on it.
    `real_spread` and `fake_spread` are standard deviations over the draws.
    """

    n: int
    draws: int
    real: float
    real_spread: float
    fake: float
    fake_spread: float


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A metric of the synthetic images of a class, or of all (`label` ""): a `score`, or why it is `missing`.

    `ideal` is the value of images like the real ones, if the metric states one. `name` includes the extractor, whose
    `preprocessing` and hash of `weights` ("" without any) follow.
    """

    name: str
    unit: str
    better: str
    label: str = ""
    score: Score | None = None
    missing: str = ""
    baseline: Baseline | None = None
    ideal: float | None = None
    preprocessing: str = ""
    weights: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairwiseResult:
    """A metric between two of the sets, named by their roles."""

    first: str
    second: str
    name: str
    score: Score | None = None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class SkippedMetric:
    """A metric that was not computed, the reason, and the command that makes it available."""

    name: str
    reason: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """A metric on images sampled from one checkpoint; `epoch` may be fractional."""

    step: int
    epoch: float
    name: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results of an evaluation.

    All sets were compared as `image` and `crop` say; `resized` is a sentence about it. `errors` maps a metric that
    raised what no metric may to the message. `provenance` is what run.json says of the job: command, versions, seeds,
    models and their lineage.
    """

    sets: tuple[SetSummary, ...]
    image: ImageSpec
    crop: str
    resized: str
    seed: int
    results: tuple[MetricResult, ...]
    per_class: tuple[MetricResult, ...] = ()
    pairwise: tuple[PairwiseResult, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    skipped: tuple[SkippedMetric, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def summary(self, role: str) -> SetSummary | None:
        """Return the summary of the set in a role, if there is one."""
        return next((facts for facts in self.sets if facts.role == role), None)
