"""The only reader and writer of image files: one decoder and one encoder for real and synthetic images alike."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from medzoo.data import dicom, nifti
from medzoo.data.dicom import square_size
from medzoo.data.marks import Mark, with_mark
from medzoo.data.pixels import to_uint8
from medzoo.data.reading import PLANES, SKIP, SKIP_HINT, Reading, chosen
from medzoo.data.secondary_capture import encode_dicom
from medzoo.data.synthetic import has_synthetic_mark
from medzoo.errors import DataError, memory_errors
from medzoo.storage.files import write_file

T = TypeVar("T")

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".j2k"),
    *(".pgm", ".ppm", ".pnm", ".pbm"),
    *(dicom.SUFFIX, *nifti.SUFFIXES),
)
DICOM, NIFTI = "DICOM", "NIfTI"
MAX_PIXELS = 100_000_000
# The bits that scanners and cameras use of a file of 16; DICOM's Bits Stored are as a rule among them.
DEPTHS = (8, 10, 12, 14, 15, 16)

# Pillow picks a decoder by content; those that run other programs (EPS) or hold no still pictures are left out.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
# What Pillow's decoders raise on broken bytes, beside OSError.
_BROKEN = (SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, ZeroDivisionError)
_PHOTOMETRIC, _SUBFILE_TYPE = 262, 254  # TIFF tags
_AT_ONCE = 64  # files
_IN_TURN = 16  # files read by a thread
# Entries of Pillow's `info` that may state how a picture is turned.
_ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_MAX_COPIES = 16  # reduced copies of a picture in one file, looked at


class Header(NamedTuple):
    """What an image file's header says: its size, Pillow mode, and whether a generative model made it.

    The mode ends in ";16" where Pillow takes the upper 8 of the 16 bits of color, as in "RGB;16".
    Of a DICOM or NIfTI file (`format`) also the bits that it uses of each value, which window shows it unless another
    is given (`window`: "the file's", "percentile", or "" for none), and whether the header says that text is burned in.
    """

    width: int
    height: int
    mode: str
    synthetic: bool = False
    format: str = ""
    stored_bits: int = 0
    window: str = ""
    burned_in: bool = False

    @property
    def gray(self) -> bool:
        """Whether the image has no color."""
        return self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16")

    @property
    def reduced(self) -> bool:
        """Whether the lower 8 of its 16 bits a channel are not read."""
        return self.mode.endswith(";16") and not self.gray

    @property
    def bits(self) -> int:
        """The bits a channel."""
        if self.stored_bits:
            return self.stored_bits
        return 16 if ";16" in self.mode else {"1": 1, "I": 32, "F": 32}.get(self.mode, 8)


def format_of(path: Path) -> str:
    """Return `DICOM` or `NIFTI` by a file's name, or by how it begins if its name says nothing; "" for other files."""
    name = path.name.lower()
    if name.endswith(nifti.SUFFIXES):
        return NIFTI
    if name.endswith(dicom.SUFFIX):
        return DICOM
    if name.endswith(SUFFIXES):
        return ""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return DICOM if stat.st_size > 132 and _begins_as_dicom(path, stat.st_size, stat.st_mtime_ns) else ""


@lru_cache(maxsize=1 << 17)
def _begins_as_dicom(path: Path, _size: int, _changed: int) -> bool:
    return dicom.begins_as_dicom(path)


def is_image(path: Path) -> bool:
    """Return whether a file is called like an image, or begins as DICOM does."""
    return path.name.lower().endswith(SUFFIXES) or format_of(path) == DICOM


def no_picture(path: Path) -> str:
    """Return what a DICOM or NIfTI file without a picture of its own is, such as "masks"; "" for every other file.

    A file that cannot be read counts as an image, so that opening the image says what is wrong with it.
    """
    kind = format_of(path)
    if not kind:
        return ""
    try:
        return dicom.read_header(path).no_picture if kind == DICOM else nifti.read_volume(path).no_picture
    except DataError:
        return ""


def frames_of(path: Path, reading: Reading) -> list[str]:
    """Return which frames of a DICOM file, or slices of a NIfTI volume, are images of their own; [""] for other files.

    Frames are numbered from 1, as in "0012", and slices from 0 at the right, posterior or inferior end of their
    `reading.plane`, as in "axial-0040".
    """
    kind = format_of(path)
    try:
        if kind == DICOM:
            return [f"{index + 1:04d}" for index in chosen(dicom.read_header(path).frames, reading.frames)]
        if kind == NIFTI:
            volume = nifti.read_volume(path)
            filled, rule = volume.filled_slices(reading.plane), reading.slices
            places = filled if rule == "nonempty" else chosen(volume.slices(reading.plane), rule)
            return [f"{reading.plane}-{index:04d}" for index in places]
    except DataError:  # opening the image says what is wrong
        return ["0001" if kind == DICOM else f"{reading.plane}-0000"]
    return [""]


