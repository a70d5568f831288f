"""The identity as a Generator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.protocols import LabelledImages, Report
from medzoo.toolkit.validation import sound_sources


class Duplicate(nn.Module):
    """A Generator without weights: image i is `sources[i]`."""

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        self.image = image

    def fit(self, data: LabelledImages, *, seed: int, report: Report) -> None:
        """Do nothing: there is nothing to learn."""

    def sample(self, seeds: Sequence[int], labels: Tensor, *, sources: Tensor | None = None) -> Tensor:
        """A copy of the sources, one a seed, whatever the seeds: float32 (N, C, H, W) in [0, 1].

        Raises:
            DataError: no sources, or other labels or sources than one a seed.
        """
        return sound_sources(self.image, seeds, labels, sources).clone()
