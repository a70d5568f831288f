"""Differentiable augmentation: what it changes, by how much, and that gradients come back through it."""

from __future__ import annotations

import pytest
import torch

from medzoo.toolkit.training.diffaugment import cut_out, differentiable_augment, jitter_color, translate

COUNT = 200


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=COUNT, channels=1, side=16):
    return 2.0 * torch.rand(count, channels, side, side, generator=random(7)) - 1.0


def test_differentiable_augment_off_is_identity():
    images = noise()
    assert differentiable_augment(images, color=0.0, translation=0.0, cutout=0.0, random=random()) is images


@pytest.mark.parametrize("only", ["color", "translation", "cutout"])
def test_differentiable_augment_single_change_repeats_by_seed(only):
    images = noise()
    shares = {"color": 0.0, "translation": 0.0, "cutout": 0.0} | {only: 0.25}
    changed = differentiable_augment(images, **shares, random=random())
    direct = {
        "color": lambda: jitter_color(images, strength=0.25, random=random()),
        "translation": lambda: translate(images, share=0.25, random=random()),
        "cutout": lambda: cut_out(images, share=0.25, random=random()),
    }[only]()
    assert torch.equal(changed, direct)
    assert not torch.equal(changed, differentiable_augment(images, **shares, random=random(1)))
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_jitter_color_brightness_and_contrast_bounds(strength):
    images = noise()
    changed = jitter_color(images, strength=strength, random=random())
    shift = (changed - images).mean(dim=(1, 2, 3))
    assert 0.47 * strength < shift.abs().max() <= 0.5 * strength + 1e-6
    assert shift.min() < -0.4 * strength
    scale = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 1.0 - 0.5 * strength - 1e-5 <= scale.min() < 1.0 - 0.47 * strength
    assert 1.0 + 0.47 * strength < scale.max() <= 1.0 + 0.5 * strength + 1e-5


def test_jitter_color_saturation_keeps_gray():
    images = noise(channels=3)
    changed = jitter_color(images, strength=1.0, random=random())
    gray, changed_gray = images.mean(dim=1), changed.mean(dim=1)
    mean, changed_mean = gray.mean(dim=(1, 2)), changed_gray.mean(dim=(1, 2))
    contrast = changed_gray.std(dim=(1, 2)) / gray.std(dim=(1, 2))
    expected = (gray - mean.view(-1, 1, 1)) * contrast.view(-1, 1, 1) + changed_mean.view(-1, 1, 1)
    assert torch.allclose(changed_gray, expected, atol=1e-5)
    color = (changed - changed_gray[:, None]).flatten(1).norm(dim=1) / (images - gray[:, None]).flatten(1).norm(dim=1)
    saturation = color / contrast
    assert 0.0 <= saturation.min() < 0.1
    assert 1.9 < saturation.max() <= 2.0 + 1e-5


def test_translate_covers_all_shifts():
    images = noise(channels=3) + 3.0
    moved = translate(images, share=0.125, random=random())
    seen = set()
    for before, after in zip(images, moved, strict=True):
        matches = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if torch.equal(after, shifted(before, down, right))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def shifted(image, down, right):
    """`image` (C, 16, 16) moved by slicing, 0 where nothing is."""
    moved = torch.zeros_like(image)
    rows = slice(max(0, down), 16 + min(0, down)), slice(max(0, -down), 16 + min(0, -down))
    columns = slice(max(0, right), 16 + min(0, right)), slice(max(0, -right), 16 + min(0, -right))
    moved[:, rows[0], columns[0]] = image[:, rows[1], columns[1]]
    return moved


def test_cut_out_blanks_one_rectangle():
    images = noise(channels=3) + 3.0
    cut = cut_out(images, share=0.5, random=random())
    blank = cut == 0
    assert (blank | (cut == images)).all()
    assert torch.equal(blank[:, 0], blank[:, 2])
    heights, widths = blank[:, 0].any(dim=2).sum(dim=1), blank[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(blank[:, 0].sum(dim=(1, 2)), heights * widths), "a rectangle"
    assert (heights.min(), heights.max()) == (4, 8), "half of the side, and half of that where it leaves the image"
    assert (widths.min(), widths.max()) == (4, 8)
    assert blank.any(dim=0).all(), "no pixel is spared for ever"


def test_cut_out_odd_size():
    cut = cut_out(torch.ones(COUNT, 1, 16, 16), share=3 / 16, random=random())
    assert {int(size) for size in (cut == 0).sum(dim=(1, 2, 3))} == {4, 6, 9}


def test_differentiable_augment_gradients_reach_visible_pixels():
    images = (noise(8) + 3.0).requires_grad_()
    changed = differentiable_augment(images, color=0.0, translation=0.125, cutout=0.5, random=random())
    (gradient,) = torch.autograd.grad(changed.sum(), images)
    assert torch.equal(gradient.sum(dim=(1, 2, 3)), (changed != 0).sum(dim=(1, 2, 3)).float())
    assert set(gradient.unique().tolist()) == {0.0, 1.0}
    (gradient,) = torch.autograd.grad(jitter_color(images, strength=1.0, random=random()).square().sum(), images)
    assert (gradient != 0).all()


def test_differentiable_augment_keeps_shape_dtype_and_other_images():
    images = noise(8).to(torch.bfloat16)
    settings = {"color": 1.0, "translation": 0.125, "cutout": 0.5}
    changed = differentiable_augment(images, **settings, random=random())
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    images = noise(8)
    others = torch.cat([images[:4], -images[4:]])
    both = [differentiable_augment(some, **settings, random=random())[:4] for some in (images, others)]
    assert torch.equal(*both)
