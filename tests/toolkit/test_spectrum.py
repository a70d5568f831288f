"""Patterns removed, and the gain by spatial frequency: what they change, and that a fit finds the gain again."""

from __future__ import annotations

import math

import pytest
import torch

from medzoo.errors import DataError
from medzoo.toolkit.spectrum import (
    COARSE,
    LARGEST,
    POINTS,
    apply_spectrum_gain,
    fit_spectrum_gain,
    remove_pattern,
)

SIDE = 32
SHARP = (1.0, 1.0, *(1.6,) * (POINTS - 2))


def textures(count, seed, *, channels=1, width=SIDE):
    """Return random smooth images (N, C, 32, W) in (0, 1) with power at all frequencies."""
    noise = torch.randn(count, channels, SIDE, width, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return (0.5 + 0.1 * smooth + 0.02 * noise).clamp(0.01, 0.99)


def test_remove_pattern_leaves_the_rest():
    images = textures(3, 5, channels=3)
    even = remove_pattern(images, 2)
    pattern = torch.tensor([[0.02, -0.03], [0.01, 0.0]]).repeat(*(side // 2 for side in images.shape[2:]))
    changed = images + torch.stack([pattern, -pattern, 2 * pattern])
    assert (changed - images).abs().max() > 0.05
    torch.testing.assert_close(remove_pattern(changed, 2), even, atol=1e-6, rtol=0)
    torch.testing.assert_close(even.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-6, rtol=0)
    squares = even.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(2, 3))
    torch.testing.assert_close(squares, squares.mean(dim=(2, 3), keepdim=True).expand_as(squares), atol=1e-6, rtol=0)
    torch.testing.assert_close(remove_pattern(images[1:2], 2), even[1:2])
    assert remove_pattern(images, 1) is images


def test_apply_spectrum_gain_leaves_images():
    images = textures(3, 0, channels=3, width=24)
    assert apply_spectrum_gain(images, ()) is images
    torch.testing.assert_close(apply_spectrum_gain(images, (1.0, 1.0, 1.0)), images, atol=1e-5, rtol=0)
    flat = torch.full((1, 1, SIDE, SIDE), 0.3)
    torch.testing.assert_close(apply_spectrum_gain(flat, SHARP), flat, atol=1e-5, rtol=0)


@pytest.mark.parametrize("across", [0, 5, 16])
@pytest.mark.parametrize("along", [3, 20])
def test_apply_spectrum_gain_scales_frequency(across, along):
    rows, columns = (torch.cos(math.pi * wave * (torch.arange(SIDE) + 0.5) / SIDE) for wave in (across, along))
    wave = 0.1 * torch.outer(rows, columns)[None, None]
    gain = tuple(1.0 + place / 10 for place in range(11))
    factor = 1.0 + math.hypot(across, along) / SIDE / math.sqrt(2.0)
    torch.testing.assert_close(apply_spectrum_gain(0.5 + wave, gain), 0.5 + factor * wave, atol=1e-5, rtol=0)


def test_apply_spectrum_gain_depends_on_own_image_only():
    images = textures(5, 1)
    together = apply_spectrum_gain(images, SHARP)
    for place in range(5):
        alone = apply_spectrum_gain(images[place : place + 1], SHARP)
        torch.testing.assert_close(alone[0], together[place], atol=1e-6, rtol=0)
    torch.testing.assert_close(together.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=1e-4, rtol=0)
    assert (together.min() >= 0.0, together.max() <= 1.0) == (True, True)


def test_apply_spectrum_gain_keeps_background_dark():
    images = textures(4, 2)
    images[:, :, SIDE // 2 :] = 0.0
    changed = apply_spectrum_gain(images, SHARP)
    assert changed[:, :, SIDE // 2 + 4 :].max() < 0.02
    assert changed[:, :, : SIDE // 2 - 4].std() > 1.2 * images[:, :, : SIDE // 2 - 4].std()


@pytest.mark.parametrize("channels", [1, 3])
def test_fit_spectrum_gain_finds_gain(channels):
    wanted = tuple(1.0 if place < 3 else 1.5 - place / POINTS for place in range(POINTS))
    real = apply_spectrum_gain(textures(200, 3, channels=channels), wanted)
    fitted = fit_spectrum_gain(real, textures(200, 4, channels=channels))
    assert fitted == pytest.approx(wanted, abs=0.12)
    assert fitted[: 1 + int(COARSE / math.sqrt(2.0) * (POINTS - 1))] == (1.0, 1.0, 1.0)
    assert fitted[4] == pytest.approx(wanted[4], abs=0.05)


def test_fit_spectrum_gain_is_limited():
    real, smooth = textures(20, 5), textures(20, 6)
    smooth = torch.nn.functional.avg_pool2d(smooth, 5, stride=1, padding=2)
    assert max(fit_spectrum_gain(real, smooth)) == LARGEST
    assert min(fit_spectrum_gain(smooth, real)) == 1.0 / LARGEST
    assert set(fit_spectrum_gain(torch.zeros_like(real), torch.zeros_like(real))) == {1.0}


def test_fit_spectrum_gain_raises():
    images = textures(2, 7)
    for real, generated in ((images[:0], images), (images, images[..., :16])):
        with pytest.raises(DataError, match="cannot compare the spectra"):
            fit_spectrum_gain(real, generated)
    with pytest.raises(DataError, match="at least 8 pixels"):
        fit_spectrum_gain(images[..., :4, :4], images[..., :4, :4])
