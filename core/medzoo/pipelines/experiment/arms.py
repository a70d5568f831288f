"""Arms of an experiment: what each trains its classifiers on. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REAL, WEIGHTED, DUPLICATE, CLASSIC = "real", "weighted", "duplicate", "classic"
CONTROLS = (REAL, WEIGHTED, DUPLICATE, CLASSIC)
"""What synthetic images have to beat at equal count and equal optimiser steps."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of making the training set; `name` is unique in its experiment and is what reports print.

    `mixture` gives each generator's share of the synthetic images, summing to 1; empty where there are none.
    `target`: images of each class after filling, or in all where an image may have several labels; 0 without a mixture.
    `weighted`: the loss weighs classes by inverse frequency. `real_fraction` of the real training images are trained
    on, after the classifier was trained on the mixture's images alone where `pretrain`. `geometric`: flips, rotations
    and shifts are added to the classifier's own augmentation.
    """

    name: str
    mixture: Mapping[str, float] = field(default_factory=dict)
    target: int = 0
    weighted: bool = False
    pretrain: bool = False
    real_fraction: float = 1.0
    geometric: bool = False

    @property
    def control(self) -> bool:
        """Whether it is one that generated images have to beat."""
        return not set(self.mixture) - {DUPLICATE, CLASSIC}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "mixture": dict(self.mixture),
            "target": self.target,
            "weighted": self.weighted,
            "pretrain": self.pretrain,
            "real_fraction": self.real_fraction,
            "geometric": self.geometric,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """The inverse of `to_dict`."""
        return cls(**dict(values))
