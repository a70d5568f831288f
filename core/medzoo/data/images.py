"""The only reader and writer of pixels: one decoder, one resize and one encoder for real and synthetic images alike."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from medzoo.data.synthetic import has_synthetic_mark
from medzoo.errors import ConfigError, DataError
from medzoo.storage.files import temporary_beside

if TYPE_CHECKING:
    from torch import Tensor

CROPS = ("none", "center", "dark-border")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 100_000_000
# Luma at or below this is border; the black around a retina carries JPEG noise of a few gray levels.
DARK = 10
# A row or column with fewer bright pixels than this share is border too, so that hot pixels do not widen the box.
DARK_SHARE = 0.01

# Pillow picks a decoder by content; those that run other programs (EPS) or hold no still pictures are left out.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
# What Pillow's decoders raise on broken bytes, beside OSError.
_BROKEN = (SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, ZeroDivisionError)
_SKIP = "--skip-bad skips such files and lists them"
_SKIP_HINT = f"fix or remove it; {_SKIP}"


class Header(NamedTuple):
    """What an image file's header says: its size, Pillow mode, and whether a generative model made it."""

    width: int
    height: int
    mode: str
    synthetic: bool = False

    @property
    def gray(self) -> bool:
        """Whether the image has no color."""
        return self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16")

    @property
    def bits(self) -> int:
        """The bits a channel."""
        return 16 if self.mode.startswith("I;16") else {"1": 1, "I": 32, "F": 32}.get(self.mode, 8)


def probe(path: Path) -> Header:
    """Read the header of an image file. Raises: DataError where `decode` would already fail on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(path) as image:
            return Header(image.width, image.height, image.mode, has_synthetic_mark(image))


def decode(path: Path) -> np.ndarray:
    """Decode an image file in its native size: uint8, (H, W) for gray or (H, W, 3) for RGB.

    16-bit gray is scaled from its whole range (65535 becomes 255), never by the image's own extremes. Transparency is
    composited on black, EXIF orientation is applied, palettes and CMYK become RGB.
    Raises: DataError naming the file if it is missing, empty, broken, animated, or larger than 100 megapixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(path)


def decode_all(paths: Sequence[Path]) -> Iterator[np.ndarray | DataError]:
    """Decode each file as `decode` does, in order, several at once; a bad file yields its DataError."""

    def attempt(path: Path) -> np.ndarray | DataError:
        try:
            return _decode(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), 64):
            # Warning filters are one per process, so they are set here and not in each thread.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chunk = list(pool.map(attempt, paths[start : start + 64]))
            yield from chunk


def _opened(path: Path) -> Image.Image:
    """Open an image; its header must be that of one still picture of bearable size."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file", f"check the path; {_SKIP}")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes)", _SKIP_HINT)
        image = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels", _SKIP_HINT) from error
    except (OSError, *_BROKEN, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}", _SKIP_HINT) from error
    try:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels", _SKIP_HINT)
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(
                f"{path} holds several frames", f"save each frame as an image of its own, or remove it; {_SKIP}"
            )
    except (OSError, *_BROKEN, struct.error, zlib.error) as error:
        image.close()
        raise DataError(f"{path} cannot be read: {_reason(error)}", _SKIP_HINT) from error
    except DataError:
        image.close()
        raise
    return image


def _decode(path: Path) -> np.ndarray:
    with _opened(path) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _eight_bit(upright, path)
        except (OSError, *_BROKEN, struct.error, zlib.error, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}", _SKIP_HINT) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a PNG, JPEG, TIFF or BMP image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bit(image: Image.Image, path: Path) -> np.ndarray:
    """Convert any Pillow mode to uint8 (H, W) or (H, W, 3)."""
    if image.mode.startswith(("I", "F")):
        wide = np.asarray(image)
        # Modes I and F state no range; whole numbers of 16 bits are the one reading that needs no guess.
        if not (np.all(wide >= 0) and np.all(wide <= 65535) and np.all(wide == np.floor(wide))):
            raise DataError(
                f"{path} has pixel values that are fractions or outside 0..65535",
                f"save it with 8 or 16 bits per pixel; {_SKIP}",
            )
        return np.rint(wide.astype(np.float64) / 257).astype(np.uint8)
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        # convert() to RGBA knows every way a file states transparency: an alpha band, a key color, palette entries.
        layered = image.convert("RGBA")
        flat = Image.new("RGB", image.size)
        flat.paste(layered.convert("RGB"), mask=layered.getchannel("A"))
        image = flat
    return np.array(image.convert("L" if gray else "RGB"))


def prepare(pixels: np.ndarray, *, size: int, channels: int, crop: str) -> np.ndarray:
    """Return the image a model sees, uint8 (C, size, size), from decoded uint8 (H, W) or (H, W, 3).

    `crop`: "none" resizes without keeping the aspect, "center" takes the largest centered square, "dark-border" the box
    of what is not black, padded with black to a square. Resizing is bicubic with the kernel widened when shrinking
    (antialiased); a size that already fits is left untouched. Gray becomes RGB by repetition, RGB gray by ITU-R 601.
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
        image = _without_dark_border(image)
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


def encode_png(pixels: np.ndarray) -> bytes:
    """Return a PNG file's bytes for uint8 (C, H, W), C 1 or 3; the same pixels give the same bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise DataError(f"expected uint8 pixels (1, H, W) or (3, H, W), got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: on failure the file keeps what it held before.

    Raises: ResourceError when the disk is full, read-only or not ours to write on.
    """
    # No fsync: thousands of images would wait for the disk one by one, and each can be made again.
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (C, H, W) to `path` as a PNG, atomically."""
    write_bytes(path, encode_png(pixels))


def grid(images: np.ndarray, *, columns: int, gap: int = 2) -> np.ndarray:
    """Return one uint8 RGB picture (3, H, W) of uint8 images (n, C, h, w), row after row, on a light ground."""
    return _sheet([("", images)], columns=columns, scale=1, gap=gap)


def contact_sheet(rows: Sequence[tuple[str, np.ndarray]], *, columns: int, scale: int = 1) -> np.ndarray:
    """Return one uint8 RGB picture (3, H, W): each row's name at the left, its uint8 images (n, C, h, w) beside it.

    A row of more than `columns` images goes on below. `scale` repeats each pixel that many times.
    """
    return _sheet(rows, columns=columns, scale=scale, gap=2)


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