def volumes_of(path: Path) -> int:
    """Return how many frames a DICOM file has, or how many volumes a NIfTI file; 1 where that cannot be read."""
    kind = format_of(path)
    try:
        if kind == DICOM:
            return dicom.read_header(path).frames
        return nifti.read_volume(path).volumes if kind == NIFTI else 1
    except DataError:
        return 1


def patient_of(path: Path) -> str:
    """Return a key of the patient a DICOM or NIfTI file is of, "" where that is unknown; never to be written."""
    kind = format_of(path)
    if kind == NIFTI:
        return nifti.subject_of(path)
    try:
        if kind == DICOM:
            header = dicom.read_header(path)
            return header.patient or (str(path) if header.frames > 1 else "")  # frames of a file belong together
        return ""
    except DataError:
        return ""


def probe(path: Path, frame: str = "") -> Header:
    """Read the header of an image file; `frame` is one of `frames_of`, or "" for the middle of a file of several.

    Raises: DataError where `decode` would already fail on it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind := format_of(path):
            return _probe_dicom(path, frame) if kind == DICOM else _probe_nifti(path, frame)
        with _opened(path) as image:
            return _header_of(image)


def _header_of(image: Image.Image) -> Header:
    """Return the header of an image that is opened and whose pixels are not read yet."""
    tiles = getattr(image, "tile", ())
    raw = tiles[0].args if tiles else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    reduced = image.mode in ("RGB", "RGBA", "LA") and ";16" in str(raw)
    mode = f"{image.mode};16" if reduced else image.mode
    return Header(image.width, image.height, mode, has_synthetic_mark(image))


def _probe_dicom(path: Path, frame: str) -> Header:
    header = dicom.read_with_picture(path)
    width, height = header.size
    _check_size(path, width, height)
    return Header(
        width,
        height,
        "L" if header.gray else "RGB",
        bool(header.marks.marks),
        format=DICOM,
        stored_bits=header.bits,
        window=header.window_of(_frame_index(path, frame, header.frames), ""),
        burned_in=header.burned_in,
    )


def _probe_nifti(path: Path, frame: str) -> Header:
    volume, (plane, _) = nifti.read_volume(path), _slice(path, frame)
    width, height = square_size(*volume.size(plane), volume.ratio(plane))
    _check_size(path, width, height)
    return Header(width, height, "L", format=NIFTI, stored_bits=volume.bits, window="percentile")


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels", SKIP_HINT)


def _frame_index(path: Path, frame: str, frames: int) -> int:
    """Return the index from 0 of a frame's number. Raises: DataError for a frame that the file does not have."""
    if not frame:
        return frames // 2
    if not (frame.isdecimal() and 1 <= int(frame) <= frames):
        raise DataError(f"{path} has no frame {frame}", f"its frames are 1..{frames}")
    return int(frame) - 1


def _slice(path: Path, frame: str) -> tuple[str, int]:
    """Return the plane and the index that a slice's name states. Raises: DataError."""
    plane, dash, number = frame.partition("-")
    if not frame:
        return "axial", nifti.read_volume(path).slices("axial") // 2
    if plane not in PLANES or not dash or not number.isdecimal():
        raise DataError(f"{path} has no slice '{frame}'", f"slices are called like {PLANES[0]}-0040")
    return plane, int(number)


