"""What the reader of an evaluation has to know of its image sets: classes, codecs, images without content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medzoo.data.decoded_cache import Decoded
from medzoo.evaluation.image_sets import UNLABELLED, ImageSet
from medzoo.evaluation.measurement import MeasuredSet
from medzoo.evaluation.results import FAKE, REAL

_SHARES_APART = 0.05
_CHUNK = 256


def oddities(given: Mapping[str, ImageSet], sets: Mapping[str, MeasuredSet]) -> list[str]:
    """What is odd about the sets and moves every number: a sentence each."""
    real, fake = given[REAL].data.counts(), given[FAKE].data.counts()
    found: list[str] = []
    labelled = UNLABELLED not in real and UNLABELLED not in fake
    if labelled:
        for name in dict.fromkeys([*real, *fake]):
            if not real.get(name) or not fake.get(name):
                lacking = REAL if not real.get(name) else FAKE
                found.append(f"class '{name}' has no {lacking} image, so distances between the sets include that")
        apart = _shares_apart(real, fake)
        if apart > _SHARES_APART:
            shares = "; ".join(f"{role} {_shares(counts)}" for role, counts in ((REAL, real), (FAKE, fake)))
            found.append(f"the classes have other shares ({shares}), and distances between the sets include that")
    elif (UNLABELLED in real) != (UNLABELLED in fake):
        found.append("one of the two sets has no class folders, so classes were not compared")
    codecs = {role: one.codecs for role, one in given.items() if role in (REAL, FAKE) and one.codecs != ("array",)}
    if len(set(codecs.values())) > 1:
        told = ", ".join(f"{role} {'/'.join(names)}" for role, names in codecs.items())
        found.append(f"the images went through other codecs ({told}), which metrics can tell apart")
    for role, one in sets.items():
        if constant := _constant(one.images):
            names = ", ".join(one.data.names[place] for place in constant[:3])
            found.append(f"{len(constant)} {role} images are of one grey or colour all over: {names}")
    return found


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in counts.items())


def _shares_apart(real: Mapping[str, int], fake: Mapping[str, int]) -> float:
    """The total variation distance of the classes' shares."""
    totals = sum(real.values()), sum(fake.values())
    names: Sequence[str] = list(dict.fromkeys([*real, *fake]))
    return sum(abs(real.get(name, 0) / totals[0] - fake.get(name, 0) / totals[1]) for name in names) / 2


def _constant(images: Decoded) -> list[int]:
    """The places of images without any change from pixel to pixel."""
    found: list[int] = []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].reshape(-1, images.channels, images.size**2)
        flat = np.flatnonzero((chunk == chunk[:, :, :1]).all(axis=(1, 2)))
        found += (start + flat).tolist()
    return found
