"""The image sets of an evaluation: opened by role, brought to one size and colour, and refused where they lie."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import SUFFIXES, probe
from medzoo.errors import DataError
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN, SetSummary
from medzoo.generation.writer import METADATA
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)


UNLABELLED = "all images"
"""The class of a folder of images without class folders."""

_GREY = ("1", "L", "LA", "I", "F")
_LARGEST = 1024


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where synthetic images come from by their metadata.csv: a generator's name and its weights' SHA-256."""

    generator: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """One set as it was given. `origins` are those of synthetic images, as far as their metadata.csv tells."""

    role: str
    data: Dataset
    sizes: Counter[tuple[int, int]]
    grey: bool
    codecs: tuple[str, ...]
    origins: tuple[Origin, ...] = ()

    def facts(self, images: Decoded) -> SetSummary:
        """What a report says of it."""
        low, high = min(self.sizes, key=_area), max(self.sizes, key=_area)
        one = f"{low[0]}x{low[1]}"
        return SetSummary(
            role=self.role,
            path=str(self.data.path),
            counts=self.data.counts(),
            sizes=one if low == high else f"{one} to {high[0]}x{high[1]}",
            colour="grey" if self.grey else "colour",
            codecs=", ".join(self.codecs),
            fingerprint=hashlib.sha256("\n".join(sorted(images.fingerprints())).encode()).hexdigest(),
        )

    @property
    def side(self) -> int:
        """The median of the images' shorter sides, in pixels."""
        return int(np.median([min(size) for size, count in self.sizes.items() for _ in range(count)]))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def open_sets(
    given: Mapping[str, Path | Dataset | None],
    *,
    classes: Sequence[str] | None,
    skip_bad: bool,
) -> dict[str, ImageSet]:
    """The sets by role; `classes` names an npz's numbers.

    Real images of a path with parts are its test or val part; its train part are then those trained on, unless others
    are given. Images of several labels are compared without them.

    Raises: DataError for synthetic images in the place of real ones, or real ones in the place of synthetic.
    """
    sets: dict[str, ImageSet] = {}
    for role in (REAL, FAKE, TRAIN, OTHER):
        wanted = given.get(role)
        if wanted is None:
            continue
        data = wanted if isinstance(wanted, Dataset) else _open(wanted, classes=classes, skip_bad=skip_bad)
        if data.multi_label:
            logger.info(f"{data.path} has several labels an image: its images are compared without them")
            data = _without_labels(data)
        for name, reason in data.bad:
            logger.warning(f"left out {name}: {reason}")
        if role == REAL and data.held_out:
            part = "test" if "test" in data.held_out else "val"
            if given.get(TRAIN) is None:
                logger.info(
                    f"{data.path} has parts: measured against its {part} part; its train part are those trained on"
                )
                sets[TRAIN] = described(TRAIN, replace(data, held_out={}))
            else:
                logger.info(f"{data.path} has parts: measured against its {part} part")
            data = data.held_out[part]
        data, origins = _chosen(role, replace(data, held_out={}))
        sets[role] = described(role, data, origins)
    return sets


def _open(path: Path, *, classes: Sequence[str] | None, skip_bad: bool) -> Dataset:
    """A dataset, or a folder of images without class folders as one of a single class."""
    path = Path(path)
    entries = sorted(path.iterdir()) if path.is_dir() else []
    files = [entry for entry in entries if entry.is_file() and entry.name.lower().endswith(SUFFIXES)]
    files = [file for file in files if not file.name.startswith(".")]
    if not files or any(entry.is_dir() and not entry.name.startswith(".") for entry in entries):
        # Folders have names for their classes, and those of the sets need not be the same.
        data = open_dataset(path, skip_bad=skip_bad, classes=classes if path.suffix.lower() == ".npz" else None)
    else:
        names = tuple(file.name for file in files)
        labels = np.zeros(len(files), np.int64)
        data = Dataset(path=path, classes=(UNLABELLED,), labels=labels, names=names, files=tuple(files))
        data = data.verify(skip_bad=True) if skip_bad else data
    return data