def decode(path: Path, *, frame: str = "", depth: int | None = 16, window: str = "") -> np.ndarray:
    """Decode an image file in its native size: uint8, (H, W) for gray or (H, W, 3) for RGB.

    Gray of more than 8 bits is scaled from `depth` bits (4095 becomes 255 at depth 12), never by the image's own
    extremes; with `depth` None it is returned as stored, uint16. Where the file states WhiteIsZero, it is inverted.
    Floats from 0 to 1 are black to white. Of color of 16 bits, the upper 8 are read. Transparency is composited on
    black, EXIF orientation is applied, palettes and CMYK become RGB; color profiles are not applied. Of a camera's file
    with several pictures, or with reduced copies of one, the first is taken.

    Of DICOM and NIfTI files, `frame` (of `frames_of`, "" for the middle one) is shown through `window`
    (`windows.parse_window`; "" for the file's), its pixels made square; with `depth` None, gray is returned as stored.

    Raises: DataError naming the file if it is missing, empty, broken, animated, larger than 100 megapixels, or has
    values above `depth` bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(path, frame, depth=depth, window=window)


def decode_all(
    paths: Sequence[Path], *, frames: Sequence[str] | None = None, depth: int | None = 16, window: str = ""
) -> Iterator[np.ndarray | DataError]:
    """Decode each file as `decode` does, in order, several at once; a bad file yields its DataError."""
    pairs = list(zip(paths, frames or [""] * len(paths), strict=True))
    return _each(pairs, lambda path, frame: _decode(path, frame, depth=depth, window=window))


def highest_values(paths: Sequence[Path]) -> Iterator[int | DataError]:
    """Return the highest value that each file of more than 8 bits stores, in order; a bad file yields its DataError.

    It is -1 for floats from 0 to 1, which need no depth.
    """
    return _each([(path, "") for path in paths], lambda path, _: _highest_value(path))


class Examined(NamedTuple):
    """An image file that is read once: its header, its pixels as stored, and a picture of mode L or RGB to look at.

    `stored` is what `decode` returns with `depth` None. Of more than 8 bits a channel, `shown` is scaled from as many
    as the image uses, and `highest` is that of `highest_values`.
    """

    header: Header
    stored: np.ndarray
    shown: Image.Image
    highest: int | None = None


def examine_all(
    paths: Sequence[Path], frames: Sequence[str], *, read: Callable[[Examined], T], window: str
) -> Iterator[T | DataError]:
    """Yield what `read` makes of each of some hundred files, in order, several read at once, as `examine`.

    Images read at once have `MAX_PIXELS` pixels together at most.
    """
    one = partial(examine, read=read, window=window, take=_Room().take)
    # A small image is read in less time than a thread takes to be given it, so each gets several.
    parts = [slice(start, start + _IN_TURN) for start in range(0, len(paths), _IN_TURN)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(pool.map(one, [paths[part] for part in parts], [frames[part] for part in parts]))
    for rows in found:
        yield from rows


def examine(
    paths: Sequence[str | Path],
    frames: Sequence[str],
    *,
    read: Callable[[Examined], T],
    window: str,
    take: Callable[[int], AbstractContextManager[None]] = lambda pixels: nullcontext(),
) -> list[T | DataError]:
    """Return what `read` makes of each file, one after the other; a bad file gives its DataError.

    `take` is called with the number of an image's pixels before they are read, for a context to read them in.
    """
    found: list[T | DataError] = []
    for path, frame in zip(paths, frames, strict=True):
        try:
            found.append(_examine(Path(path), frame, read, window=window, take=take))
        except DataError as error:
            found.append(error)
    return found


class _Room:
    """Room in memory for the pixels of images, which threads wait for."""

    def __init__(self) -> None:
        self._free = MAX_PIXELS
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, of which no image has more than `MAX_PIXELS`."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= min(pixels, MAX_PIXELS))
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


def _examine(
    path: Path,
    frame: str,
    read: Callable[[Examined], T],
    *,
    window: str,
    take: Callable[[int], AbstractContextManager[None]],
) -> T:
    if kind := format_of(path):
        header = _probe_dicom(path, frame) if kind == DICOM else _probe_nifti(path, frame)
        with take(header.width * header.height), memory_errors(f"reading {path}", "close other programs"):
            stored = _decode_volume(path, frame, stored=True, window=window)
            shown = _decode_volume(path, frame, stored=False, window=window)
            return read(Examined(header, stored, Image.fromarray(shown)))
    with _opened(path) as image, take(image.width * image.height):
        header = _header_of(image)
        with _loading(image, path):
            _turn_upright(image)
            if not _is_wide(image):
                picture = _eight_bit(image)
                shape = (picture.height, picture.width, 3)[: 2 if picture.mode == "L" else 3]
                # In a third of the time that np.array takes, which counts for small images.
                stored = np.frombuffer(picture.tobytes(), np.uint8).reshape(shape)
                return read(Examined(header, stored, picture))
            highest = _highest_of(image, path)
            picture = Image.fromarray(_scaled(image, path, depth_of(highest)))
            return read(Examined(header, _scaled(image, path, None), picture, highest))


def spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the places 0..`count` - 1 in order, evenly over them, the first and the last included.

    >>> spread(9, 3)
    [0, 4, 8]
    """
    return sorted({int(place) for place in np.linspace(0, count - 1, min(most, count))})


