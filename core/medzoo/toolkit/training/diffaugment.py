"""Differentiable augmentation of a discriminator's input (Zhao et al. 2020), against overfitting.

Real and generated images are augmented in the updates of both networks, and the generator's gradients flow through the
augmentation, so it does not leak into the generated images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medzoo.toolkit.devices import to_device


def differentiable_augment(
    images: Tensor, *, color: float, translation: float, cutout: float, random: torch.Generator
) -> Tensor:
    """Augment `images` (N, C, H, W) in [-1, 1], each by its own draws; values may leave that range, as in the paper.

    `color` is the strength of brightness, saturation and contrast changes (1 in the paper), `translation` the largest
    shift and `cutout` the side of an erased square, both as shares of the image's side (0.125 and 0.5 in the paper).
    Erased and padded pixels are 0, the middle of the range. 0 switches an augmentation off.
    """
    if color > 0:
        images = jitter_color(images, strength=color, random=random)
    if translation > 0:
        images = translate(images, share=translation, random=random)
    if cutout > 0:
        images = cut_out(images, share=cutout, random=random)
    return images


def jitter_color(images: Tensor, *, strength: float, random: torch.Generator) -> Tensor:
    """Change brightness, saturation and contrast of `images`.

    Add up to half of `strength`, then scale saturation by up to 1 +- `strength` and contrast by up to 1 +- half of it.
    """
    count = images.shape[0]
    draws = strength * to_device(2.0 * torch.rand(3, count, generator=random) - 1.0, images.device).to(images.dtype)
    brightness, saturation, contrast = draws.view(3, count, 1, 1, 1).unbind()
    images = images + brightness / 2.0
    gray = images.mean(dim=1, keepdim=True)
    images = (images - gray) * (1.0 + saturation) + gray
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (1.0 + contrast / 2.0) + mean


def translate(images: Tensor, *, share: float, random: torch.Generator) -> Tensor:
    """Shift `images` by whole pixels, up to `share` of the side along each axis, padded with 0."""
    count, channels, height, width = images.shape
    down, right = round(height * share), round(width * share)
    rows = _starts(count, 2 * down, random) + torch.arange(height)
    columns = _starts(count, 2 * right, random) + torch.arange(width)
    padded = functional.pad(images, (right, right, down, down))
    index = rows.view(count, 1, height, 1) * padded.shape[-1] + columns.view(count, 1, 1, width)
    index = to_device(index, images.device)
    return padded.flatten(2).gather(2, index.expand(-1, channels, -1, -1).flatten(2)).view_as(images)


def cut_out(images: Tensor, *, share: float, random: torch.Generator) -> Tensor:
    """Set a rectangle of `share` of the sides to 0 in each of `images`, centered anywhere in the image."""
    count, _, height, width = images.shape
    inside = []
    for side in (height, width):
        size = round(side * share)
        first = _starts(count, side - size % 2, random) - size // 2
        position = torch.arange(side)
        inside.append((position >= first) & (position < first + size))
    rows, columns = inside
    kept = ~(rows.view(count, 1, height, 1) & columns.view(count, 1, 1, width))
    return images * to_device(kept, images.device).to(images.dtype)


def _starts(count: int, last: int, random: torch.Generator) -> Tensor:
    """Draw integers from 0 to `last`, int64 (count, 1)."""
    return torch.randint(0, last + 1, (count, 1), generator=random)
