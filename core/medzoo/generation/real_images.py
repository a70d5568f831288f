"""Find the real images that a run starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.image_formats import image_formats
from medzoo.data.metadata import METADATA, read_metadata
from medzoo.data.phantom import phantom_dataset
from medzoo.errors import DataError
from medzoo.models.loading import LoadedModel
from medzoo.protocols import Generator
from medzoo.specs import ImageSpec

DEFAULT_DATA = Path("datasets/train")

# The demo dataset: imbalanced like a clinic's archive, and small enough that a demonstration adds to every class.
PHANTOM_COUNTS: Mapping[str, int] = {"normal": 20, "thick-wall": 12, "narrow-canal": 8, "echogenic-content": 6}
PHANTOM_SEED = 2024

logger = logging.getLogger(__name__)


def find_data(
    path: Path | None, lead: LoadedModel[Generator] | None, *, classes: Sequence[str] | None, skip_bad: bool
) -> Dataset:
    """Open the real images: those at `path`, else ./datasets/train, else the demo dataset of the model `lead`.

    Raises: DataError if there are none, if they are multi-label, or if some are synthetic.
    """
    if path is None and DEFAULT_DATA.exists():
        path = DEFAULT_DATA
        logger.info(f"real images: ./{DEFAULT_DATA} (no --data given)")
    if path is not None:
        data = open_dataset(path, skip_bad=skip_bad, classes=classes)
        _check_real(path)
        for name, reason in (entry for part in (data, *data.held_out.values()) for entry in part.bad):
            logger.warning(f"left out {name}: {reason}")
    elif lead is not None and lead.demo_dataset == "phantom":
        data = phantom_dataset(PHANTOM_COUNTS, size=lead.image.size, seed=PHANTOM_SEED)
        logger.warning(
            "real images: none given and no ./datasets/train here, so simulated ultrasound stands in for them"
        )
    else:
        whose = f"'{lead.name}' has no demo dataset" if lead is not None else "these generators have none of their own"
        raise DataError(f"no real images: ./{DEFAULT_DATA} does not exist and {whose}", "give them with --data DIR")
    if data.multi_label:
        raise DataError(
            f"{data.path} is multi-label: an image may have several classes, so adding to one class changes others",
            "give a set with one label per image",
        )
    return data


def _check_real(path: Path) -> None:
    """Raise DataError for a folder, or its metadata.csv, that lists synthetic images."""
    for place in (path, path / "train"):
        synthetic = sum(row["origin"] == "synthetic" for row in read_metadata(place).values())
        if synthetic:
            raise DataError(
                f"{place} holds {synthetic} synthetic images by its {METADATA}, which would count as real",
                "give the folder of the real images",
            )


def natural_image(data: Dataset, asked: Mapping[str, Any]) -> ImageSpec:
    """Describe images like the real ones: their median shorter side, and color if any has it.

    The settings `asked` for, "image.size" and "image.channels", come first.
    """
    formats = image_formats(data)
    size = asked.get("image.size", min(max(formats.side, 8), 1024))
    channels = asked.get("image.channels", 1 if formats.gray else 3)
    return ImageSpec(size=size, channels=channels, classes=data.classes)
