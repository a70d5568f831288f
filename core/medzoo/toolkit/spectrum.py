"""The spatial frequencies of generated images: a gain that matches real ones, and patterns of the network removed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medzoo.errors import DataError

POINTS = 24  # of a fitted gain, from frequency 0 to the corner of the spectrum
COARSE = 0.125  # of the Nyquist frequency; below, a gain would change shapes and lighten dark backgrounds
LARGEST = 2.0  # beyond, a gain would amplify noise to show a detail that the model did not make
MIN_SIDE = 8
_ITERATIONS = 4
_CHUNK = 64


def remove_pattern(images: Tensor, side: int) -> Tensor:
    """Subtract from images, float (N, C, H, W), what all their squares of `side` x `side` pixels have in common.

    That is the difference of their mean square from its own mean, so each channel's mean stays. A network that folds
    such squares into channels leaves some noise of that form, a faint checkerboard, probably because normalization
    hides a constant in one channel (Odena et al. 2016 show checkerboards of other networks). `side` divides H and W;
    with 1, `images` themselves are returned.
    """
    if side == 1:
        return images
    count, channels, height, width = images.shape
    squares = images.reshape(count, channels, height // side, side, width // side, side)
    pattern = squares.mean(dim=(2, 4))
    pattern = pattern - pattern.mean(dim=(2, 3), keepdim=True)
    return images - pattern.repeat(1, 1, height // side, width // side)


def apply_spectrum_gain(images: Tensor, gain: Sequence[float]) -> Tensor:
    """Multiply the amplitudes of images, float (N, C, H, W) in [0, 1], at each spatial frequency by `gain`.

    `gain` holds the factors at evenly spaced frequencies from 0 to the corner of the spectrum, the square root of 2
    times the Nyquist frequency, and is linear between them; empty returns `images` themselves. The mean gray level is
    kept, until the result is cut to [0, 1]. Frequencies are those of the cosine transform (DCT-II), which continues an
    image by its mirror image, so that borders do not ring. Each image is changed by itself, and all alike.
    """
    if not gain:
        return images
    pixels = images.float()
    height, width = pixels.shape[-2:]
    rows, columns, factors = (matrix.to(pixels) for matrix in gain_matrices(height, width, gain))
    return change_spectrum(pixels, rows, columns, factors).contiguous()


def change_spectrum(images: Tensor, rows: Tensor, columns: Tensor, factors: Tensor) -> Tensor:
    """Return `images` (N, C, H, W) with their cosine transform times `factors`, the matrices of `gain_matrices`."""
    changed = rows.T @ ((rows @ images @ columns.T) * factors) @ columns
    return changed.clamp(0.0, 1.0)


def gain_matrices(height: int, width: int, gain: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine transforms of columns (H, H) and rows (W, W), and the factors (H, W) of `gain`, float64.

    `apply_spectrum_gain` multiplies the transform of images by the factors.
    """
    frequency = torch.hypot(torch.arange(height)[:, None] / height, torch.arange(width) / width)
    factors = _interpolate(frequency, gain)
    factors[0, 0] = 1.0
    return _cosines(height), _cosines(width), factors


def fit_spectrum_gain(real: Tensor, generated: Tensor) -> tuple[float, ...]:
    """Return the gain for `apply_spectrum_gain` that gives `generated` images the power spectrum of `real` ones.

    Both are float (N, C, H, W) in [0, 1], alike in size, channels and shares of classes: about a hundred of each or
    more, as the gain is as noisy as the spectra. The power is that of images without their mean under a Hann window,
    averaged over images, channels and directions. Frequencies below `COARSE` are left as they are, and no factor is
    beyond `LARGEST` or its inverse. As cutting to [0, 1] takes power away, the gain is refined in a few rounds.

    Raises:
        DataError: no images, of different sizes, or of a side below 8 pixels.
    """
    if not len(real) or not len(generated) or real.shape[1:] != generated.shape[1:]:
        raise DataError(f"cannot compare the spectra of images {tuple(real.shape)} and {tuple(generated.shape)}")
    if min(real.shape[-2:]) < MIN_SIDE:
        raise DataError(f"a spectrum needs images of at least {MIN_SIDE} pixels a side, these have {real.shape[-1]}")
    fine = torch.linspace(0.0, math.sqrt(2.0), POINTS, dtype=torch.float64) >= COARSE
    wanted, gain = _ring_power(real), torch.ones(POINTS, dtype=torch.float64)
    for _ in range(_ITERATIONS):
        found = _ring_power(apply_spectrum_gain(generated, gain.tolist()))
        ratio = torch.where((found > 0) & (wanted > 0), wanted / found, 1.0)
        gain = torch.where(fine, (gain * ratio.sqrt()).clamp(1.0 / LARGEST, LARGEST), 1.0)
    return tuple(round(factor, 3) for factor in gain.tolist())


def _ring_power(images: Tensor) -> Tensor:
    """Return the mean power of images at each frequency of a gain, float64 (POINTS,)."""
    height, width = images.shape[-2:]
    window = torch.outer(*(torch.hann_window(side, periodic=False, dtype=torch.float64) for side in (height, width)))
    power = torch.zeros(height, width, dtype=torch.float64)
    for part in images.split(_CHUNK):
        pixels = part.double().cpu().flatten(0, 1)
        mean = (pixels * window).sum(dim=(1, 2), keepdim=True) / window.sum()
        power += torch.fft.fft2((pixels - mean) * window).abs().square().sum(dim=0)
    across, along = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    frequency = 2.0 * torch.hypot(across[:, None], along)  # 1 at Nyquist
    ring = (frequency / math.sqrt(2.0) * (POINTS - 1)).round().long().flatten()
    counts = torch.bincount(ring, minlength=POINTS).clamp(min=1)
    return torch.bincount(ring, power.flatten(), minlength=POINTS) / counts / len(images)


def _interpolate(frequency: Tensor, gain: Sequence[float]) -> Tensor:
    """Return the gain at `frequency`, 1 being Nyquist."""
    points = torch.tensor(gain, dtype=torch.float64)
    if len(points) == 1:
        return torch.full(frequency.shape, float(points))
    place = (frequency.double() / math.sqrt(2.0) * (len(points) - 1)).clamp(max=len(points) - 1)
    below = place.floor().long().clamp(max=len(points) - 2)
    share = place - below
    return points[below] * (1.0 - share) + points[below + 1] * share


def _cosines(side: int) -> Tensor:
    """Return the orthonormal matrix (side, side) of the cosine transform, one frequency per row."""
    place = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi * place[:, None] * (place + 0.5) / side) * math.sqrt(2.0 / side)
    matrix[0] /= math.sqrt(2.0)
    return matrix
