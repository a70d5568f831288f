"""DICOM files: the picture that a viewer shows, and of the header what does not identify a patient.

Pixels take the way of PS3.4 N.2: stored values, modality LUT, VOI LUT or window, presentation. No text of pydicom's
warnings and errors is passed on, for it quotes values of the file, which may be a name or a number of a patient.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from medzoo.data.marks import FoundMarks, read_description
from medzoo.data.reading import SKIP, SKIP_HINT, file_state
from medzoo.data.windows import CT_WINDOWS, FILE, Window, parse_window, percentile_window
from medzoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

T = TypeVar("T")

SUFFIX = ".dcm"
MAX_RATIO = 20.0
"""Pixels of a larger ratio of their sides are a slip in a header."""

_MAGIC = b"DICM"
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    EOFError,
    AssertionError,
    ArithmeticError,
    struct.error,
)
"""What pydicom and its decoders raise on broken files; RuntimeError has NotImplementedError and RecursionError."""
# SOP classes without a picture of their own, by the beginning of their UID, and what files of them are.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_PICTURE: Mapping[str, str] = {
    "1.2.840.10008.1.3.10": "files without a picture (DICOMDIR)",
    f"{_STORAGE}88.": "files without a picture (DICOM reports)",
    f"{_STORAGE}11.": "files without a picture (DICOM presentation states)",
    f"{_STORAGE}9.": "files without a picture (DICOM waveforms)",
    f"{_STORAGE}104.": "files without a picture (documents in DICOM)",
    f"{_STORAGE}66.4": "masks",
    f"{_STORAGE}66.7": "masks",
    f"{_STORAGE}66": "files without a picture (DICOM registrations and the like)",
    f"{_STORAGE}481.2": "files without a picture (DICOM RT doses)",
    f"{_STORAGE}481.3": "files without a picture (DICOM RT structure sets)",
    f"{_STORAGE}481.": "files without a picture (DICOM RT plans and records)",
}
_RT_IMAGE = f"{_STORAGE}481.1"
_BARE = "files without a picture (other DICOM files)"
# Identifiers that stand for no patient: what de-identification leaves behind.
_PLACEHOLDERS = frozenset({"", "0", "anon", "anonymous", "anonymized", "anonymised", "none", "unknown", "na", "n/a"})
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_TAGS = (
    *("SOPClassUID", "Modality", "BurnedInAnnotation", "PatientID", "StudyInstanceUID", "DirectoryRecordSequence"),
    "DerivationDescription",
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{color}PaletteColorLookupTable{what}" for color in ("Red", "Green", "Blue") for what in ("Descriptor", "Data")),
    *(f"Segmented{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
)
# A key of this process alone, so that nothing that is kept can be compared with the hash of a guessed identifier.
_SALT = secrets.token_bytes(32)


class Table(NamedTuple):
    """A lookup table: the stored value of its first entry, its entries, and the highest value these may have."""

    first: int
    entries: np.ndarray
    highest: int

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Return the entry of each value; values outside the table take its first or its last."""
        places = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places])


class View(NamedTuple):
    """How one frame is shown: its rescale slope and intercept, and its window, if the file states one."""

    slope: float
    intercept: float
    window: Window | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomHeader:
    """What a DICOM file's header says of its picture.

    `no_picture` says what a file without a picture is, "" for others. `views` are one, or one for each of the `frames`.
    `ratio` is a pixel's height by its width. `marks` are medzoo's, of a synthetic image. `patient` is a keyed hash of
    the patient's identifier, or else the study's, whose key ends with this process; "" where the file has neither.
    """

    no_picture: str
    modality: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples: int = 1
    photometric: str = ""
    bits: int = 8
    signed: bool = False
    real: bool = False
    ratio: float = 1.0
    views: tuple[View, ...] = ()
    modality_table: Table | None = None
    voi_table: Table | None = None
    palette: tuple[Table, Table, Table] | None = None
    padding: tuple[float, float] | None = None
    inverted: bool = False
    burned_in: bool = False
    patient: str = ""
    syntax: str = ""
    marks: FoundMarks = FoundMarks()

    @property
    def gray(self) -> bool:
        """Whether the picture has no color."""
        return self.photometric in _GRAY

    @property
    def size(self) -> tuple[int, int]:
        """The width and height of the picture, its pixels made square."""
        return square_size(self.columns, self.rows, self.ratio)

    def view(self, index: int) -> View:
        """Return how the frame of this index, from 0, is shown."""
        return self.views[index] if index < len(self.views) else self.views[0]

    def window_of(self, index: int, window: str) -> str:
        """Return what decides on a frame's gray where `window` is given: "" for no window, as of plain 8 bits."""
        if not self.gray or (window or FILE) != FILE:
            return window if self.gray else ""
        if self.view(index).window is not None or self.voi_table is not None:
            return "the file's"
        return "" if self._plain else "percentile"

    @property
    def _plain(self) -> bool:
        """Whether stored values are gray levels already."""
        view = self.views[0]
        other = self.real or self.signed or self.modality_table is not None
        return not other and self.bits <= 8 and (view.slope, view.intercept) == (1, 0)


