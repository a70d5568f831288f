"""Sizes, color and codecs of the images of a dataset, read from their headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medzoo.data.dataset import Dataset
from medzoo.data.images import probe

_GRAY = ("1", "L", "LA", "I", "F")


@dataclass(frozen=True, kw_only=True)
class ImageFormats:
    """How often each size (width, height) occurs, whether all images are gray, and the codecs, such as "PNG"."""

    sizes: Counter[tuple[int, int]]
    gray: bool
    codecs: tuple[str, ...]

    @property
    def side(self) -> int:
        """The median of the images' shorter sides, in pixels."""
        return int(np.median([min(size) for size, count in self.sizes.items() for _ in range(count)]))


def image_formats(data: Dataset) -> ImageFormats:
    """Read the formats of a dataset's images. Raises: DataError for a file that is not an image."""
    if data.files is not None:
        headers = [probe(file) for file in data.files]
        formats = Image.registered_extensions()
        return ImageFormats(
            sizes=Counter((width, height) for width, height, _ in headers),
            gray=all(mode in _GRAY or mode.startswith("I;16") for _, _, mode in headers),
            codecs=tuple(sorted({formats.get(file.suffix.lower(), file.suffix) for file in data.files})),
        )
    assert data.array is not None  # a dataset has files or an array
    height, width = data.array.shape[1:3]
    return ImageFormats(sizes=Counter({(width, height): len(data)}), gray=data.array.ndim == 3, codecs=("array",))
