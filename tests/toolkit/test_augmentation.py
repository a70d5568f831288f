"""Changes of geometry that a network is told of."""

from __future__ import annotations

import pytest
import torch

from medzoo.toolkit.training.augmentation import GEOMETRY_CHANGES, change_geometry

UPSIDE_DOWN, SCALE, ROTATION = 0, 1, 3


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def changed(probability, *, count=400, seed=0):
    images = torch.rand(count, 1, 16, 16, generator=random(7))
    return images, *change_geometry(images, probability, random(seed))


def alone(changes, index):
    """Return the rows in which only change `index` was made."""
    made = changes != 0
    return (made[:, index] & (made.sum(dim=1) == 1)).nonzero()[:, 0]


def test_change_geometry_probability_0_is_identity():
    images, same, changes = changed(0.0)
    assert torch.equal(images, same)
    assert torch.equal(changes, torch.zeros(400, GEOMETRY_CHANGES))


def test_change_geometry_tells_of_all_that_changed():
    images, moved, changes = changed(0.1)
    told = (changes != 0).any(dim=1)
    assert torch.equal(told, (images != moved).flatten(1).any(dim=1))
    assert 0.25 < told.float().mean().item() < 0.5
    assert (moved.min() >= 0, moved.max() <= 1) == (True, True)


def test_change_geometry_upside_down_is_flip():
    images, moved, changes = changed(0.1)
    rows = alone(changes, UPSIDE_DOWN)
    assert len(rows) > 3
    assert torch.allclose(moved[rows], images[rows].flip(-2), atol=1e-5)


def test_change_geometry_scale_enlarges_about_center():
    disk = (torch.linspace(-1, 1, 16).square()[:, None] + torch.linspace(-1, 1, 16).square() < 0.25).float()
    moved, changes = change_geometry(disk.expand(400, 1, 16, 16), 0.1, random())
    rows = alone(changes, SCALE)
    area = moved[rows].sum(dim=(1, 2, 3)) / disk.sum()
    assert torch.allclose(area.log2(), 2 * changes[rows, SCALE], atol=0.25)


def test_change_geometry_shares_by_probability():
    changes = changed(0.3, count=4000)[2]
    made = (changes != 0).float().mean(dim=0)
    assert made[UPSIDE_DOWN].item() == pytest.approx(0.15, abs=0.03)
    assert made[ROTATION].item() == pytest.approx(0.3, abs=0.03)


def test_change_geometry_repeats_by_seed():
    first, again, other = (changed(0.5, seed=seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