def square_size(width: int, height: int, ratio: float) -> tuple[int, int]:
    """Return the size of a picture whose pixels, `ratio` times as high as wide, are made square by enlarging it."""
    if abs(ratio - 1) < 0.01:
        return width, height
    return (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)


def begins_as_dicom(path: Path) -> bool:
    """Return whether a file begins with the preamble of DICOM; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == _MAGIC
    except OSError:
        return False


def read_header(path: Path) -> DicomHeader:
    """Read a file's header, once for each state of the file.

    Raises: DataError if it is not a DICOM file, or broken; ConfigError without pydicom.
    """
    return _read_header(*file_state(path))


def read_with_picture(path: Path) -> DicomHeader:
    """Read the header of a file that must have a picture in known colors. Raises: DataError; ConfigError."""
    header = read_header(path)
    if header.no_picture:
        raise DataError(f"{path} is a DICOM file without a picture", "remove it")
    if not header.gray and header.photometric not in ("RGB", "PALETTE COLOR", *_YBR):
        raise DataError(
            f"{path} has the colors {_code(header.photometric)}, which are not read",
            f"save it as RGB or MONOCHROME2, or remove it; {SKIP}",
        )
    return header


@lru_cache(maxsize=1 << 17)
def _read_header(path: Path, _size: int, _changed: int) -> DicomHeader:
    found = _reading(path, lambda: _dataset(path, list(_TAGS)), "its header is broken")
    return _reading(path, lambda: _header_of(path, found), "its header is broken or incomplete")


def label_of(path: Path, tag: int) -> str:
    """Return the value of an attribute as text, "" where a file has none. Raises: as `read_header`."""
    found = _reading(path, lambda: _dataset(path, [tag]), "its header is broken")

    def text() -> str:
        value = found[tag].value if tag in found else ""
        values = value if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]
        return " ".join(" ".join(str(one) for one in values if one is not None).split())

    return _reading(path, text, "its header is broken")


def decode_stored(path: Path, index: int) -> np.ndarray:
    """Return the frame of this index, from 0, before any window: stored gray values, or RGB uint8 (H, W, 3).

    Raises: DataError for a file that cannot be decoded, and says why as far as that is known; ConfigError.
    """
    header = read_with_picture(path)
    return _frame(path, header, index) if header.gray else _color(path, header, index)


def decode_frame(path: Path, index: int, *, window: str) -> np.ndarray:
    """Return the picture of a frame as a viewer shows it: uint8 (H, W) or (H, W, 3), before pixels are made square.

    `window` as `windows.parse_window` takes it, "" for the file's. Raises: as `decode_stored`.
    """
    header = read_with_picture(path)
    if not header.gray:
        return _color(path, header, index)
    stored = _frame(path, header, index)
    wanted = parse_window(window or FILE)
    if window.strip().casefold() in CT_WINDOWS and header.modality not in ("CT", ""):
        raise DataError(
            f"{path} is {_code(header.modality)}, and the window '{window}' is one of CT",
            "--window CENTER,WIDTH, or --window percentile",
        )
    view = header.view(index)
    values = stored.astype(np.float32) if header.real else stored
    if header.modality_table is not None:
        values = header.modality_table.look_up(values)
    elif (view.slope, view.intercept) != (1, 0):
        values = values.astype(np.float32) * np.float32(view.slope) + np.float32(view.intercept)
    padded = _padded(stored, header.padding)
    known = values[~padded] if padded is not None and not padded.all() else values
    gray: np.ndarray
    if wanted == FILE and header.voi_table is not None:
        gray = header.voi_table.look_up(values) / np.float32(header.voi_table.highest)
    elif isinstance(wanted, Window):
        gray = wanted.apply(values)
    elif header.window_of(index, window) == "":
        gray = values.astype(np.float32) / np.float32(2**header.bits - 1)
    elif wanted == FILE and view.window is not None:
        gray = view.window.apply(values)
    else:
        gray = percentile_window(known).apply(values)
    shown = np.rint(np.clip(np.nan_to_num(gray), 0, 1) * 255).astype(np.uint8)
    if header.inverted:
        shown = 255 - shown
    if padded is not None:
        shown[padded] = 0
    return shown


def check_label_tag(text: str) -> int:
    """Return the attribute that `--label-tag` names, by keyword or as gggg,eeee.

    Attributes that may identify a patient are refused: only codes, numbers and a few descriptions can be labels.
    Raises: ConfigError.
    """
    import_pydicom()
    from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

    group, comma, element = text.strip().strip("()").partition(",")
    try:
        tag = int(group, 16) << 16 | int(element, 16) if comma else tag_for_keyword(text.strip())
    except ValueError:
        tag = None
    examples = "as in --label-tag BodyPartExamined, or 0018,0015"
    if tag is None or tag >> 16 & 1 or not keyword_for_tag(tag):
        raise ConfigError(f"--label-tag cannot take '{text}', which is not a standard attribute of DICOM", examples)
    keyword, kind = keyword_for_tag(tag), dictionary_VR(tag)
    if kind not in _LABEL_KINDS and keyword not in _LABEL_TEXTS:
        raise ConfigError(
            f"--label-tag cannot take {keyword}, which may identify a patient or is not a class",
            f"it takes codes, numbers and {', '.join(sorted(_LABEL_TEXTS))}; give other labels in a CSV",
        )
    return tag


_LABEL_KINDS = frozenset({"CS", "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD"})
_LABEL_TEXTS = frozenset(
    {"SeriesDescription", "StudyDescription", "ProtocolName", "Manufacturer", "ManufacturerModelName"}
)


@cache
def import_pydicom(doing: str = "reading") -> Any:
    """Import pydicom and silence it. Raises: ConfigError if it is not installed, and says what needs it."""
    try:
        import pydicom
    except ImportError:
        raise ConfigError(f"{doing} DICOM files needs pydicom", "pip install 'medzoo[dicom]'") from None
    for name in ("pydicom", "pylibjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what it logs quotes values of headers
    return pydicom


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reading(path: Path, read: Callable[[], T], why: str) -> T:
    """Return what `read` returns. Raises: DataError that quotes nothing of the file; ConfigError."""
    pydicom = import_pydicom()
    try:
        with _without_warnings():
            return read()
    except (pydicom.errors.InvalidDicomError, *BROKEN):
        # `from None`: the text of the cause may hold a patient's data.
        raise DataError(f"{path} cannot be read as DICOM: {why}", SKIP_HINT) from None


def _dataset(path: Path, tags: list[Any]) -> FileDataset:
    """Read attributes up to the pixels. A file without preamble must look like DICOM in another way."""
    found: FileDataset = import_pydicom().dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
    return found


def _header_of(path: Path, found: FileDataset) -> DicomHeader:
    kind = str(found.get("SOPClassUID", "") or found.file_meta.get("MediaStorageSOPClassUID", ""))
    if not found and not kind and not begins_as_dicom(path):
        raise ValueError
    what = "" if kind == _RT_IMAGE else next((what for uid, what in _NO_PICTURE.items() if kind.startswith(uid)), "")
    if "DirectoryRecordSequence" in found:
        what = _NO_PICTURE["1.2.840.10008.1.3.10"]
    photometric = str(found.get("PhotometricInterpretation", "") or "").strip().upper()
    if what or not (found.get("Rows") and found.get("Columns") and photometric):
        return DicomHeader(no_picture=what or _BARE)
    frames = int(found.get("NumberOfFrames") or 1)
    signed = int(found.get("PixelRepresentation") or 0) == 1
    little = found.original_encoding[1] is not False
    per_frame = found.get("PerFrameFunctionalGroupsSequence") or ()
    views = tuple(_view(found, groups) for groups in per_frame) or (_view(found, None),)
    modality_table = None
    if found.get("ModalityLUTSequence"):
        modality_table = _table(found.ModalityLUTSequence[0], signed=signed, little=little)
    voi_table = None
    if found.get("VOILUTSequence") and "LUTData" in found.VOILUTSequence[0]:
        below = signed or any(view.intercept < 0 for view in views)
        voi_table = _table(found.VOILUTSequence[0], signed=below, little=little)
    palette = None
    if photometric == "PALETTE COLOR":
        colors = (_palette(found, color, signed=signed, little=little) for color in ("Red", "Green", "Blue"))
        palette = next(colors), next(colors), next(colors)
    lowest = found.get("PixelPaddingValue")
    padding = None
    if lowest is not None:
        limit = found.get("PixelPaddingRangeLimit")
        ends = sorted((float(lowest), float(lowest if limit is None else limit)))
        padding = ends[0], ends[1]
    return DicomHeader(
        no_picture="",
        modality=str(found.get("Modality", "") or "").strip().upper(),
        rows=int(found.Rows),
        columns=int(found.Columns),
        frames=max(1, frames),
        samples=int(found.get("SamplesPerPixel") or 1),
        photometric=photometric,
        bits=int(found.get("BitsStored") or found.get("BitsAllocated") or 8),
        signed=signed,
        real="BitsStored" not in found,
        ratio=_ratio(path, found, per_frame[0] if per_frame else None),
        views=views,
        modality_table=modality_table,
        voi_table=voi_table,
        palette=palette,
        padding=padding,
        inverted=photometric == "MONOCHROME1",
        burned_in=str(found.get("BurnedInAnnotation", "") or "").strip().upper() == "YES",
        patient=_patient(found),
        syntax=_syntax(found),
        marks=read_description(str(found.get("DerivationDescription", "") or "")),
    )


def _syntax(found: FileDataset) -> str:
    """Return the transfer syntax; that which the header was read with where the file states none."""
    if stated := found.file_meta.get("TransferSyntaxUID"):
        return str(stated)
    implicit, little = found.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little is not False else "1.2.840.10008.1.2.2"


def _patient(found: Dataset) -> str:
    """Return a keyed hash of the patient's identifier, or of the study's where it identifies no one."""
    own = " ".join(str(found.get("PatientID", "") or "").split())
    if own.casefold() in _PLACEHOLDERS:
        study = str(found.get("StudyInstanceUID", "") or "").strip()
        own = f"study {study}" if study else ""
    return hashlib.blake2b(own.encode(), key=_SALT, digest_size=16).hexdigest() if own else ""


def _groups(found: Dataset, frame: Dataset | None, name: str) -> list[Dataset]:
    """Return the places in which a group of attributes may stand, the first that counts first."""
    shared = found.get("SharedFunctionalGroupsSequence") or [None]
    return [one[name].value[0] for one in (frame, shared[0]) if one is not None and one.get(name)] + [found]


def _view(found: Dataset, frame: Dataset | None) -> View:
    slope, intercept, window = 1.0, 0.0, None
    for place in _groups(found, frame, "PixelValueTransformationSequence"):
        if place.get("RescaleSlope") is not None and place.get("RescaleIntercept") is not None:
            slope, intercept = float(_first(place.RescaleSlope)), float(_first(place.RescaleIntercept))
            break
    for place in _groups(found, frame, "FrameVOILUTSequence"):
        center, width = place.get("WindowCenter"), place.get("WindowWidth")
        if center not in (None, "") and width not in (None, ""):
            function = str(place.get("VOILUTFunction", "") or "LINEAR").strip().upper()
            window = Window(float(_first(center)), float(_first(width)), function)
            break
    # A window of no width shows nothing: some files state 0 and 0 where there is none.
    if window is not None and window.width <= 0:
        window = None
    return View(slope, intercept, window)


def _first(value: Any) -> Any:
    return value if isinstance(value, str | int | float) or not hasattr(value, "__getitem__") else value[0]


def _ratio(path: Path, found: Dataset, frame: Dataset | None) -> float:
    """Return a pixel's height by its width. Raises: DataError for what no pixel has."""
    for place in _groups(found, frame, "PixelMeasuresSequence"):
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
            values = place.get(keyword)
            if values is None or isinstance(values, str | int | float) or len(values) != 2:
                continue
            height, width = (float(value or 0) for value in values)
            if height <= 0 or width <= 0:
                continue
            if not 1 / MAX_RATIO <= height / width <= MAX_RATIO:
                raise DataError(f"{path} states pixels {height:g} high and {width:g} wide", SKIP_HINT)
            return height / width
    return 1.0


