"""A metric under test: the sets it measures, and its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from medzoo.protocols import Sample, Score
from medzoo.testing.contract import ContractError, global_state_monitored
from medzoo.testing.fake_samples import FakeSamples
from medzoo.testing.monitor import Monitor, monitored

if TYPE_CHECKING:
    from medzoo.specs import MetricSpec

SIDES = (32, 192)
_CPU = torch.device("cpu")
_SEED = 2**62 + 5


class MetricSubject:
    """A metric under test, the sets it is tested with, and what was seen of it.

    Images have 32 pixels a side, or 192 where it takes no smaller ones, of which there are then fewer.
    """

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self.device = _CPU
        self.metric: Any = None
        self.touched: set[str] = set()
        self.seen = {"score": Monitor()}
        self.config: Any = None
        self.use(SIDES[0])

    def use(self, side: int) -> None:
        """Make the sets of images of this size."""
        self.sets = FakeSamples(self.spec, side=side)
        few = 4 if side > SIDES[0] else 20
        self.fakes = max(few, self.spec.min_samples)
        self.reals = self.fakes + 2
        self.real, self.fake = self.sets.good(self.reals), self.sets.good(self.fakes, seed=1)
        self.train = self.sets.train(self.fakes + 4)

    def score(self, real: Sample | None = None, fake: Sample | None = None, *, seed: int = _SEED) -> Score:
        """Score `fake` against `real`, good images where omitted. Raises: what the metric raises."""
        real, fake = real or self.real, fake or self.fake
        more = {"train": self.train} if self.spec.needs_train else {}
        with global_state_monitored(_CPU, self.touched, "by the metric"), monitored(self.seen["score"]):
            score = self.metric(real, fake, seed=seed, **more)
        if not isinstance(score, Score):
            raise ContractError(f"expected a Score, got {type(score).__name__}")
        return score