def _without_labels(data: Dataset) -> Dataset:
    """The images, and those held out, as ones of a single class."""
    held_out = {part: _without_labels(images) for part, images in data.held_out.items()}
    return replace(data, classes=(UNLABELLED,), labels=np.zeros(len(data), np.int64), held_out=held_out)


def described(role: str, data: Dataset, origins: tuple[Origin, ...] = ()) -> ImageSet:
    """The set of these images, with what their headers say of them."""
    if data.files is not None:
        headers = [probe(file) for file in data.files]
        sizes = Counter((width, height) for width, height, _ in headers)
        grey = all(mode in _GREY or mode.startswith("I;16") for _, _, mode in headers)
        formats = Image.registered_extensions()
        codecs = tuple(sorted({formats.get(file.suffix.lower(), file.suffix) for file in data.files}))
    else:
        assert data.array is not None  # a dataset has files or an array
        height, width = data.array.shape[1:3]
        sizes, grey, codecs = Counter({(width, height): len(data)}), data.array.ndim == 3, ("array",)
    return ImageSet(role=role, data=data, sizes=sizes, grey=grey, codecs=codecs, origins=origins)


def _chosen(role: str, data: Dataset) -> tuple[Dataset, tuple[Origin, ...]]:
    """The images of a set that belong to its role by its metadata.csv, and where synthetic ones come from."""
    rows = _metadata(data)
    synthetic = {name: row for name, row in rows.items() if row.get("origin") == "synthetic"}
    if role != FAKE:
        if count := sum(name in synthetic for name in data.names):
            raise DataError(
                f"{data.path} holds {count} synthetic images, by its {METADATA}; they were given as {role} ones",
                "give a folder of real images alone",
            )
        return data, ()
    if not rows:
        return data, ()
    own = [k for k, name in enumerate(data.names) if name in synthetic]
    if not own:
        raise DataError(f"{data.path} holds no synthetic image, by its {METADATA}", "give the folder of synthetic ones")
    if len(own) < len(data):
        logger.info(f"{data.path}: the {len(own)} synthetic of its {len(data)} images are measured, by its {METADATA}")
    told = [synthetic[data.names[k]] for k in own]
    origins = dict.fromkeys(
        Origin(generator=row.get("generator", ""), weights_sha256=row.get("weights_sha256", "")) for row in told
    )
    return data.subset(own), tuple(origins)


def _metadata(data: Dataset) -> dict[str, dict[str, str]]:
    """The rows of the set's metadata.csv by file name; none where there is no such file of medzoo's."""
    folder = data.path if data.path.is_dir() else data.path.parent
    table = data.path if data.path.name == METADATA else folder / METADATA
    if data.array is not None or not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}", "mend or remove it") from error
    return {row["file_name"]: row for row in rows if row.get("file_name") and "origin" in row}


def common_image(sets: Mapping[str, ImageSet], *, size: int | None) -> tuple[ImageSpec, str]:
    """As what all sets are compared, and a sentence that says so.

    `size`, or the smaller one of the real and the synthetic images' sides: enlarging would compare interpolation.
    """
    real, fake = sets[REAL], sets[FAKE]
    side = size or min(real.side, fake.side, _LARGEST)
    grey = all(one.grey for one in sets.values())
    classes = tuple(dict.fromkeys([*real.data.classes, *fake.data.classes]))
    image = ImageSpec(size=side, channels=1 if grey else 3, classes=classes)
    told = [f"all images are compared at {side}x{side} pixels in {'grey' if grey else 'colour'}"]
    for one in sets.values():
        others = sum(count for size_, count in one.sizes.items() if size_ != (side, side))
        if others:
            stretched = sum(count for (width, height), count in one.sizes.items() if width != height)
            bent = f", {stretched} of them made square" if stretched else ""
            larger = " enlarged" if one.side < side else " resized"
            told.append(f"{others} {one.role} images were{larger}{bent}")
        if one.grey and not grey:
            told.append(f"the {one.role} images' grey was repeated")
    return image, "; ".join(told) + " (bicubic, antialiased)" * any("were" in part for part in told)