def _table(item: Dataset, *, signed: bool, little: bool) -> Table:
    """Read a modality or VOI LUT."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    data = item["LUTData"].value
    if isinstance(data, bytes):
        count = count or 2**16
        packed = bits <= 8 and len(data) < 2 * count
        entries = np.frombuffer(data, np.uint8 if packed else ("<u2" if little else ">u2"))[:count]
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64))
    # Written as unsigned, though its values may be below 0.
    first = first - 2**16 if signed and first >= 2**15 else first
    highest = 2**bits - 1
    top = int(entries.max())
    # Some files state 16 bits for entries of fewer.
    return Table(first, entries.astype(np.int64), highest if highest / 2 <= top <= highest else max(top, 1))


def _palette(found: FileDataset, color: str, *, signed: bool, little: bool) -> Table:
    """Read the palette of one color."""
    count, first, bits = (int(value) for value in found[f"{color}PaletteColorLookupTableDescriptor"].value)
    count = count or 2**16
    first = first - 2**16 if signed and first >= 2**15 else first
    word = "<u2" if little else ">u2"
    if f"{color}PaletteColorLookupTableData" in found:
        data = found[f"{color}PaletteColorLookupTableData"].value
        entries = np.frombuffer(data, word if len(data) >= 2 * count else np.uint8)[:count]
    else:
        segments = np.frombuffer(
            found[f"Segmented{color}PaletteColorLookupTableData"].value, word if bits > 8 else "u1"
        )
        entries = np.array(_expanded(segments.tolist()), np.int64)[:count]
    # 8 bits are often stored in words, in their lower or their upper byte.
    return Table(first, entries.astype(np.int64) >> (8 if int(entries.max()) > 255 else 0), 255)


def _expanded(data: list[int]) -> list[int]:
    """Expand a segmented palette (PS3.3 C.7.9.2): discrete, linear and indirect segments."""
    found: list[int] = []
    starts: list[int] = []
    place = 0

    def segment(at: int) -> int:
        kind, length = data[at], data[at + 1]
        if kind == 0:
            found.extend(data[at + 2 : at + 2 + length])
            return at + 2 + length
        if kind != 1:
            raise ValueError
        found.extend(np.rint(np.linspace(found[-1], data[at + 2], length + 1)[1:]).astype(int).tolist())
        return at + 3

    while place + 1 < len(data):
        starts.append(place)
        if data[place] == 2:
            at = data[place + 2] | data[place + 3] << (8 if max(data) < 256 else 16)
            for _ in range(data[place + 1]):
                at = segment(at)
            place += 4
        else:
            place = segment(place)
    return found


def _code(text: str) -> str:
    """Return a code of a header if it looks like one: what else stands there may be a patient's."""
    return (
        text if len(text) <= 16 and text.replace("_", "").replace(" ", "").isalnum() and text.isupper() else "unknown"
    )


