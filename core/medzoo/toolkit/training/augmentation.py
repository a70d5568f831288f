"""Augmentation of whole batches with independent draws per image: affine maps and RandAugment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as operations

from medzoo.toolkit.settings import AugmentationSettings

_LEVELS = 30.0


def augment(images: Tensor, settings: AugmentationSettings, random: torch.Generator) -> Tensor:
    """Augment `images` (N, C, H, W) in [0, 1] as in `settings`, except for mixup."""
    if settings.vertical_flip:
        flipped = (torch.rand(len(images), generator=random) < 0.5).to(images.device)
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(-2), images)
    if settings.rotation or settings.translation or settings.scale:
        images = _affine(images, settings, random)
    for _ in range(settings.randaugment_num_ops):
        images = _randaugment(images, settings.randaugment_magnitude, random)
    return images


def _affine(images: Tensor, settings: AugmentationSettings, random: torch.Generator) -> Tensor:
    """Rotate, shift and scale images about their center, padded with black."""
    angle, right, down, size = 2.0 * torch.rand(4, len(images), generator=random) - 1.0
    angle = torch.deg2rad(angle * settings.rotation)
    zoom = 1.0 / (1.0 + settings.scale * size)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # affine_grid's coordinates run from -1 to 1, so a share of the side is twice as much there
    rows = [cos, -sin, 2.0 * settings.translation * right, sin, cos, 2.0 * settings.translation * down]
    maps = torch.stack(rows, dim=1).view(-1, 2, 3).to(images.device)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _randaugment(images: Tensor, magnitude: int, random: torch.Generator) -> Tensor:
    """Apply a random RandAugment operation to each image (Cubuk et al. 2020), at torchvision's 31 magnitudes.

    Operation and sign are drawn per image; images with the same draw are processed together.
    """
    names = list(_OPERATIONS)
    chosen = torch.randint(2 * len(names), (len(images),), generator=random)
    varied = images.clone()
    for key in chosen.unique().tolist():
        index, direction = divmod(key, 2)
        rows = (chosen == key).nonzero()[:, 0].to(images.device)
        change = _OPERATIONS[names[index]]
        varied[rows] = change(images[rows], magnitude / _LEVELS * (1.0 - 2.0 * direction))
    return varied.clamp(0.0, 1.0)


def _sheared(images: Tensor, *, x: float = 0.0, y: float = 0.0) -> Tensor:
    degrees = torch.rad2deg(torch.tensor([x, y]).atan()).tolist()
    sheared: Tensor = operations.affine(
        images,
        angle=0.0,
        translate=[0, 0],
        scale=1.0,
        shear=degrees,
        interpolation=InterpolationMode.NEAREST,
        center=[0.0, 0.0],
    )
    return sheared


def _shifted(images: Tensor, *, right: float = 0.0, down: float = 0.0) -> Tensor:
    height, width = images.shape[-2:]
    translate = [int(right * width), int(down * height)]
    shifted: Tensor = operations.affine(images, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])
    return shifted


# By torchvision's names, from (images, strength in [-1, 1]); its ranges: RandAugment._AUGMENTATION_SPACE.
_OPERATIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda images, strength: images,
    "ShearX": lambda images, strength: _sheared(images, x=0.3 * strength),
    "ShearY": lambda images, strength: _sheared(images, y=0.3 * strength),
    "TranslateX": lambda images, strength: _shifted(images, right=150.0 / 331.0 * strength),
    "TranslateY": lambda images, strength: _shifted(images, down=150.0 / 331.0 * strength),
    "Rotate": lambda images, strength: operations.rotate(images, 30.0 * strength),
    "Brightness": lambda images, strength: operations.adjust_brightness(images, 1.0 + 0.9 * strength),
    "Color": lambda images, strength: operations.adjust_saturation(images, 1.0 + 0.9 * strength),
    "Contrast": lambda images, strength: operations.adjust_contrast(images, 1.0 + 0.9 * strength),
    "Sharpness": lambda images, strength: operations.adjust_sharpness(images, 1.0 + 0.9 * strength),
    "Posterize": lambda images, strength: operations.posterize(images, 8 - round(4.0 * abs(strength))),
    "Solarize": lambda images, strength: operations.solarize(images, 1.0 - abs(strength)),
    "AutoContrast": lambda images, strength: operations.autocontrast(images),
    "Equalize": lambda images, strength: operations.equalize(images),
}
