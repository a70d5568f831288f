"""Mode collapse: the diversity of generated images within a class, compared with real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medzoo.protocols import LabeledImages, TrainingCallback
from medzoo.seeds import derive_seed, generator
from medzoo.toolkit.training.batches import pixels

IMAGES = 32
SIDE = 16


class CollapseMonitor:
    """Compares the same seeds of each class at every preview, and warns of classes with too little diversity.

    It warns from step `since` on: early in training all images are alike.
    """

    def __init__(
        self,
        data: LabeledImages,
        sample: Callable[[Sequence[int], Tensor], Tensor],
        *,
        warn_below: float,
        since: int,
        seed: int,
        callback: TrainingCallback,
    ) -> None:
        self.sample = sample
        self.warn_below = warn_below
        self.since = since
        self.callback = callback
        self.classes = data.classes
        self.seeds = [derive_seed(seed, "collapse", i) for i in range(IMAGES)]
        self.real = [self._real_distance(data, label, seed=seed) for label in range(len(data.classes))]

    def __call__(self, step: int) -> None:
        """Log the pairwise distance of each class relative to real images; warn of classes below `warn_below`."""
        shares: dict[str, float] = {}
        for label, (name, real) in enumerate(zip(self.classes, self.real, strict=True)):
            if real > 0:
                fake = self.sample(self.seeds, torch.full((IMAGES,), label))
                shares[name] = round(pairwise_distance(fake) / real, 3)
        self.callback.log_metadata("pairwise distance over that of real images", shares)
        low = [f"{name} {share:.0%}" for name, share in shares.items() if share < self.warn_below]
        if low and step >= self.since:
            self.callback.warn(
                f"step {step}: images of a class are too alike: {', '.join(low)} of what real ones differ by (at least "
                f"{self.warn_below:.0%} expected). Where longer training does not help, the generator has collapsed: "
                "set discriminator.color=1, translation=0.125 and cutout=0.5, or norm=spectral, or lower both rates"
            )

    @staticmethod
    def _real_distance(data: LabeledImages, label: int, *, seed: int) -> float:
        members = torch.from_numpy(data.labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator(seed, "collapse", label))
        chosen = members[order[:IMAGES]].tolist()
        if len(chosen) < 2:
            return 0.0
        return pairwise_distance(pixels(data, chosen))


def pairwise_distance(images: Tensor) -> float:
    """Return the mean over pairs of `images` (N, C, H, W), N at least 2, of the root mean square difference.

    Images are first reduced to 16 pixels per side, so that noise counts little.
    """
    small = functional.adaptive_avg_pool2d(images, min(SIDE, images.shape[-1])).flatten(1)
    return functional.pdist(small).mean().item() / math.sqrt(small.shape[1])
