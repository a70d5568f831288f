"""Open the image sets of an evaluation by role, check that each is real or synthetic as given, decode them alike."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from medzoo.data.dataset import Dataset, open_dataset, open_unlabeled
from medzoo.data.decoded_cache import Decoded
from medzoo.data.image_formats import image_formats
from medzoo.data.metadata import METADATA, read_metadata
from medzoo.data.reading import Reading
from medzoo.data.synthetic import check_no_synthetic
from medzoo.errors import DataError
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, SetSummary
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)


UNLABELED = "all images"
"""The class of a folder of images without class folders."""

_LARGEST = 1024
_SHARES_APART = 0.05
_CHUNK = 256


class EvaluationSet:
    """One image set: `data` and `formats` as given, and after `decode`, `images` as all sets are compared.

    `origins` are the generators of synthetic images, as far as their metadata.csv states them: name and SHA-256 of the
    weights. `sources` are the names of the real images that the images of the set vary, "" of one that varies none;
    empty if none does. `features` holds what extractors computed: by extractor and layer, float32 (N, D).
    """

    def __init__(
        self, role: str, data: Dataset, origins: tuple[tuple[str, str], ...] = (), sources: tuple[str, ...] = ()
    ) -> None:
        self.role = role
        self.sources = sources
        self.data = data
        self.origins = origins
        self.formats = image_formats(data)
        self.classes = data.classes
        self.features: dict[str, dict[str, Tensor]] = {}
        self._images: Decoded | None = None

    def decode(self, image: ImageSpec, *, crop: str) -> None:
        """Start decoding the images to the size and channels of `image`, whose classes come before the set's others."""
        self._images = Decoded(self.data, size=image.size, channels=image.channels, crop=crop)
        self.classes = tuple(dict.fromkeys([*image.classes, *self.data.classes]))

    @property
    def images(self) -> Decoded:
        """The decoded images."""
        assert self._images is not None  # `decode` comes first
        return self._images

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 (N,), label k meaning `classes[k]`."""
        places = np.array([self.classes.index(name) for name in self.data.classes])
        return np.asarray(places[self.data.labels])

    def indices(self, label: str = "") -> np.ndarray:
        """Return the indices of the images of a class, or of all images."""
        return np.flatnonzero(self.labels == self.classes.index(label)) if label else np.arange(len(self.data))

    def summary(self) -> SetSummary:
        """Summarize the set for a report."""
        sizes = sorted(self.formats.sizes, key=lambda size: size[0] * size[1])
        low, high = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
        return SetSummary(
            role=self.role,
            path=str(self.data.path),
            counts=self.data.counts(),
            sizes=low if low == high else f"{low} to {high}",
            color="gray" if self.formats.gray else "color",
            codecs=", ".join(self.formats.codecs),
            fingerprint=hashlib.sha256("\n".join(sorted(self.images.fingerprints())).encode()).hexdigest(),
            data=self.data.summary().to_dict(),
        )


def open_sets(
    given: Mapping[str, Path | Dataset | None],
    *,
    classes: Sequence[str] | None,
    skip_bad: bool,
    masks: str = "ignore",
    reading: Reading = Reading(),
) -> dict[str, EvaluationSet]:
    """Open the sets by role; `classes` names an npz's labels.

    Of a path with parts, the real images are its test or val part, and its train part is the training set unless
    another is given. Images of several labels are compared without them.

    Raises: DataError for synthetic images given as real ones, or the reverse.
    """
    sets: dict[str, EvaluationSet] = {}
    for role in (REAL, FAKE, TRAIN, OTHER):
        wanted = given.get(role)
        if wanted is None:
            continue
        # An attribute labels real images; synthetic ones lie in class folders.
        how = reading if role in (REAL, TRAIN) else replace(reading, label_tag="")
        data = (
            wanted
            if isinstance(wanted, Dataset)
            else _open(Path(wanted), classes=classes, skip_bad=skip_bad, masks=masks, reading=how)
        )
        if data.multi_label:
            logger.info(f"{data.path} has several labels per image: its images are compared without them")
            data = _without_labels(data)
        for name, reason in data.bad:
            logger.warning(f"left out {name}: {reason}")
        if role == REAL and data.held_out:
            part = "test" if "test" in data.held_out else "val"
            if given.get(TRAIN) is None:
                logger.info(
                    f"{data.path} has parts: its {part} part is the real set, and its train part the training set"
                )
                sets[TRAIN] = EvaluationSet(TRAIN, replace(data, held_out={}))
            else:
                logger.info(f"{data.path} has parts: its {part} part is the real set")
            data = data.held_out[part]
        sets[role] = _select(role, replace(data, held_out={}))
    # Sets are compared as of one bit depth: that of the set which uses most.
    depth = max((one.data.depth for one in sets.values() if one.data.highest is not None), default=0)
    for one in sets.values():
        one.data = one.data.with_depth(depth).with_window(reading.window, whose="--window")
    return sets


def _open(path: Path, *, classes: Sequence[str] | None, skip_bad: bool, masks: str, reading: Reading) -> Dataset:
    """Open a dataset; a folder of images without class folders becomes one of a single class."""
    if (data := open_unlabeled(path, as_class=UNLABELED, skip_bad=skip_bad, masks=masks, reading=reading)) is not None:
        return data
    # Folders have names for their classes, and those of the sets need not be the same.
    named = classes if path.suffix.lower() == ".npz" else None
    return open_dataset(path, skip_bad=skip_bad, classes=named, masks=masks, reading=reading)


def _without_labels(data: Dataset) -> Dataset:
    """Return the images, and those held out, as images of a single class."""
    held_out = {part: _without_labels(images) for part, images in data.held_out.items()}
    return replace(data, classes=(UNLABELED,), labels=np.zeros(len(data), np.int64), held_out=held_out)


def _select(role: str, data: Dataset) -> EvaluationSet:
    """Return the images of a set that have its role, with origins and sources of synthetic ones by metadata.csv."""
    if role != FAKE:
        check_no_synthetic(data, use=f"but was given as {role} images", hint="give a folder of real images only")
        return EvaluationSet(role, data)
    rows = read_metadata(data.path) if data.array is None else {}
    own = [k for k, name in enumerate(data.names) if name in data.synthetic]
    if rows and not own:
        raise DataError(f"{data.path} holds no synthetic images by its {METADATA}", "give a folder of synthetic images")
    if 0 < len(own) < len(data):
        by = f", by its {METADATA}" if rows else ""
        logger.info(f"{data.path}: evaluating its {len(own)} synthetic images of {len(data)}{by}")
        data = data.subset(own)
    stated = [rows[name] for name in data.names if name in rows]
    origins = dict.fromkeys((row.get("generator", ""), row.get("weights_sha256", "")) for row in stated)
    sources = tuple(rows.get(name, {}).get("source_image", "") for name in data.names)
    return EvaluationSet(role, data, tuple(origins), sources if any(sources) else ())


def source_indices(sources: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return the index among `names` of each image in `sources`, int64 (N,); -1 where there is none.

    A name may be of a file in a parent folder or in a part of it, as train/benign/1.png is benign/1.png: folder and
    file have to be the same, and no other image may have both.
    """
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        for end in _ends(name):
            found[end] = index if found.get(end, index) == index else -1
    found |= {name: index for index, name in enumerate(names)}
    return np.array([next((found[end] for end in _ends(name) if end in found), -1) for name in sources], np.int64)