def _frame(path: Path, header: DicomHeader, index: int) -> np.ndarray:
    """Decode a frame: stored values (H, W), or (H, W, 3) of RGB. Raises: DataError."""
    import_pydicom()
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    syntax = UID(header.syntax)
    try:
        decodable = get_decoder(syntax).is_available
    except (NotImplementedError, KeyError):
        decodable = False
    if not decodable:
        name = syntax.name if syntax.is_transfer_syntax else "unknown"
        raise DataError(
            f"{path} is compressed in a way that is not read: {name}",
            "pip install 'medzoo[dicom]' reads JPEG, JPEG-LS, JPEG 2000 and RLE; decompress other files with another "
            "program",
        )

    def whole() -> np.ndarray:
        found = import_pydicom().dcmread(path, force=True)
        found.file_meta.TransferSyntaxUID = syntax  # which files without a preamble do not state
        return np.asarray(pixel_array(found, index=index))

    def one() -> np.ndarray:
        try:  # which reads no more of the file than one frame, but not of files that break the rules a little
            return np.asarray(pixel_array(path, index=index, transfer_syntax_uid=syntax))
        except BROKEN:
            return whole()

    why = "its pixels are damaged, incomplete, or not as its header says"
    pixels = _reading(path, one if header.frames > 1 else whole, why)
    if pixels.shape != (header.rows, header.columns) + ((3,) if header.samples == 3 else ()):
        raise DataError(f"{path} cannot be read as DICOM: its pixels are not as its header says", SKIP_HINT)
    return pixels


def _color(path: Path, header: DicomHeader, index: int) -> np.ndarray:
    """Decode a frame in color: uint8 (H, W, 3)."""
    pixels = _frame(path, header, index)
    if header.palette is not None:
        return np.stack([table.look_up(pixels).astype(np.uint8) for table in header.palette], axis=-1)
    if pixels.ndim != 3:
        raise DataError(f"{path} cannot be read as DICOM: its pixels are not as its header says", SKIP_HINT)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    return np.rint(pixels.astype(np.float64) * (255 / (2.0**header.bits - 1))).clip(0, 255).astype(np.uint8)


def _padded(stored: np.ndarray, padding: tuple[float, float] | None) -> np.ndarray | None:
    """Return which pixels hold no measurement; None if none does."""
    if padding is None or not math.isfinite(padding[0]):
        return None
    found = (stored >= padding[0]) & (stored <= padding[1])
    return found if found.any() else None
