"""What an evaluation found, as plain values: `medzoo evaluate` makes it, the report, CSV and JSON tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medzoo.protocols import Score
from medzoo.specs import ImageSpec

REAL, FAKE, TRAIN, OTHER = "real", "synthetic", "train", "unrelated"
"""The roles of image sets: held-out real images, synthetic ones, those trained on, and some of another kind."""


@dataclass(frozen=True, kw_only=True)
class SetFacts:
    """An image set as it was given: `sizes` such as "256x256" or "200x180 to 640x480", `codecs` such as "PNG"."""

    role: str
    path: str
    counts: Mapping[str, int]
    sizes: str
    colour: str
    codecs: str
    fingerprint: str

    @property
    def size(self) -> int:
        """How many images it has."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What sampling alone makes of a metric, at `n` images a side, as means over seeded draws.

    `real` is the metric between two disjoint halves of the real images, `fake` between such a half and as many
    synthetic ones; the two can be compared, which the metric on whole sets and its floor cannot where it depends on
    their size.
    `real_spread` and `fake_spread` are standard deviations over the draws.
    """

    n: int
    draws: int
    real: float
    real_spread: float
    fake: float
    fake_spread: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A metric of the synthetic images: a `score`, or in `missing` why there is none. `label` "" is of all classes.

    `name` is the metric's with its extractor, `preprocessing` what that does to images, `weights` its hash ("" for an
    extractor without any).
    """

    name: str
    unit: str
    better: str
    label: str = ""
    score: Score | None = None
    missing: str = ""
    floor: Floor | None = None
    preprocessing: str = ""
    weights: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """A metric between two of the sets, named by their roles (study B's table)."""

    first: str
    second: str
    name: str
    score: Score | None = None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A metric that could not be had, why, and the command that gets it."""

    name: str
    why: str
    mend: str


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """A metric on images drawn from one checkpoint; `epoch` may lie between two."""

    step: int
    epoch: float
    name: str
    score: Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything an evaluation found.

    `image` and `crop` say as what all sets were compared; `resized` tells it in a sentence. `broken` are metrics that
    raised what no metric may, and what that was. `provenance` is what
    run.json says of the job: command, versions, seeds, models and their lineage.
    """

    sets: tuple[SetFacts, ...]
    image: ImageSpec
    crop: str
    resized: str
    seed: int
    rows: tuple[Row, ...]
    per_class: tuple[Row, ...] = ()
    pairwise: tuple[PairRow, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def facts(self, role: str) -> SetFacts | None:
        """The set of that role, if there is one."""
        return next((facts for facts in self.sets if facts.role == role), None)
