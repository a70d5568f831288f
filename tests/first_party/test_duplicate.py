"""Repetition: the init_images, as they are."""

from __future__ import annotations

import pytest
import torch

import medzoo_duplicate
from medzoo import ImageSpec
from medzoo.errors import DataError


@pytest.fixture
def duplicate():
    spec = medzoo_duplicate.register_generators()[0]
    return spec.build(spec.config(), ImageSpec(size=8, channels=3, classes=("a",)), "cpu")


def test_duplicate_returns_init_images(duplicate):
    init_images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(4, dtype=torch.int64)
    images = duplicate.sample([1, 2, 3, 4], labels, init_images=init_images)
    assert torch.equal(images, init_images)
    assert torch.equal(images, duplicate.sample([9, 9, 9, 9], labels, init_images=init_images))
    images.zero_()
    assert init_images.max() > 0, "a copy, so that what is done to it does not reach the source"


@pytest.mark.parametrize("init_images", [None, torch.zeros(3, 3, 8, 8)], ids=["none", "three"])
def test_duplicate_sample_requires_init_image_per_seed(init_images, duplicate):
    with pytest.raises(DataError, match=r"expected init_images \(2, 3, 8, 8\), got (none|\(3, 3, 8, 8\))"):
        duplicate.sample([1, 2], torch.zeros(2, dtype=torch.int64), init_images=init_images)


def test_duplicate_fit_is_parameter_free(duplicate):
    assert duplicate.state_dict() == {}
    duplicate.fit([], seed=0)
