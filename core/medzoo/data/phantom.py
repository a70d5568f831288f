"""Simulate B-mode ultrasound of a teat in a water bath, in four classes, in place of images that cannot be shared.

A map of echo strength (gland, teat wall with skin and mucosa, cistern, canal, water) is multiplied by complex Gaussian
noise, blurred by pulse and beam, attenuated with depth, and the envelope is log-compressed. Uniform tissue therefore
shows fully developed speckle, Rayleigh distributed before compression (Wagner et al., "Statistics of speckle in
ultrasound B-scans", IEEE Trans. Sonics Ultrason. 30, 1983).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medzoo.data.dataset import Dataset
from medzoo.data.images import write_image
from medzoo.data.pixels import prepare
from medzoo.errors import ConfigError, UnknownName
from medzoo.storage.files import new_folder

CLASSES = ("normal", "thick-wall", "narrow-canal", "echogenic-content")

DYNAMIC_RANGE = 50.0
# Side in pixels of the simulated field; smaller images are downsampled from it, as a saved scan would be.
_FIELD = 128
# Cropped after blurring, to avoid the filter's boundary effects.
_MARGIN = 8
# Standard deviations of pulse (along depth) and beam (across) in pixels of a 128 pixel field.
_PULSE, _BEAM = 0.85, 1.75


@dataclass(frozen=True, kw_only=True)
class _Anatomy:
    """The anatomy of one teat. Lengths are in half image sides, echo strengths in dB below the brightest interface."""

    shift: float
    tilt: float
    bend: float
    tip: float
    base: float
    flare: float
    half_width: float
    wall: float
    canal_length: float
    canal: float
    taper: float
    gland: float
    tissue: float
    skin: float
    mucosa: float
    content: float
    lumps: float


def _draw_anatomy(label: str, rng: np.random.Generator) -> _Anatomy:
    """Sample a random anatomy of a class. The ranges of the classes overlap where a finding is borderline."""
    draw = rng.uniform
    narrow = label == "narrow-canal"
    filled = label == "echogenic-content"
    half_width = draw(0.40, 0.56)
    return _Anatomy(
        shift=draw(-0.15, 0.15),
        tilt=rng.normal(0, 0.09),
        bend=draw(-0.12, 0.12),
        tip=draw(0.66, 0.88),
        base=draw(-0.55, -0.25),
        flare=draw(1.4, 3.6),
        half_width=half_width,
        wall=half_width * (draw(0.46, 0.70) if label == "thick-wall" else draw(0.26, 0.46)),
        canal_length=draw(0.36, 0.58) if narrow else draw(0.22, 0.36),
        canal=draw(0.0, 0.015) if narrow else draw(0.035, 0.07),
        taper=draw(0.40, 0.80) if narrow else draw(0.12, 0.35),
        gland=draw(-28, -21),
        tissue=draw(-34, -26),
        skin=draw(-14, -7),
        mucosa=draw(-18, -10),
        content=draw(-43, -32) if filled else draw(-64, -54),
        lumps=draw(3, 7) if filled else 0.0,
    )


def simulate(label: str, *, seed: int, size: int = 128) -> np.ndarray:
    """Simulate one scan of class `label`, uint8 (size, size), determined by label, seed and size.

    Example:
        >>> scan = simulate("thick-wall", seed=0, size=64)

    Raises:
        UnknownName: a label that is not in CLASSES.
        ConfigError: a negative seed or a size below 8.
    """
    if label not in CLASSES:
        raise UnknownName("phantom class", label, CLASSES)
    if size < 8 or seed < 0:
        raise ConfigError(f"a phantom needs a size of at least 8 and a seed of at least 0, not {size} and {seed}")
    rng = np.random.default_rng([CLASSES.index(label), seed])
    anatomy = _draw_anatomy(label, rng)
    field = max(size, _FIELD)
    margin = -(-_MARGIN * field // _FIELD)
    strength, fluid = _echo_map(anatomy, side=field, margin=margin, rng=rng)
    received = strength + _loss(fluid, side=field, rng=rng)
    amplitude = envelope(10 ** (received / 10), rng=rng, scale=field / _FIELD)
    # Receiver noise sets the floor of the signal.
    level = 20 * np.log10(amplitude + 10 ** (rng.uniform(-62, -54) / 20)) + rng.uniform(-2, 7)
    pixels = np.rint(np.clip(1 + level / DYNAMIC_RANGE, 0, 1) * 255).astype(np.uint8)
    inner = np.ascontiguousarray(pixels[margin:-margin, margin:-margin])
    return inner if field == size else prepare(inner, size=size, channels=1, crop="none")[0]


def envelope(power: np.ndarray, *, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """Simulate echo amplitudes (H, W) of scatterers with mean power `power` (H, W).

    Scatterers are circular complex Gaussian, so amplitudes are Rayleigh distributed where the power is uniform. Pulse
    and beam are Gaussian kernels, `scale` times as wide as in a 128 pixel field, normalized so that the mean squared
    amplitude of uniform tissue is its power.
    """
    from scipy.ndimage import gaussian_filter

    root = np.sqrt(power / 2, dtype=np.float32)
    echo = np.empty((2, *power.shape), np.float32)
    for part in echo:
        scattered = rng.standard_normal(power.shape, dtype=np.float32)
        gaussian_filter(scattered * root, (_PULSE * scale, _BEAM * scale), output=part, truncate=3.0)
    return np.asarray(np.hypot(echo[0], echo[1]) / _kernel_norm(scale))


def _kernel_norm(scale: float) -> float:
    """Return the square root of the blur kernel's energy, the factor by which it attenuates white noise."""
    from scipy.ndimage import gaussian_filter1d

    impulse = np.zeros(2 * int(8 * scale) + 9)
    impulse[len(impulse) // 2] = 1
    energies = [np.square(gaussian_filter1d(impulse, width * scale, truncate=3.0)).sum() for width in (_PULSE, _BEAM)]
    return float(np.sqrt(energies[0] * energies[1]))


def _echo_map(anatomy: _Anatomy, *, side: int, margin: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the echo strength in dB and the mask of fluid, each of (side + 2 margin) squared."""
    steps = (np.arange(-margin, side + margin, dtype=np.float32) + 0.5) * (2 / side) - 1
    across, along = _teat_axes(anatomy, steps)
    outer, inner = _profiles(anatomy, along)
    depth_in_wall = outer - np.abs(across + _uneven(along, rng))
    from_lumen = np.abs(across) - inner - np.where(inner > 0.08, _uneven(along, rng), 0)
    inside, lumen = depth_in_wall > 0, from_lumen < 0
    mottle = _mottle(steps.size, rng, cells=12)
    # Gland tissue blends into the teat wall at the base of the teat.
    share = 1 / (1 + np.exp((along - anatomy.base) / 0.08))
    tissue = anatomy.tissue + share * (anatomy.gland - anatomy.tissue) + mottle * (1.5 + 2.5 * share)
    tissue -= 7 * np.exp(-(((depth_in_wall - 0.5 * anatomy.wall) / (0.22 * anatomy.wall)) ** 2)) * (1 - share)
    # An interface reflects most where it is perpendicular to the beam.
    facing = 7 * (np.abs(np.gradient(depth_in_wall, axis=0)) * side / 2).clip(0, 1) - 5 + 2 * mottle
    tissue = np.maximum(tissue, anatomy.skin + facing - 6 * (depth_in_wall / 0.035) ** 2)
    tissue = np.maximum(tissue, anatomy.mucosa + facing - 6 * (from_lumen / 0.03) ** 2)
    lumps = anatomy.lumps * _mottle(steps.size, rng, cells=9)
    content = anatomy.content + np.minimum(lumps, 9)
    for mask in _ducts(across, along, anatomy, rng):
        tissue = np.where(mask, -50, tissue)
    strength = np.where(inside, np.where(lumen, content, tissue), -64)
    return np.maximum(strength, _haze(steps, rng)), lumen | ~inside


def _teat_axes(anatomy: _Anatomy, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's coordinates across and along the teat, in half image sides; along increases to the tip."""
    x, y = steps[None, :] - anatomy.shift, steps[:, None]
    sine, cosine = np.sin(anatomy.tilt), np.cos(anatomy.tilt)
    along = cosine * y + sine * x
    return cosine * x - sine * y + anatomy.bend * along**2, along


def _profiles(anatomy: _Anatomy, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the half widths of skin and lumen (cistern, then canal) at each position along the teat."""
    above = np.maximum(anatomy.base - along, 0)
    cap = 0.75 * anatomy.half_width
    outer = (anatomy.half_width + anatomy.flare * above**1.3) * _rounded(along, anatomy.tip, cap)
    end = anatomy.tip - anatomy.canal_length
    cistern = (anatomy.half_width - anatomy.wall + 0.3 * anatomy.flare * above**1.4) * _rounded(
        along, end, anatomy.taper
    )
    canal = np.where((along > end - 0.1) & (along < anatomy.tip), anatomy.canal, 0)
    return outer, np.maximum(cistern, canal)


def _uneven(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random wall irregularities along the teat, in half image sides."""
    uneven = np.zeros_like(along)
    for rate, phase, height in zip(
        rng.uniform(3, 14, 3), rng.uniform(0, 2 * np.pi, 3), rng.normal(0, 0.011, 3), strict=True
    ):
        uneven += height * np.sin(rate * along + phase)
    return uneven


def _rounded(along: np.ndarray, end: float, length: float) -> np.ndarray:
    """Return 1 up to `length` before `end`, then an elliptical decrease to 0."""
    ratio = np.clip((along - end + length) / length, 0, 1)
    return np.sqrt(1 - ratio**2)


def _ducts(across: np.ndarray, along: np.ndarray, anatomy: _Anatomy, rng: np.random.Generator) -> list[np.ndarray]:
    """Return masks of a few vessels and milk ducts in the gland and wall."""
    masks = []
    for _ in range(rng.integers(1, 5)):
        side = rng.choice((-1, 1))
        center_along = anatomy.base - rng.uniform(-0.3, 0.6)
        center_across = side * (anatomy.half_width + rng.uniform(-0.1, 0.4))
        long, short = rng.uniform(0.04, 0.11), rng.uniform(0.02, 0.045)
        masks.append(((along - center_along) / long) ** 2 + ((across - center_across) / short) ** 2 < 1)
    return masks


def _mottle(side: int, rng: np.random.Generator, *, cells: int) -> np.ndarray:
    """Return a smooth random field (side, side) of about unit variance, with `cells` patches per side."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return 1.5 * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def _haze(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the reverberation in dB that obscures fluid near the probe, (side, 1)."""
    depth = (steps[:, None] + 1) / 2
    return rng.uniform(-44, -34) - rng.uniform(60, 140) * np.maximum(depth, 0)


def _loss(fluid: np.ndarray, *, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return the round-trip gain in dB: time-gain compensation minus attenuation.

    Fluid attenuates little, so tissue behind it appears brighter.
    """
    tissue = rng.uniform(12, 20)
    absorbed = np.cumsum(np.where(fluid, 1.0, tissue), axis=0) / side
    restored = rng.uniform(0.5, 0.8) * tissue * np.arange(1, len(fluid) + 1)[:, None] / side
    return restored - absorbed


def phantom_dataset(counts: Mapping[str, int], *, size: int, seed: int) -> Dataset:
    """Simulate `counts[label]` scans of each class in memory: the images that `write_phantom` writes.

    Raises:
        UnknownName: a label that is not in CLASSES.
        ConfigError: no classes, or a count below 1.
    """
    scans = list(_scans(counts, size=size, seed=seed))
    classes = tuple(sorted(counts))
    return Dataset(
        path=Path("phantom"),
        classes=classes,
        labels=np.array([classes.index(label) for label, _, _ in scans], np.int64),
        names=tuple(name for _, name, _ in scans),
        array=np.stack([pixels for _, _, pixels in scans]),
    )


def write_phantom(folder: str | Path, *, counts: int | Mapping[str, int] = 100, size: int = 128, seed: int = 0) -> None:
    """Write simulated ultrasound images to `folder`/<class>/<class>-00001.png and so on, all of them or none.

    `counts` is the number of images of each of the classes normal, thick-wall, narrow-canal and echogenic-content, or a
    mapping from class to number; `size` is their side in pixels. The images are gray PNGs of 8 bits, determined by
    class, `seed` and `size`.

    Example:
        >>> medzoo.write_phantom("scans", counts={"normal": 12, "thick-wall": 6}, size=64)

    Raises:
        DataError: `folder` is not empty.
        UnknownName, ConfigError: an unknown class; no class or image; a size below 8; a negative seed.
    """
    wanted = dict.fromkeys(CLASSES, counts) if isinstance(counts, int) else counts
    with new_folder(Path(folder)) as new:
        for _, name, pixels in _scans(wanted, size=size, seed=seed):
            write_image(new / name, pixels[None])


def _scans(counts: Mapping[str, int], *, size: int, seed: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield the label, file name and pixels of each scan, by sorted label."""
    if not counts or min(counts.values()) < 1:
        raise ConfigError("a phantom needs at least one class and at least one image per class")
    for label in sorted(counts):
        for index in range(counts[label]):
            # Seeds of two sets are disjoint as long as a class has fewer than a million images.
            pixels = simulate(label, seed=seed * 1_000_000 + index, size=size)
            yield label, f"{label}/{label}-{index + 1:05d}.png", pixels
