"""Fit the setting `sampling.spectrum_gain` of a generator to real images."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from medzoo.data.images import spread
from medzoo.data.pixels import prepare, to_float
from medzoo.errors import ConfigError
from medzoo.generation.mixture import Source, check_classes, load_mixture
from medzoo.generation.plan import exact_shares
from medzoo.runs.progress import Progress
from medzoo.toolkit.spectrum import fit_spectrum_gain

SETTING = "sampling.spectrum_gain"
REAL_IMAGES = 1000


def fit_gain(
    given: str,
    source: Source,
    *,
    data: Path | None,
    count: int,
    seed: int,
    batch_size: int,
    masks: str,
    progress: Progress,
) -> tuple[float, ...]:
    """Return the gain that gives `count` images of a generator the power spectrum of the real images in `data`.

    The images are sampled without a gain, in the real images' shares of classes.

    Raises:
        ConfigError: a generator without the setting, or a multi-label one; and as `load_mixture`.
        DataError, HubError, UnknownName: as `load_mixture`.
    """
    source = replace(source, overrides={**source.overrides, SETTING: ()})
    mixture, real = load_mixture((given,), source, data=data, always_open=True, masks=masks)
    model = mixture.models[0]
    if len(mixture.models) > 1 or model.image.multi_label:
        raise ConfigError(f"a spectrum gain is fitted to one generator of single labels, not to '{given}'")
    assert real is not None  # always opened
    present = {label: number for label, number in real.counts().items() if number}
    check_classes(mixture, real, list(present))
    counts = dict(zip(present, exact_shares(count, [Fraction(number) for number in present.values()]), strict=True))
    images = [
        prepare(real.pixels(index), size=model.image.size, channels=model.image.channels, crop=model.crop)
        for index in spread(len(real), REAL_IMAGES)
    ]
    sampler = mixture.sampler(counts, real=real, batch_size=batch_size, seed=seed)
    generated = sampler.sample_all(progress=progress)
    return fit_spectrum_gain(*(torch.from_numpy(to_float(pixels)) for pixels in (np.stack(images), generated)))