def _ends(name: str) -> list[str]:
    """Return a path and its ends of at least a folder and a file, the longest first."""
    parts = name.split("/")
    return [name, *("/".join(parts[start:]) for start in range(1, len(parts) - 1))] if name else []


def common_image(sets: Mapping[str, EvaluationSet], *, size: int | None) -> tuple[ImageSpec, str]:
    """Return the size, channels and classes in which all sets are compared, and a sentence about it.

    The side is `size`, or the smaller one of the real and synthetic images: enlarging would compare interpolation.
    """
    real, fake = sets[REAL], sets[FAKE]
    side = size or min(real.formats.side, fake.formats.side, _LARGEST)
    gray = all(one.formats.gray for one in sets.values())
    classes = tuple(dict.fromkeys([*real.data.classes, *fake.data.classes]))
    image = ImageSpec(size=side, channels=1 if gray else 3, classes=classes)
    parts = [f"all images are compared at {side}x{side} pixels in {'gray' if gray else 'color'}"]
    for one in sets.values():
        sizes = one.formats.sizes
        if others := sum(count for size_, count in sizes.items() if size_ != (side, side)):
            squared = sum(count for (width, height), count in sizes.items() if width != height)
            larger = " enlarged" if one.formats.side < side else " resized"
            parts.append(f"{others} {one.role} images were{larger}{f', {squared} of them made square' * bool(squared)}")
        if one.formats.gray and not gray:
            parts.append(f"the {one.role} images' gray was repeated")
    return image, "; ".join(parts) + " (bicubic, antialiased)" * any("were" in part for part in parts)


def dataset_warnings(sets: Mapping[str, EvaluationSet]) -> list[str]:
    """Return a sentence for each peculiarity of the sets that affects every metric."""
    real, fake = sets[REAL].data.counts(), sets[FAKE].data.counts()
    found: list[str] = []
    if UNLABELED not in real and UNLABELED not in fake:
        names = list(dict.fromkeys([*real, *fake]))
        for name in names:
            if not real.get(name) or not fake.get(name):
                lacking = REAL if not real.get(name) else FAKE
                found.append(f"class '{name}' has no {lacking} images, which affects distances between the sets")
        shares = [{name: counts[name] / sum(counts.values()) for name in counts} for counts in (real, fake)]
        total_variation = sum(abs(shares[0].get(name, 0) - shares[1].get(name, 0)) for name in names) / 2
        if total_variation > _SHARES_APART:
            texts = [", ".join(f"{name} {share:.0%}" for name, share in own.items()) for own in shares]
            named = f"{REAL} {texts[0]}; {FAKE} {texts[1]}"
            found.append(f"the class proportions differ ({named}), which affects distances between the sets")
    elif (UNLABELED in real) != (UNLABELED in fake):
        found.append("one of the two sets has no class folders, so classes were not compared")
    codecs = {role: sets[role].formats.codecs for role in (REAL, FAKE) if sets[role].formats.codecs != ("array",)}
    if len(set(codecs.values())) > 1:
        named = ", ".join(f"{role} {'/'.join(names)}" for role, names in codecs.items())
        found.append(f"the sets use different image codecs ({named}), which metrics can detect")
    for role, one in sets.items():
        constant: list[int] = []
        for start in range(0, len(one.images), _CHUNK):
            chunk = one.images[start : start + _CHUNK].reshape(-1, one.images.channels, one.images.size**2)
            constant += (start + np.flatnonzero((chunk == chunk[:, :, :1]).all(axis=(1, 2)))).tolist()
        if constant:
            text = ", ".join(one.data.names[place] for place in constant[:3])
            found.append(f"{len(constant)} {role} images have a single gray level or color: {text}")
    return found
