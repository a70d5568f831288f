"""The classic transforms: each one alone does what its name says, and only when it is switched on."""

from __future__ import annotations

import pytest
import torch

import medzoo_classic
from medzoo import ImageSpec
from medzoo.cli.options import parse_overrides
from medzoo.config import resolve
from medzoo.errors import ConfigError, DataError

OFF = ["horizontal_flip=0", "vertical_flip=0", "brightness=0"]
SIZE = 32


def classic(*overrides, channels=1):
    spec = medzoo_classic.register_generators()[0]
    config = resolve(
        spec.config, presets=spec.presets, overrides=parse_overrides([*OFF, f"image.size={SIZE}", *overrides])
    ).value
    return spec.build(config, ImageSpec(size=SIZE, channels=channels, classes=("a", "b")), "cpu")


def vary(generator, images, seeds=None):
    seeds = range(len(images)) if seeds is None else seeds
    return generator.sample(seeds, torch.zeros(len(images), dtype=torch.int64), init_images=images)


@pytest.fixture
def photos():
    return torch.rand(64, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def test_classic_all_off_returns_init_images(photos):
    images = vary(classic(), photos)
    assert torch.equal(images, photos)
    assert images.data_ptr() != photos.data_ptr()


@pytest.mark.parametrize(("setting", "axis"), [("horizontal_flip", -1), ("vertical_flip", -2)])
def test_classic_flip_mirrors_one_axis(setting, axis, photos):
    assert torch.equal(vary(classic(f"{setting}=1"), photos), photos.flip(axis))
    halves = vary(classic(f"{setting}=0.5"), photos)
    mirrored = [torch.equal(image, photo.flip(axis)) for image, photo in zip(halves, photos, strict=True)]
    assert 18 < sum(mirrored) < 46  # 32 expected, standard deviation 4


def test_classic_brightness_factor_range():
    images = vary(classic("brightness=0.2"), torch.full((200, 1, SIZE, SIZE), 0.5)).flatten(1)
    assert torch.equal(images.amin(dim=1), images.amax(dim=1))
    factors = images[:, 0] / 0.5
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2
    assert abs(factors.mean() - 1.0) < 0.03


def test_classic_brightness_clips_at_white():
    assert vary(classic("brightness=1"), torch.full((20, 1, SIZE, SIZE), 0.9)).max() == 1.0


def center_of(images):
    """Row and column of each image's center of mass."""
    weight = images.flatten(1).sum(dim=1)
    place = torch.arange(images.shape[-1], dtype=torch.float32)
    rows = (images.sum(dim=(1, 3)) * place).sum(dim=1) / weight
    columns = (images.sum(dim=(1, 2)) * place).sum(dim=1) / weight
    return torch.stack([rows, columns], dim=1)


@pytest.fixture
def blob():
    image = torch.zeros(100, 1, SIZE, SIZE)
    image[:, :, 14:18, 14:18] = 1.0
    return image


def test_classic_translation_range(blob):
    moved = center_of(vary(classic("translation=0.25"), blob)) - 15.5
    assert 7.0 < moved.abs().max() <= 8.01
    assert (moved[:, 0] - moved[:, 1]).abs().max() > 1.0, "the two axes are drawn apart"


def test_classic_rotation_turns_about_center(blob):
    assert (center_of(vary(classic("rotation=90"), blob)) - 15.5).abs().max() < 0.2
    bar = torch.zeros(100, 1, SIZE, SIZE)
    bar[:, :, 14:18, 4:28] = 1.0
    turned = vary(classic("rotation=90"), bar)
    height = (turned.amax(dim=3) > 0.5).sum(dim=2).flatten()
    assert height.min() <= 6
    assert height.max() >= 20


def test_classic_zoom_area_range(blob):
    area = vary(classic("zoom=0.5"), blob).sum(dim=(1, 2, 3)) / 16.0
    assert 0.2 < area.min() < 0.5
    assert 1.8 < area.max() < 2.4


def test_classic_shear_shifts_rows_only(blob):
    stripe = torch.zeros(20, 1, SIZE, SIZE)
    stripe[:, :, :, 15:17] = 1.0
    sheared = vary(classic("shear=30"), stripe)
    assert not torch.allclose(sheared, stripe, atol=0.1)
    assert torch.allclose(sheared[:, :, 15:17], stripe[:, :, 15:17], atol=0.5)


def test_classic_translation_fills_with_black():
    assert vary(classic("translation=1"), torch.ones(20, 1, SIZE, SIZE)).amin(dim=(1, 2, 3)).max() == 0.0


def test_classic_noise_std_and_range(photos):
    gray = torch.full((64, 1, SIZE, SIZE), 0.5)
    grain = vary(classic("noise=0.05"), gray) - gray
    assert abs(grain.std() - 0.05) < 0.001
    noisy = vary(classic("noise=0.5"), photos)
    assert 0.0 == noisy.min() < noisy.max() == 1.0


def test_classic_erasing_one_rectangle_of_2_to_20_percent():
    erased = vary(classic("erasing=1", channels=3), torch.ones(200, 3, SIZE, SIZE)) == 0.0
    assert (erased[:, 0] == erased[:, 1]).all()
    tall = erased[:, 0].any(dim=2).sum(dim=1)
    wide = erased[:, 0].any(dim=1).sum(dim=1)
    area = erased[:, 0].sum(dim=(1, 2))
    assert (area == tall * wide).all(), "one rectangle"
    assert 0.01 < area.min() / SIZE**2 < 0.04
    assert 0.17 < area.max() / SIZE**2 < 0.22
    assert (tall / wide).max() < 4.5
    assert (tall / wide).min() > 1 / 4.5
    some = vary(classic("erasing=0.3"), torch.ones(200, 1, SIZE, SIZE)).amin(dim=(1, 2, 3)) == 0.0
    assert 40 < some.sum() < 80  # 60 expected, standard deviation 6.5


def test_classic_transforms_draw_independently():
    pictures = torch.full((50, 1, SIZE, SIZE), 0.4)
    bright = vary(classic("brightness=0.5"), pictures)
    both = vary(classic("brightness=0.5", "noise=0.001", "erasing=0"), pictures)
    assert (both - bright).abs().max() < 0.01


def test_classic_image_depends_only_on_its_seed(photos):
    generator = classic("brightness=0.5", "rotation=30", "noise=0.1", "erasing=0.5")
    seeds = [10**15 + k for k in range(len(photos))]
    whole = vary(generator, photos, seeds)
    assert torch.equal(whole[5:6], vary(generator, photos[5:6], seeds[5:6]))
    assert not torch.equal(whole[5:6], vary(generator, photos[5:6], seeds[6:7]))


@pytest.mark.parametrize("init_images", [None, torch.zeros(1, 1, SIZE, SIZE)], ids=["none", "one"])
def test_classic_sample_requires_init_image_per_seed(init_images):
    with pytest.raises(DataError, match=r"expected init_images \(2, 1, 32, 32\), got (none|\(1, 1, 32, 32\)) .give"):
        classic().sample([1, 2], torch.zeros(2, dtype=torch.int64), init_images=init_images)


@pytest.mark.parametrize("override", ["horizontal_flip=1.5", "rotation=-1", "zoom=1", "shear=90", "noise=-0.1"])
def test_classic_range_out_of_bounds_raises(override):
    with pytest.raises(ConfigError, match="out of range"):
        classic(override)


def test_classic_paper_b_preset():
    spec = medzoo_classic.register_generators()[0]
    flat = resolve(spec.config, presets=spec.presets, preset="paper-b").flat()
    assert (flat["rotation"], flat["translation"], flat["vertical_flip"], flat["brightness"]) == (30.0, 0.1, 0.0, 0.0)
    assert flat["image.size"] == 28
