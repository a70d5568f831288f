"""What a filling job makes: which generator draws which picture, in what order, from which seed, into which file."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np

from medzoo.errors import ConfigError
from medzoo.generation.shares import exact_shares
from medzoo.models.labels import split_label
from medzoo.seeds import derive_seed

# Hugging Face's imagefolder takes these as words of a file name for names of splits, and leaves all other files out.
_SPLIT_WORD = re.compile(
    r"(?<![A-Za-z])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![A-Za-z])"
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to be made: `index` counts the pictures of its label and generator.

    `label` is a class name, or several as `join_labels` gives them: what a multi-label model is to show at once.
    """

    generator: int
    generator_name: str
    label: str
    index: int

    @property
    def file(self) -> str:
        """Its file, relative to the job's folder, which names several labels as in effusion+edema."""
        folder = "+".join(split_label(self.label))  # Windows takes no '|' in a name
        return f"{folder}/synthetic-{self.generator_name}-{self.index:06d}.png"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How many pictures of one label one generator makes."""

    generator: int
    label: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All pictures of a job. Their order, and so the batches, follows from generators, labels and counts alone."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    batch_size: int
    seed: int

    @property
    def total(self) -> int:
        """Pictures in all."""
        return sum(cell.count for cell in self.cells)

    def count(self, label: str) -> int:
        """Pictures of one label."""
        return sum(cell.count for cell in self.cells if cell.label == label)

    def pictures(self, *, generator: int | None = None, label: str | None = None) -> Iterator[Picture]:
        """Every picture, or one generator's or label's, in order: by generator, label and index."""
        for cell in self.cells:
            if generator in (None, cell.generator) and label in (None, cell.label):
                name = self.names[cell.generator]
                for index in range(cell.count):
                    yield Picture(generator=cell.generator, generator_name=name, label=cell.label, index=index)

    def batches(self, shard: tuple[int, int] = (1, 1)) -> Iterator[list[Picture]]:
        """The batches of shard k of n, which takes every n-th batch; a batch is one generator's."""
        which, shards = shard
        number = 0
        for generator in range(len(self.names)):
            pictures = self.pictures(generator=generator)
            while batch := list(itertools.islice(pictures, self.batch_size)):
                if number % shards == which - 1:
                    yield batch
                number += 1

    def seed_of(self, picture: Picture) -> int:
        """The seed of a picture, whatever the counts of the others.

        32 bits, which is all torch's CPU generator takes in: counted up from a random start, so that no two pictures of
        a class start from the same noise.
        """
        start = derive_seed(self.seed, picture.generator_name, picture.label)
        return (start + picture.index) % 2**32

    def source_of(self, picture: Picture, available: int) -> int:
        """Which of `available` real images of its class a picture varies: all once, shuffled, before any twice."""
        turn, place = divmod(picture.index, available)
        order = _shuffled(derive_seed(self.seed, picture.generator_name, picture.label, "sources", turn), available)
        return int(order[place])

    def spread(self, label: str, count: int) -> list[Picture]:
        """Up to `count` pictures of a label, evenly over its generators and indices."""
        pictures = self.count(label)
        wanted = {int(place) for place in np.linspace(0, pictures - 1, min(count, pictures))}
        return [picture for place, picture in enumerate(self.pictures(label=label)) if place in wanted]


@functools.lru_cache(maxsize=64)
def _shuffled(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def make_plan(
    wanted: Mapping[str, int],
    *,
    names: Sequence[str],
    shares: Sequence[Fraction],
    batch_size: int,
    seed: int,
) -> Plan:
    """The plan that makes so many pictures of each label as `wanted` says, of the generators by their `shares`."""
    split = {label: exact_shares(count, shares) for label, count in wanted.items()}
    cells = tuple(
        Cell(generator=generator, label=label, count=counts[generator])
        for generator in range(len(names))
        for label, counts in split.items()
        if counts[generator]
    )
    return Plan(names=tuple(names), cells=cells, batch_size=batch_size, seed=seed)


def file_safe(name: str) -> str:
    """`name` in letters, digits and '.', '_', '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def distinct(names: Sequence[str]) -> list[str]:
    """The file names, each different from those before it and none one that a reader takes for a split's."""
    taken: dict[str, int] = {}
    found = []
    for name in (_SPLIT_WORD.sub(lambda word: word[0].upper(), name) for name in names):
        path = PurePosixPath(name)
        candidate, key = name, name.casefold()  # some disks do not tell letters' case
        while candidate.casefold() in taken:
            taken[key] += 1
            candidate = f"{path.stem}-{taken[key]}{path.suffix}"
        taken[candidate.casefold()] = 1
        found.append(candidate)
    return found


def parse_shard(text: str) -> tuple[int, int]:
    """(k, n) from "k/n". Raises: ConfigError unless 1 <= k <= n."""
    which, slash, shards = text.partition("/")
    if not (slash and which.isdecimal() and shards.isdecimal() and 1 <= int(which) <= int(shards)):
        raise ConfigError(f"--shard cannot take '{text}'", "write --shard 1/2 for the first of two parts of the work")
    return int(which), int(shards)
