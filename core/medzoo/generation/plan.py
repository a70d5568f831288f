"""The plan of what to sample: which generator samples which image, in what order, from which seed, into which file."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np

from medzoo.data.dicom import import_pydicom
from medzoo.data.images import spread
from medzoo.errors import ConfigError, DataError
from medzoo.models.labels import split_label
from medzoo.seeds import derive_seed
from medzoo.storage.files import join_name

PNG = ".png"
FORMATS: Mapping[str, str] = {"png": PNG, "dicom": ".dcm"}
"""The formats of images that are written, and the suffixes of their files."""

_LONGEST_FOLDER = 255  # bytes, on the file systems of all common systems
# Hugging Face's imagefolder reads these words in a file name as names of splits, and then skips all other files.
_SPLIT_WORD = re.compile(
    r"(?<![A-Za-z])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![A-Za-z])"
)


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image to sample: `index` counts the images of its label and generator.

    `label` is a class name, or several joined by `join_labels` for a multi-label model.
    """

    generator: int
    generator_name: str
    label: str
    index: int
    suffix: str = PNG

    @property
    def file(self) -> str:
        """The file, relative to the run's folder; several labels are joined as in effusion+edema."""
        return f"{label_folder(self.label)}/synthetic-{self.generator_name}-{self.index:06d}{self.suffix}"


def label_folder(label: str) -> str:
    """Return the folder of images of a label: its name, several joined as in effusion+edema, "no-label" for none."""
    return "+".join(split_label(label)) or "no-label"  # Windows takes no '|' in a name


def check_folders(labels: Sequence[str]) -> None:
    """Raise DataError if a set of labels is too long to name a folder."""
    for label in labels:
        if len(label_folder(label).encode()) > _LONGEST_FOLDER:
            raise DataError(
                f"the labels {label} together are too long for a folder's name", "shorten the names of the classes"
            )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How many images of one label one generator samples: the first `count`, or those of some `indices`."""

    generator: int
    label: str
    count: int
    indices: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All images of a run. Their order, and so the batches, depends on generators, labels and counts alone.

    Files end in `suffix`, one of the values of `FORMATS`.
    """

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    batch_size: int
    seed: int
    suffix: str = PNG

    @property
    def total(self) -> int:
        """The number of images."""
        return sum(cell.count for cell in self.cells)

    def count(self, label: str) -> int:
        """Return the number of images of one label."""
        return sum(cell.count for cell in self.cells if cell.label == label)

    def images(self, *, generator: int | None = None, label: str | None = None) -> Iterator[PlannedImage]:
        """Yield the images, or those of one generator or label, ordered by generator, label and index."""
        for cell in self.cells:
            if generator in (None, cell.generator) and label in (None, cell.label):
                name = self.names[cell.generator]
                for index in range(cell.count) if cell.indices is None else cell.indices:
                    yield PlannedImage(
                        generator=cell.generator,
                        generator_name=name,
                        label=cell.label,
                        index=index,
                        suffix=self.suffix,
                    )

    def only(self, images: Iterable[PlannedImage]) -> Plan:
        """Return the plan of some of its images, which keep their indices, and with them their seeds and files."""
        chosen: dict[tuple[int, str], list[int]] = {}
        for image in images:
            chosen.setdefault((image.generator, image.label), []).append(image.index)
        cells = [(cell, chosen.get((cell.generator, cell.label), [])) for cell in self.cells]
        return replace(
            self, cells=tuple(replace(cell, count=len(own), indices=tuple(own)) for cell, own in cells if own)
        )

    def batches(self, shard: tuple[int, int] = (1, 1)) -> Iterator[list[PlannedImage]]:
        """Yield the batches of shard k of n, which takes every n-th batch; a batch has one generator."""
        which, shards = shard
        number = 0
        for generator in range(len(self.names)):
            images = self.images(generator=generator)
            while batch := list(itertools.islice(images, self.batch_size)):
                if number % shards == which - 1:
                    yield batch
                number += 1

    def seed_of(self, image: PlannedImage) -> int:
        """Return the 32-bit seed of an image, which depends on no other image of the plan.

        Seeds count up from a start derived from the plan's seed, the generator and the label, so that no two images of
        a class start from the same noise. torch's CPU generator uses 32 bits only.
        """
        start = derive_seed(self.seed, image.generator_name, image.label)
        return (start + image.index) % 2**32

    def source_of(self, image: PlannedImage, available: int) -> int:
        """Return which of `available` real images an image varies: each once in random order before any twice."""
        turn, place = divmod(image.index, available)
        order = _shuffled(derive_seed(self.seed, image.generator_name, image.label, "sources", turn), available)
        return int(order[place])

    def spread(self, label: str, count: int) -> list[PlannedImage]:
        """Return up to `count` images of a label, spread evenly over its generators and indices."""
        wanted = set(spread(self.count(label), count))
        return [image for place, image in enumerate(self.images(label=label)) if place in wanted]


@functools.lru_cache(maxsize=64)
def _shuffled(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def make_plan(
    counts: Mapping[str, int],
    *,
    names: Sequence[str],
    shares: Sequence[Fraction],
    batch_size: int,
    seed: int,
) -> Plan:
    """Plan `counts` images of each label, divided between the generators `names` by their `shares`."""
    split = {label: exact_shares(count, shares) for label, count in counts.items()}
    cells = tuple(
        Cell(generator=generator, label=label, count=own[generator])
        for generator in range(len(names))
        for label, own in split.items()
        if own[generator]
    )
    return Plan(names=tuple(names), cells=cells, batch_size=batch_size, seed=seed)


def exact_shares(total: int, shares: Sequence[Fraction]) -> list[int]:
    """Return integers proportional to `shares` that sum to `total` (largest remainder, ties to the earlier)."""
    whole = sum(shares, Fraction(0))
    exact = [total * share / whole for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def file_safe(name: str) -> str:
    """Return `name` with every run of characters other than letters, digits, '.', '_' and '-' replaced by '-'.

    Of a long name it is the start, so that names of files can hold it.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:150].strip(".-") or "model"


def distinct(names: Sequence[str]) -> list[str]:
    """Return the file names made unique, none of which a reader mistakes for the name of a split."""
    taken: dict[str, int] = {}
    found = []
    for name in (_SPLIT_WORD.sub(lambda word: word[0].upper(), name) for name in names):
        path = PurePosixPath(name)
        candidate, key = name, name.casefold()  # some file systems ignore case
        while candidate.casefold() in taken:
            taken[key] += 1
            candidate = join_name(path.stem, f"-{taken[key]}{path.suffix}")
        taken[candidate.casefold()] = 1
        found.append(candidate)
    return found


def check_format(format: str) -> None:
    """Raise ConfigError for a format that is not one of `FORMATS`, or whose library is not installed."""
    if format not in FORMATS:
        raise ConfigError(f"--format cannot take '{format}'", f"it takes {' or '.join(FORMATS)}")
    if format == "dicom":
        import_pydicom("writing")


def parse_shard(text: str) -> tuple[int, int]:
    """Parse "k/n" as (k, n). Raises: ConfigError unless 1 <= k <= n."""
    which, slash, shards = text.partition("/")
    if not (slash and which.isdecimal() and shards.isdecimal() and 1 <= int(which) <= int(shards)):
        raise ConfigError(
            f"--shard '{text}' is not k/n with 1 <= k <= n", "write --shard 1/2 for the first half of the work"
        )
    return int(which), int(shards)
