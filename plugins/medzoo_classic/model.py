"""Classical augmentation, with independent draws per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from medzoo import ImageSpec
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import generator
from medzoo.toolkit.validation import check_init_images

if TYPE_CHECKING:
    from medzoo_classic.settings import ClassicConfig


class Classic(nn.Module):
    """A Generator without weights: image i is `init_images[i]`, augmented with draws from `seeds[i]`."""

    def __init__(self, config: ClassicConfig, image: ImageSpec) -> None:
        super().__init__()
        self.config = config
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

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Augment one init_image per seed, float32 (N, C, H, W) in [0, 1].

        Raises:
            DataError: no init_images, or not one label and one init_image per seed.
        """
        init_images = check_init_images(self.image, seeds, labels, init_images)
        return torch.stack([self.vary(source, seed) for source, seed in zip(init_images, seeds, strict=True)])

    def vary(self, image: Tensor, seed: int) -> Tensor:
        """Augment one image (C, H, W) with draws from `seed`; it is padded with black.

        Each transform has its own draws, so switching one on or off does not change the others.
        """
        random = generator("classic", seed)
        chances = torch.rand(2, generator=random).tolist()
        changes = (torch.rand(6, generator=random) * 2.0 - 1.0).tolist()
        rectangle = torch.rand(5, generator=random).tolist()
        if chances[0] < self.config.horizontal_flip:
            image = functional.horizontal_flip(image)
        if chances[1] < self.config.vertical_flip:
            image = functional.vertical_flip(image)
        image = self._affine(image, changes[1:])
        image = functional.adjust_brightness(image, 1.0 + self.config.brightness * changes[0])
        if self.config.noise > 0:
            grain = torch.randn(image.shape, generator=random).to(image.device)
            image = (image + self.config.noise * grain).clamp(0.0, 1.0)
        if rectangle[0] < self.config.erasing:
            image = erase(image, rectangle[1:])
        return image

    def _affine(self, image: Tensor, changes: Sequence[float]) -> Tensor:
        config = self.config
        if not any((config.rotation, config.translation, config.shear, config.zoom)):
            return image  # resampling blurs, even by the identity
        turn, right, down, lean, scale = changes
        moved: Tensor = functional.affine(
            image,
            angle=config.rotation * turn,
            translate=[config.translation * right * image.shape[-1], config.translation * down * image.shape[-2]],
            scale=1.0 + config.zoom * scale,
            shear=[config.shear * lean, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        return moved


def erase(image: Tensor, draws: Sequence[float]) -> Tensor:
    """Erase a rectangle of `image` to black (Zhong et al. 2020): 2 to 20% of the area, aspect ratio 1:3 to 3:1.

    `draws` are four numbers in [0, 1): area, aspect ratio, top, left.
    """
    height, width = image.shape[-2:]
    area = (0.02 + 0.18 * draws[0]) * height * width
    aspect = math.exp(math.log(3.0) * (2.0 * draws[1] - 1.0))
    tall = min(height, max(1, round(math.sqrt(area * aspect))))
    wide = min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = int(draws[2] * (height - tall + 1)), int(draws[3] * (width - wide + 1))
    black = torch.zeros(image.shape[0], tall, wide, dtype=image.dtype, device=image.device)
    erased: Tensor = functional.erase(image, top, left, tall, wide, black)
    return erased