def depth_of(highest: int) -> int:
    """Return the bits of images whose highest value this is: the least of `DEPTHS` that holds it.

    >>> depth_of(4000)
    12
    """
    return next((bits for bits in DEPTHS if highest < 2**bits), DEPTHS[-1])


def _each(paths: Sequence[tuple[Path, str]], read: Callable[[Path, str], T]) -> Iterator[T | DataError]:
    """Read files, each with its frame, in order, several at once; a bad one yields its DataError.

    Those read at once have `MAX_PIXELS` pixels together at most, so that large images need no more memory than one.
    """

    def attempt(pair: tuple[Path, str]) -> T | DataError:
        try:
            return read(*pair)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        start = 0
        while start < len(paths):
            # Warning filters are one per process, so they are set here and not in each thread.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                end, pixels = start + 1, _pixels_of(paths[start][0])
                while end < min(start + _AT_ONCE, len(paths)):
                    pixels += _pixels_of(paths[end][0])
                    if pixels > MAX_PIXELS:
                        break
                    end += 1
                chunk = deque(pool.map(attempt, paths[start:end]))
            start = end
            while chunk:
                yield chunk.popleft()


def _pixels_of(path: Path) -> int:
    """Return the pixels that the header of a file states; 0 if it cannot be read, which reading the file reports."""
    try:
        if kind := format_of(path):
            header = dicom.read_header(path) if kind == DICOM else None
            return header.rows * header.columns if header is not None else 0
        with Image.open(path, formats=_FORMATS) as image:
            return image.width * image.height
    except (DataError, OSError, *_BROKEN, struct.error, zlib.error, Image.DecompressionBombError):
        return 0


def _opened(path: Path) -> Image.Image:
    """Open an image; its header must be that of one still picture of bearable size."""
    try:
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode):
            raise DataError(f"{path} is not a file", f"check the path; {SKIP}")
        if stat.st_size == 0:
            raise DataError(f"{path} is empty (0 bytes)", SKIP_HINT)
        image = Image.open(path, formats=_FORMATS)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is not a file", f"check the path; {SKIP}") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels", SKIP_HINT) from error
    except (OSError, *_BROKEN, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}", SKIP_HINT) from error
    try:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels", SKIP_HINT)
        if getattr(image, "n_frames", 1) > 1 and not _has_one_picture(image):
            raise DataError(
                f"{path} holds several frames", f"save each frame as an image of its own, or remove it; {SKIP}"
            )
    except (OSError, *_BROKEN, struct.error, zlib.error) as error:
        image.close()
        raise DataError(f"{path} cannot be read: {_reason(error)}", SKIP_HINT) from error
    except DataError:
        image.close()
        raise
    return image


def _has_one_picture(image: Image.Image) -> bool:
    """Return whether the first of a file's frames is its picture: a camera's, or one with reduced copies of itself."""
    if image.format == "MPO":
        return True
    if not isinstance(image, TiffImageFile):
        return False
    reduced = []
    for frame in range(1, min(image.n_frames, _MAX_COPIES + 1)):
        image.seek(frame)
        reduced.append(bool(int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 1))
    several = image.n_frames > _MAX_COPIES
    image.seek(0)
    return not several and all(reduced)


def _decode(path: Path, frame: str, *, depth: int | None, window: str) -> np.ndarray:
    if format_of(path):
        with memory_errors(f"reading {path}", "close other programs"):
            return _decode_volume(path, frame, stored=depth is None, window=window)
    with _opened(path) as image, _loading(image, path):
        _turn_upright(image)
        return np.array(_eight_bit(image)) if not _is_wide(image) else _scaled(image, path, depth)


def _decode_volume(path: Path, frame: str, *, stored: bool, window: str) -> np.ndarray:
    """Decode a frame of a DICOM file or a slice of a NIfTI volume."""
    if format_of(path) == DICOM:
        header = dicom.read_with_picture(path)
        index, size = _frame_index(path, frame, header.frames), header.size
        if stored:
            return dicom.decode_stored(path, index)
        pixels = dicom.decode_frame(path, index, window=window)
    else:
        plane, index = _slice(path, frame)
        if stored:
            return nifti.decode_stored(path, plane, index)
        pixels = nifti.decode_slice(path, plane, index, window=window)
        height, width = pixels.shape
        size = square_size(width, height, nifti.read_volume(path).ratio(plane))
    if pixels.shape[1::-1] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _highest_value(path: Path) -> int:
    with _opened(path) as image, _loading(image, path):
        return _highest_of(image, path)


