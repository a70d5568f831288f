"""Arrays of pixels: what a model sees of a picture, floats and bytes, and sheets of many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medzoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

CROPS = ("none", "center", "dark-border", "pad")
SHEET_GAP = 2  # pixels between the images of a contact sheet
# Luma at or below this is border; the black around a retina carries JPEG noise of a few gray levels.
DARK = 10
# A row or column with fewer bright pixels than this share is border too, so that hot pixels do not widen the box.
DARK_SHARE = 0.01
# The mean difference of an image's channels in gray levels, from which on it shows color: JPEG leaves gray below 2.
_TINT = 3.0


def is_color(pixels: np.ndarray) -> bool:
    """Return whether an image, uint8 (H, W) or (H, W, 3), shows color, and not gray with a tint of JPEG or a mark."""
    if pixels.ndim == 2:
        return False
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    return bool(spread.mean() > _TINT)


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """Convert uint8 (H, W) or (H, W, 3) to gray (H, W) by ITU-R 601."""
    return np.array(Image.fromarray(pixels).convert("L"))


def prepare(pixels: np.ndarray, *, size: int, channels: int, crop: str) -> np.ndarray:
    """Return the image a model sees, uint8 (C, size, size), from decoded uint8 (H, W) or (H, W, 3).

    `crop`: "none" resizes without keeping the aspect, "center" takes the largest centered square, "dark-border" the box
    of what is not black, padded with black to a square, and "pad" the whole image, padded likewise. Resizing is bicubic
    with the kernel widened when shrinking (antialiased); a size that already fits is left untouched. Gray becomes RGB
    by repetition, RGB gray by ITU-R 601.
    Raises: ConfigError on an unknown crop or channel count; DataError on pixels that are not a decoded image.
    """
    if crop not in CROPS:
        raise ConfigError(f"unknown crop '{crop}'", f"one of {', '.join(CROPS)}")
    if channels not in (1, 3) or size < 1:
        raise ConfigError(f"images have 1 or 3 channels and at least 1 pixel, not {channels} and {size}")
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(f"expected uint8 pixels (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L" if channels == 1 else "RGB")
    if crop == "center":
        image = _center(image)
    elif crop == "dark-border":
        image = _padded(_without_dark_border(image))
    elif crop == "pad":
        image = _padded(image)
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    square = np.array(image)
    return square[None] if channels == 1 else np.ascontiguousarray(square.transpose(2, 0, 1))


def _center(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _without_dark_border(image: Image.Image) -> Image.Image:
    bright = np.asarray(image.convert("L")) > DARK
    rows = np.flatnonzero(bright.mean(axis=1) >= DARK_SHARE)
    columns = np.flatnonzero(bright.mean(axis=0) >= DARK_SHARE)
    # An image without anything bright has no border to take away.
    if rows.size and columns.size:
        image = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    return image


def _padded(image: Image.Image) -> Image.Image:
    """Center an image on a black square: black is the ground of most scans, and shows no anatomy that is not there."""
    side = max(image.size)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def to_uint8(images: Tensor | np.ndarray) -> np.ndarray:
    """Convert floats in [0, 1] to uint8 pixels of the same shape: clipped, scaled by 255, rounded.

    Takes a torch tensor of any float type on any device, or a numpy array. Raises: DataError on NaN or infinity.
    """
    values = np.asarray(images if isinstance(images, np.ndarray) else images.detach().float().cpu().numpy(), np.float32)
    if not np.isfinite(values).all():
        raise DataError("images hold NaN or infinite values", "the model diverged; retrain with a lower learning rate")
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Convert uint8 pixels to float32 in [0, 1] of the same shape; the inverse of `to_uint8`."""
    return pixels.astype(np.float32) / np.float32(255)


def grid(images: np.ndarray, *, columns: int, gap: int = SHEET_GAP) -> np.ndarray:
    """Return one uint8 RGB picture (3, H, W) of uint8 images (n, C, h, w), row after row, on a light ground."""
    return _sheet([("", images)], columns=columns, scale=1, gap=gap)


def contact_sheet(rows: Sequence[tuple[str, np.ndarray]], *, columns: int, scale: int = 1) -> np.ndarray:
    """Return one uint8 RGB picture (3, H, W): each row's name at the left, its uint8 images (n, C, h, w) beside it.

    A row of more than `columns` images goes on below. `scale` repeats each pixel that many times.
    """
    return _sheet(rows, columns=columns, scale=scale, gap=SHEET_GAP)


def _sheet(rows: Sequence[tuple[str, np.ndarray]], *, columns: int, scale: int, gap: int) -> np.ndarray:
    if columns < 1 or scale < 1 or not rows or not all(len(images) for _, images in rows):
        raise DataError("a contact sheet needs at least one row, one column and one image per row")
    font = ImageFont.load_default(14)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    texts = [ruler.multiline_textbbox((0, 0), name, font=font) for name, _ in rows]
    margin = max(int(box[2]) for box in texts)
    margin += 12 if margin else 0
    heights = [
        max(-(-len(images) // columns) * (images.shape[2] * scale + gap), int(box[3]) + gap if box[2] else 0)
        for box, (_, images) in zip(texts, rows, strict=True)
    ]
    width = max(min(columns, len(images)) * (images.shape[3] * scale + gap) for _, images in rows)
    sheet = Image.new("RGB", (margin + width + gap, sum(heights) + gap), "#f4f4f2")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for (name, images), height in zip(rows, heights, strict=True):
        draw.multiline_text((6, top), name, fill="#202020", font=font)
        for index, pixels in enumerate(images):
            tile = Image.fromarray(
                np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))
            )
            tile = tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
            left = margin + gap + (index % columns) * (tile.width + gap)
            sheet.paste(tile, (left, top + index // columns * (tile.height + gap)))
        top += height
    return np.ascontiguousarray(np.array(sheet).transpose(2, 0, 1))
