"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020), so that it cannot learn images by heart.

Real and generated images pass through the same random changes, in the discriminator's turn and in the generator's,
whose gradients flow back through them; so the changes do not leak into what is generated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def differentiable_augment(
    images: Tensor, *, color: float, translation: float, cutout: float, random: torch.Generator
) -> Tensor:
    """`images` (N, C, H, W) in [-1, 1], each changed in its own way; values may leave that range, as in the paper.

    `color` is the strength of brightness, saturation and contrast changes (1 in the paper), `translation` the largest
    shift and `cutout` the side of a blanked square, both as shares of the image's side (0.125 and 0.5 in the paper);
    what is blanked or shifted in is 0, the middle of the range. 0 switches each of them off.
    """
    if color > 0:
        images = change_color(images, strength=color, random=random)
    if translation > 0:
        images = translate(images, share=translation, random=random)
    if cutout > 0:
        images = cut_out(images, share=cutout, random=random)
    return images


def change_color(images: Tensor, *, strength: float, random: torch.Generator) -> Tensor:
    """`images` with up to half of `strength` added, then saturation and contrast scaled by up to 1 +- their share.

    Saturation is scaled by up to 1 +- `strength`, contrast by up to 1 +- half of it. Gray images have no saturation.
    """
    count = images.shape[0]
    draws = strength * (2.0 * torch.rand(3, count, generator=random) - 1.0).to(images.device, images.dtype)
    brightness, saturation, contrast = draws.view(3, count, 1, 1, 1).unbind()
    images = images + brightness / 2.0
    gray = images.mean(dim=1, keepdim=True)
    images = (images - gray) * (1.0 + saturation) + gray
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (1.0 + contrast / 2.0) + mean


def translate(images: Tensor, *, share: float, random: torch.Generator) -> Tensor:
    """`images` moved by whole pixels, up to `share` of the side along each axis; 0 fills what is bared."""
    count, channels, height, width = images.shape
    down, right = round(height * share), round(width * share)
    rows = _starts(count, 2 * down, random) + torch.arange(height)
    columns = _starts(count, 2 * right, random) + torch.arange(width)
    padded = functional.pad(images, (right, right, down, down))
    index = (rows.view(count, 1, height, 1) * padded.shape[-1] + columns.view(count, 1, 1, width)).to(images.device)
    return padded.flatten(2).gather(2, index.expand(-1, channels, -1, -1).flatten(2)).view_as(images)


def cut_out(images: Tensor, *, share: float, random: torch.Generator) -> Tensor:
    """`images`, each with a rectangle of `share` of the sides set to 0; its center is anywhere in the image."""
    count, _, height, width = images.shape
    inside = []
    for side in (height, width):
        size = round(side * share)
        first = _starts(count, side - size % 2, random) - size // 2
        place = torch.arange(side)
        inside.append((place >= first) & (place < first + size))
    rows, columns = inside
    kept = ~(rows.view(count, 1, height, 1) & columns.view(count, 1, 1, width))
    return images * kept.to(images.device, images.dtype)


def _starts(count: int, last: int, random: torch.Generator) -> Tensor:
    """Whole numbers from 0 to `last`, int64 (count, 1)."""
    return torch.randint(0, last + 1, (count, 1), generator=random)