def _highest_of(image: Image.Image, path: Path) -> int:
    return -1 if _is_share(image) and np.any(np.asarray(image)) else int(_whole_numbers(image, path).max())


@contextmanager
def _loading(image: Image.Image, path: Path) -> Iterator[None]:
    """Read the pixels of an opened image; what goes wrong then or in the block is a DataError."""
    try:
        with memory_errors(f"reading {path}, {image.width} x {image.height} pixels", "close other programs"):
            image.load()
            yield
    except (OSError, *_BROKEN, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}", SKIP_HINT) from error


def _turn_upright(image: Image.Image) -> None:
    """Apply the orientation that EXIF or XMP states; most images state none, which is seen at once."""
    if not image.info.keys().isdisjoint(_ORIENTED) or hasattr(image, "tag_v2"):
        ImageOps.exif_transpose(image, in_place=True)


def _is_wide(image: Image.Image) -> bool:
    """Return whether a channel has more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def _is_share(image: Image.Image) -> bool:
    """Return whether an image stores floats from 0 to 1."""
    if image.mode != "F":
        return False
    values = np.asarray(image)
    return bool(values.min() >= 0 and values.max() <= 1)


def _whole_numbers(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values (H, W) of an image of more than 8 bits a channel, which must be whole numbers: uint16."""
    wide = np.asarray(image)
    whole = np.issubdtype(wide.dtype, np.integer) or np.all(wide == np.floor(wide))
    # Modes I and F state no range; whole numbers of at most 16 bits are the one reading that needs no guess.
    if not (wide.min() >= 0 and wide.max() <= 65535 and whole):
        raise DataError(
            f"{path} has pixel values that are fractions or outside 0..65535",
            f"save it with 8 or 16 bits per pixel, or as floats from 0 to 1; {SKIP}",
        )
    return wide.astype(np.uint16, copy=False)


def _scaled(image: Image.Image, path: Path, depth: int | None) -> np.ndarray:
    """Convert an image of more than 8 bits a channel to uint8 (H, W), from `depth` bits; None leaves it as stored."""
    white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    if _is_share(image):
        shares = 1 - np.asarray(image) if white_is_zero else np.asarray(image)
        levels: np.ndarray = np.rint(shares * 65535).astype(np.uint16) if depth is None else to_uint8(shares)
        return levels
    wide = _whole_numbers(image, path)
    if depth is None:
        return wide.copy()
    white = 2**depth - 1
    if wide.max() > white:
        raise DataError(
            f"{path} has values up to {wide.max():.0f}, more than the {depth} bits of the images it is read with",
            f"--set image.depth={depth_of(int(wide.max()))}",
        )
    values = np.arange(white + 1, dtype=np.float64)
    scaled: np.ndarray = np.rint((white - values if white_is_zero else values) / (white / 255)).astype(np.uint8)
    found: np.ndarray = scaled[wide]
    return found


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000 or PNM image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bit(image: Image.Image) -> Image.Image:
    """Convert an image of up to 8 bits a channel to mode L or RGB."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        # convert() to RGBA knows every way a file states transparency: an alpha band, a key color, palette entries.
        layered = image.convert("RGBA")
        flat = Image.new("RGB", image.size)
        flat.paste(layered.convert("RGB"), mask=layered.getchannel("A"))
        image = flat
    mode = "L" if gray else "RGB"
    return image if image.mode == mode else image.convert(mode)


def encode_png(pixels: np.ndarray, mark: Mark | None = None) -> bytes:
    """Return a PNG file's bytes for uint8 (C, H, W), C 1 or 3; the same pixels and mark give the same bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise DataError(f"expected uint8 pixels (1, H, W) or (3, H, W), got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue() if mark is None else with_mark(buffer.getvalue(), mark)


def encode_image(path: Path, pixels: np.ndarray, mark: Mark | None = None) -> bytes:
    """Return the bytes of uint8 (C, H, W) in the format of `path`: DICOM by its suffix, for marked images, else PNG."""
    if mark is not None and path.suffix == dicom.SUFFIX:
        return encode_dicom(pixels, mark)
    return encode_png(pixels, mark)


def write_image(path: Path, pixels: np.ndarray, mark: Mark | None = None) -> None:
    """Write uint8 (C, H, W) to `path` atomically, as `encode_image`; synthetic images with a `mark` that says so."""
    write_file(path, encode_image(path, pixels, mark))
