"""Oversampling: the identity as a Generator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.toolkit.validation import check_init_images


class Duplicate(nn.Module):
    """A Generator without weights that oversamples: image i is a copy of `init_images[i]`."""

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        self.image = image

    def fit(
        self,
        data: LabeledImages,
        *,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Do nothing: there are no weights to train."""

    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Return a copy of the init_images, one per seed, float32 (N, C, H, W) in [0, 1]; seeds have no effect.

        Raises:
            DataError: no init_images, or not one label and one init_image per seed.
        """
        return check_init_images(self.image, seeds, labels, init_images).clone()
