"""Augmentation of whole batches with independent draws per image: affine maps and RandAugment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as operations

from medzoo.toolkit.devices import to_device
from medzoo.toolkit.settings import AugmentationSettings

GEOMETRY_CHANGES = 8  # numbers that tell what `change_geometry` did to an image
_LEVELS = 30.0


def augment(images: Tensor, settings: AugmentationSettings, random: torch.Generator) -> Tensor:
    """Augment `images` (N, C, H, W) in [0, 1] as in `settings`, except for mixup."""
    if settings.vertical_flip:
        flipped = to_device(torch.rand(len(images), generator=random) < 0.5, images.device)
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
    maps = to_device(torch.stack(rows, dim=1).view(-1, 2, 3), images.device)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def change_geometry(images: Tensor, probability: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change `images` (N, C, H, W) at random, and return them with the changes, float32 (N, GEOMETRY_CHANGES).

    Upside down, scale, rotation, stretch along a random axis and shift, each with `probability`, the first half as
    often (Karras et al. 2022, appendix F.2, of Karras et al. 2020). A network that is given the changes, 0 where
    there is none, learns from them and does not draw them.
    """
    count = len(images)

    def some(values: Tensor) -> Tensor:
        return values * (torch.rand(count, generator=random) < probability)

    def normal() -> Tensor:
        return torch.randn(count, generator=random)

    def angles() -> Tensor:
        return math.pi * (2.0 * torch.rand(count, generator=random) - 1.0)

    upside_down = some((torch.rand(count, generator=random) < 0.5).float())
    scale, angle = some(0.2 * normal()), some(angles())
    stretch, axis = some(0.2 * normal()), angles()
    shift = some(torch.full((count,), 0.25))  # of coordinates from -1 to 1: an eighth of the side
    right, down = shift * normal(), shift * normal()
    maps = torch.eye(3).expand(count, 3, 3).clone()
    maps[:, 1, 1] = 1.0 - 2.0 * upside_down
    maps = maps @ _scaling(2.0**-scale, 2.0**-scale) @ _turn(-angle)
    maps = maps @ _turn(axis) @ _scaling(2.0**-stretch, 2.0**stretch) @ _turn(-axis)
    maps[:, :2, 2] = torch.stack([right, down], dim=1)
    grid = functional.affine_grid(to_device(maps[:, :2], images.device), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    found = [
        upside_down,
        scale,
        angle.cos() - 1.0,
        angle.sin(),
        stretch * axis.cos(),
        stretch * axis.sin(),
        right,
        down,
    ]
    changes = to_device(torch.stack(found, dim=1), images.device)
    changed = (changes != 0).any(dim=1).view(-1, 1, 1, 1)
    return torch.where(changed, moved, images), changes


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _turn(angle: Tensor) -> Tensor:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).view(-1, 3, 3)


def _randaugment(images: Tensor, magnitude: int, random: torch.Generator) -> Tensor:
    """Apply a random RandAugment operation to each image (Cubuk et al. 2020), at torchvision's 31 magnitudes.

    Operation and sign are drawn per image; images with the same draw are processed together.
    """
    names = list(_OPERATIONS)
    chosen = torch.randint(2 * len(names), (len(images),), generator=random)
    varied = images.clone()
    for key in chosen.unique().tolist():
        index, direction = divmod(key, 2)
        rows = to_device((chosen == key).nonzero()[:, 0], images.device)
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
