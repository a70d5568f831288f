"""Sizes, color and codecs of the images of a dataset, read from their headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medzoo.data.dataset import Dataset


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
    codecs: tuple[str, ...] = ("array",)
    if data.files is not None:
        formats = Image.registered_extensions()
        named = zip(data.files, data.headers, strict=True)
        codecs = tuple(sorted({head.format or formats.get(file.suffix.lower(), file.suffix) for file, head in named}))
    return ImageFormats(
        sizes=Counter((header.width, header.height) for header in data.headers),
        gray=all(header.gray for header in data.headers),
        codecs=codecs,
    )
