"""Warnings about the image sets of an evaluation: classes, codecs, images without content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medzoo.data.decoded_cache import Decoded
from medzoo.evaluation.image_sets import UNLABELED, EvaluationSet
from medzoo.evaluation.results import FAKE, REAL

_SHARES_APART = 0.05
_CHUNK = 256


def dataset_warnings(sets: Mapping[str, EvaluationSet]) -> list[str]:
    """Return a sentence for each peculiarity of the sets that affects every metric."""
    real, fake = sets[REAL].data.counts(), sets[FAKE].data.counts()
    found: list[str] = []
    labeled = UNLABELED not in real and UNLABELED not in fake
    if labeled:
        for name in dict.fromkeys([*real, *fake]):
            if not real.get(name) or not fake.get(name):
                lacking = REAL if not real.get(name) else FAKE
                found.append(f"class '{name}' has no {lacking} images, which affects distances between the sets")
        apart = _shares_apart(real, fake)
        if apart > _SHARES_APART:
            shares = "; ".join(f"{role} {_shares(counts)}" for role, counts in ((REAL, real), (FAKE, fake)))
            found.append(f"the class proportions differ ({shares}), which affects distances between the sets")
    elif (UNLABELED in real) != (UNLABELED in fake):
        found.append("one of the two sets has no class folders, so classes were not compared")
    codecs = {role: sets[role].formats.codecs for role in (REAL, FAKE) if sets[role].formats.codecs != ("array",)}
    if len(set(codecs.values())) > 1:
        named = ", ".join(f"{role} {'/'.join(names)}" for role, names in codecs.items())
        found.append(f"the sets use different image codecs ({named}), which metrics can detect")
    for role, one in sets.items():
        if constant := _constant(one.images):
            names = ", ".join(one.data.names[place] for place in constant[:3])
            found.append(f"{len(constant)} {role} images have a single gray level or color: {names}")
    return found


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in counts.items())


def _shares_apart(real: Mapping[str, int], fake: Mapping[str, int]) -> float:
    """Return the total variation distance of the class proportions."""
    totals = sum(real.values()), sum(fake.values())
    names: Sequence[str] = list(dict.fromkeys([*real, *fake]))
    return sum(abs(real.get(name, 0) / totals[0] - fake.get(name, 0) / totals[1]) for name in names) / 2


def _constant(images: Decoded) -> list[int]:
    """Return the indices of images whose pixels are all equal."""
    found: list[int] = []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].reshape(-1, images.channels, images.size**2)
        flat = np.flatnonzero((chunk == chunk[:, :, :1]).all(axis=(1, 2)))
        found += (start + flat).tolist()
    return found
