"""An evaluation with made-up scores, and images to go with it, for tests of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medzoo.evaluation.results import (
    FAKE,
    OTHER,
    REAL,
    TRAIN,
    Baseline,
    Evaluation,
    MetricResult,
    PairwiseResult,
    SetSummary,
    SkippedMetric,
    TrendPoint,
)
from medzoo.protocols import Curve, Histogram, Pair, Score
from medzoo.specs import ImageSpec

CLASSES = ("benign", "malignant", "normal")
RESIZE = "64 x 64, gray repeated, bicubic"


@dataclass
class MadeImages:
    """Sets of random images: `of[role]` are uint8 (N, C, H, W), image i of class i modulo their number."""

    classes: tuple[str, ...]
    of: dict[str, np.ndarray]
    names: dict[str, list[str]] = field(default_factory=dict)

    def images(self, role: str, indices: Sequence[int]) -> np.ndarray:
        return self.of[role][list(indices)]

    def indices(self, role: str, label: str | None, count: int) -> Sequence[int]:
        own = range(len(self.of.get(role, ())))
        if label is not None:
            own = own[self.classes.index(label) :: len(self.classes)]
        return own[:count]

    def name(self, role: str, index: int) -> str:
        return self.names[role][index] if role in self.names else f"{role}-{index}.png"


def made_images(
    classes: tuple[str, ...] = CLASSES, *, size: int = 16, channels: int = 1, train: bool = True, each: int = 4
) -> MadeImages:
    """As many random images of each class and set."""
    rng = np.random.default_rng(0)
    roles = (REAL, FAKE, TRAIN) if train else (REAL, FAKE)
    shape = (each * len(classes), channels, size, size)
    return MadeImages(classes, {role: rng.integers(0, 256, shape, dtype=np.uint8) for role in roles})


def facts(role: str, classes: tuple[str, ...], each: int, path: str = "") -> SetSummary:
    """What a set was given as."""
    return SetSummary(
        role=role,
        path=path or f"/data/{role}",
        counts=dict.fromkeys(classes, each),
        sizes="190x335 to 1024x719",
        color="gray",
        codecs="PNG",
        fingerprint="3f" * 32,
    )


def histogram() -> Histogram:
    """Two bell curves."""
    edges = np.linspace(0, 1, 33)
    middles = (edges[1:] + edges[:-1]) / 2
    shares = {role: np.exp(-(((middles - at) / 0.2) ** 2)) for role, at in ((REAL, 0.3), (FAKE, 0.4))}
    spread = {role: tuple(float(part) for part in values / values.sum()) for role, values in shares.items()}
    return Histogram(title="mean intensity", unit="0 to 1", edges=tuple(edges.tolist()), shares=spread)


def curve() -> Curve:
    """A line that falls."""
    lines = {FAKE: (1.0, 0.9, 0.7, 0.5), "real: half against half": (1.0, 1.1, 0.9, 1.0)}
    x = (0.25, 0.5, 0.75, 1.0)
    return Curve(
        title="power", x_label="frequency", y_label="ratio", x=x, lines=lines, reference=1.0, marked=(0.5, 1.0)
    )


def kid(value: float = -0.00312, *, n_real: int = 125, n_fake: int = 500) -> Score:
    """A score with a spread, an interval and a method."""
    return Score(
        value=value,
        n_real=n_real,
        n_fake=n_fake,
        spread=0.00081,
        spread_over="subsets",
        interval=(value - 0.002, value + 0.002),
        method="100 subsets of 125 images",
    )


def rows(pairs: int = 4) -> tuple[MetricResult, ...]:
    """One row of each kind a reader meets."""
    floor = Baseline(n=62, draws=10, real=0.0021, real_spread=0.0008, fake=0.0312, fake_spread=0.0019)
    wide = Baseline(n=62, draws=10, real=21.4, real_spread=2.8, fake=23.1, fake_spread=3.1)
    domain = {"preprocessing": RESIZE, "weights": "ab12" * 16}
    precision = Score(value=0.71, n_real=125, n_fake=500, details={"precision": 0.71, "recall": 0.05})
    closest = tuple(Pair(fake=index, train=index + 1, distance=1.5 + index) for index in range(pairs))
    copies = Score(value=0.184, n_real=125, n_fake=500, pairs=closest, failed=True, histogram=histogram())
    small = "FID is biased below 2,048 images: compare at equal n, and read KID first"
    return (
        MetricResult(name="kid@cnn-busi", unit="", better="lower", score=kid(), baseline=floor, **domain),
        MetricResult(
            name="fid@cnn-busi",
            unit="",
            better="lower",
            score=Score(value=23.91234, n_real=125, n_fake=500),
            baseline=wide,
            warnings=(small,),
            **domain,
        ),
        MetricResult(name="prc@cnn-busi", unit="", better="higher", score=precision, **domain),
        MetricResult(
            name="intensity",
            unit="0 to 1",
            better="neither",
            score=Score(value=0.2512, n_real=125, n_fake=500, details={"std": math.nan}, histogram=histogram()),
        ),
        MetricResult(name="nearest-train@pixels", unit="share", better="lower", score=copies, preprocessing="16 x 16"),
        MetricResult(
            name="grain",
            unit="ratio",
            better="neither",
            ideal=1.0,
            score=Score(value=0.84, n_real=125, n_fake=500, curve=curve()),
        ),
        MetricResult(
            name="ms-ssim", unit="", better="neither", missing="it needs sides over 160 pixels, these have 64"
        ),
    )


def made_evaluation(
    classes: tuple[str, ...] = CLASSES,
    *,
    size: int = 16,
    channels: int = 1,
    each: int = 4,
    results: tuple[MetricResult, ...] = rows(),
    **other: object,
) -> Evaluation:
    """An evaluation of sets with `each` images a class, and whatever else is asked for."""
    sets = tuple(facts(role, classes, each) for role in (REAL, FAKE, TRAIN))
    given = {"sets": sets, "image": ImageSpec(size=size, channels=channels, classes=classes), "crop": "none"}
    return Evaluation(
        **{**given, "resized": "Sets differ in size and were resized alike.", "seed": 0, "results": results, **other}
    )


def full_evaluation(classes: tuple[str, ...] = CLASSES, **other: object) -> Evaluation:
    """An evaluation that has every section."""
    per_class = tuple(
        MetricResult(name=name, unit="", better="lower", label=label, preprocessing=RESIZE, **found)
        for index, label in enumerate(classes)
        for name in ("kid@cnn-busi", "ssim")
        for found in [{"score": kid(0.01 * index)} if index else {"missing": "insufficient: 18 of 50 real images"}]
    )
    sides = (REAL, FAKE, TRAIN, OTHER)
    pairwise = tuple(
        PairwiseResult(first=first, second=second, name=name, score=kid(0.1 * place))
        for name in ("fid@cnn-busi", "ssim")
        for place, first in enumerate(sides)
        for second in sides[place + 1 :]
    )
    trend = tuple(
        TrendPoint(step=step, epoch=step / 50, name="kid@cnn-busi", score=kid(0.05 - step / 1e5 + (step > 2000) * 0.01))
        for step in range(500, 3001, 500)
    )
    left = SkippedMetric(name="fid@inception", reason="its weights are not here", hint="medzoo pull inception")
    record = {
        "command": ["medzoo", "evaluate", "--real", "busi/test", "--fake", "out/fake images"],
        "medzoo": "0.1.0",
        "seeds": {"evaluation": 0},
        "models": [{"id": "ldm-busi", "trained_on": ["9c" * 32], "weights_sha256": "77" * 32}],
        "libraries": {"python": "3.11", "torch": None},
    }
    given = {"per_class": per_class, "pairwise": pairwise, "trend": trend, "skipped": (left,), "provenance": record}
    warnings = ("19 of 125 real images show the same scan as a training image",)
    return made_evaluation(classes, **{**given, "warnings": warnings, **other})
