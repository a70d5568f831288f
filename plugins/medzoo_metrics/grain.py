"""Grain: the fine spatial frequencies of synthetic images against those of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from medzoo import MetricSpec, Sample, Score
from medzoo.errors import DataError
from medzoo.protocols import Curve

if TYPE_CHECKING:
    import numpy as np

HIGH = 0.5  # of the Nyquist frequency, which is half a cycle per pixel
MIN_SIDE = 8


class _Spectra(NamedTuple):
    """Power of each image of a set: in all (N,), and at high frequencies (N,).

    `curves` are radially averaged (2, R), of two halves of the set, each divided by the half's power in all, about
    `frequencies` (R,), shares of the Nyquist frequency.
    """

    total: np.ndarray
    high: np.ndarray
    curves: np.ndarray
    frequencies: np.ndarray

    def share(self, images: np.ndarray, axis: int) -> np.ndarray:
        """Return the share of high frequencies in the power of the `images`, by index, summed along `axis`."""
        share: np.ndarray = self.high[images].sum(axis=axis) / self.total[images].sum(axis=axis)
        return share


def grain(real: Sample, fake: Sample, *, seed: int) -> Score:
    """Compute the synthetic images' share of high-frequency power over that of the real ones: below 1, too smooth.

    High are frequencies above half of the Nyquist frequency. The value is NaN if the real images have none. Details:
    both shares. The curve is the ratio of the radially averaged power spectra, which does not depend on contrast, and
    beside it that of two halves of the real images, which shows what chance makes of it.

    Raises:
        DataError: images of a side below 8 pixels.
    """
    import numpy as np

    from medzoo.toolkit.metric_samples import FAKE, REAL, bootstrap_interval

    with np.errstate(divide="ignore", invalid="ignore"):
        ones, others = _spectra(real, seed), _spectra(fake, seed)
        everything = np.arange(real.size), np.arange(fake.size)
        means = {REAL: float(ones.share(everything[0], axis=0)), FAKE: float(others.share(everything[1], axis=0))}
        interval = bootstrap_interval(
            lambda one, other, axis: others.share(other, axis) / ones.share(one, axis), *everything, seed=seed
        )
        lines = {
            FAKE: others.curves.mean(axis=0) / ones.curves.mean(axis=0),
            f"{REAL}: half against half": ones.curves[0] / ones.curves[1],
        }
    return Score(
        value=means[FAKE] / means[REAL] if means[REAL] > 0 else float("nan"),
        interval=interval if means[REAL] > 0 else None,
        n_real=real.size,
        n_fake=fake.size,
        details=means,
        method=f"share of the spectral power above {HIGH:g} of the Nyquist frequency ({HIGH / 2:g} cycles per pixel) "
        "at the size of the comparison, color as its luma (BT.601); mean removed, Hann window, float64; bootstrap over "
        "images",
        curve=Curve(
            title="Power by spatial frequency, relative to the real images",
            x_label="spatial frequency, from coarse shapes (0) to the finest grain (1 = Nyquist)",
            y_label="power ratio (below 1: smoother)",
            x=tuple(ones.frequencies.tolist()),
            lines={name: tuple(np.where(np.isfinite(line), line, np.nan).tolist()) for name, line in lines.items()},
            reference=1.0,
            marked=(HIGH, 1.0),
        ),
    )


def _spectra(sample: Sample, seed: int) -> _Spectra:
    """Measure the power spectra of a set's images without their mean, under a Hann window: edges would leak into all.

    Raises:
        DataError: images too small.
    """
    import numpy as np
    import torch

    from medzoo.toolkit.metric_samples import CHUNK, batches_of, grayscale

    second_half = torch.from_numpy(np.random.default_rng(seed).permutation(sample.size) % 2)
    parts, summed = [], torch.zeros(2, 0)
    for number, batch in enumerate(batches_of(sample)):
        pixels = grayscale(batch).double()
        height, width = pixels.shape[1:]
        if min(height, width) < MIN_SIDE:
            raise DataError(f"grain needs images of at least {MIN_SIDE} pixels a side, these are {width}x{height}")
        if number == 0:
            window = torch.outer(
                *(torch.hann_window(side, periodic=False, dtype=torch.float64) for side in (height, width))
            )
            across, along = (
                torch.fft.fftfreq(height, dtype=torch.float64),
                torch.fft.rfftfreq(width, dtype=torch.float64),
            )
            frequency = 2.0 * torch.hypot(across[:, None], along).flatten()  # 1 at Nyquist, more in the corners
            # Of a real image, the other half of the plane is the same.
            times = torch.full((height, len(along)), 2.0).double()
            times[:, 0] = 1.0
            if width % 2 == 0:
                times[:, -1] = 1.0
            sums = torch.stack([times.flatten(), times.flatten() * (frequency > HIGH)], dim=1)
            summed = torch.zeros(2, len(frequency)).double()
        mean = (pixels * window).sum(dim=(1, 2), keepdim=True) / window.sum()
        spectrum = torch.fft.rfft2((pixels - mean) * window)
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(1)
        parts.append(power @ sums)
        halves = second_half[number * CHUNK :][: len(power)]
        summed += torch.stack([1 - halves, halves]).double() @ power
    total, high = torch.cat(parts).T.numpy()
    count = min(height, width) // 2
    ring = (frequency * count).round().long().numpy()
    weights = sums[:, 0].numpy()
    of_ring = np.bincount(ring, weights)
    curves = np.stack([np.bincount(ring, weights * half) / of_ring / (weights * half).sum() for half in summed.numpy()])
    return _Spectra(
        total=total, high=high, curves=curves[:, 1 : count + 1], frequencies=np.arange(1, count + 1) / count
    )


GRAIN = MetricSpec(
    contract=3,
    name="grain",
    summary="share of high-frequency power, synthetic / real; below 1, synthetic images are too smooth",
    unit="ratio",
    needs_pixels=True,
    ideal=1.0,
    build=lambda: grain,
)
