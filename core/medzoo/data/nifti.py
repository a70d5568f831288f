"""NIfTI volumes: slices of them along the planes of the body, seen as a radiologist sees them."""

from __future__ import annotations

import re
import threading
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.data.reading import SKIP_HINT, file_state
from medzoo.data.windows import FILE, Window, parse_window, percentile_window
from medzoo.errors import ConfigError, DataError

SUFFIXES = (".nii", ".nii.gz")
# The axis of the right, anterior, superior array that counts the slices of each plane.
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_BROKEN = (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError, zlib.error)
_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
_MOST_LABELS = 16
_SAMPLE = 1 << 20  # voxels
# A slice is empty if less than a share of it is brighter than this part of the window.
_DARK, _BRIGHT_SHARE = 0.1, 0.01
_SUBJECT = re.compile(r"sub-[0-9A-Za-z]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """What a NIfTI file holds: the `shape` (right, anterior, superior) of its first volume, of `volumes` in all.

    `spacing` are the sides of a voxel, of `bits` bits. `window` is that of percentiles over the volume, `filled` which
    slices of each axis show anything. `no_picture` says what a file without a picture is, "" for others; label maps are
    "masks".
    """

    no_picture: str
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    volumes: int = 1
    bits: int = 16
    window: Window = Window(0, 1)
    filled: tuple[tuple[int, ...], ...] = ((), (), ())

    def slices(self, plane: str) -> int:
        """Return how many slices there are along a plane."""
        return self.shape[_AXES[plane]]

    def filled_slices(self, plane: str) -> tuple[int, ...]:
        """Return the slices along a plane that show anything."""
        return self.filled[_AXES[plane]]

    def size(self, plane: str) -> tuple[int, int]:
        """Return the width and height of the slices of a plane, before their pixels are made square."""
        columns, rows = _in_plane(plane)
        return self.shape[columns], self.shape[rows]

    def ratio(self, plane: str) -> float:
        """Return a pixel's height by its width in the slices of a plane."""
        columns, rows = _in_plane(plane)
        return self.spacing[rows] / self.spacing[columns]


def _in_plane(plane: str) -> tuple[int, int]:
    """Return the axes along the columns and the rows of a plane's slices."""
    return {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}[plane]


def read_volume(path: Path) -> Volume:
    """Read what a file holds, once for each state of the file. Raises: DataError; ConfigError without nibabel."""
    return _volume(*file_state(path))


def decode_stored(path: Path, plane: str, index: int) -> np.ndarray:
    """Return the values (H, W) of a slice as seen from the patient's front or feet: the right side is at the left."""
    data = _data(*file_state(path))
    if not 0 <= index < data.shape[_AXES[plane]]:
        raise DataError(
            f"{path} has no {plane} slice {index}", f"its {plane} slices are 0..{data.shape[_AXES[plane]] - 1}"
        )
    cut: np.ndarray = np.take(data, index, axis=_AXES[plane])
    return np.ascontiguousarray(cut[::-1, ::-1].T)


def decode_slice(path: Path, plane: str, index: int, *, window: str) -> np.ndarray:
    """Return the picture of a slice, uint8 (H, W), before its pixels are made square.

    `window` as `windows.parse_window` takes it; "" for percentiles over the volume. Raises: as `read_volume`.
    """
    values = decode_stored(path, plane, index)
    wanted = parse_window(window or FILE)
    gray = (wanted if isinstance(wanted, Window) else read_volume(path).window).apply(values)
    shown: np.ndarray = np.rint(np.nan_to_num(gray) * 255).astype(np.uint8)
    return shown


def subject_of(path: Path) -> str:
    """Return whose volume a file is: by the sub-LABEL with which BIDS begins its name, else a patient of its own."""
    found = _SUBJECT.match(path.name)
    return found[0] if found else str(path)


@cache
def _import() -> Any:
    try:
        import nibabel
    except ImportError:
        raise ConfigError("reading NIfTI files needs nibabel", "pip install 'medzoo[nifti]'") from None
    return nibabel


@lru_cache(maxsize=1 << 16)
def _volume(path: Path, size: int, changed: int) -> Volume:
    found = _opened(path)
    if type(found).__name__ not in ("Nifti1Image", "Nifti2Image"):
        return Volume(no_picture="files without a picture (CIFTI)")
    data = _data(path, size, changed)
    nibabel = _import()
    step = max(1, round((data.size / _SAMPLE) ** (1 / 3)))
    sample = data[::step, ::step, ::step].reshape(-1)
    what = "masks" if int(found.header["intent_code"]) == _LABEL_INTENT or _is_label_map(data, sample) else ""
    window = percentile_window(sample)
    bright = data > window.center + (_DARK - 0.5) * window.width
    filled = tuple(
        tuple(np.flatnonzero(bright.mean(axis=tuple({0, 1, 2} - {axis})) >= _BRIGHT_SHARE).tolist())
        for axis in range(3)
    )
    axes = nibabel.orientations.io_orientation(found.affine)[:, 0].astype(int)
    sides = nibabel.affines.voxel_sizes(found.affine)
    spacing = [1.0, 1.0, 1.0]
    for own, side in zip(axes, sides, strict=True):
        spacing[own] = float(side) if np.isfinite(side) and side > 0 else 1.0
    return Volume(
        no_picture=what,
        shape=(data.shape[0], data.shape[1], data.shape[2]),
        spacing=(spacing[0], spacing[1], spacing[2]),
        volumes=int(np.prod(found.shape[3:], dtype=int)),
        bits=8 * found.get_data_dtype().itemsize,
        window=window,
        filled=filled,
    )


def _is_label_map(data: np.ndarray, sample: np.ndarray) -> bool:
    """Return whether the voxels are few whole numbers, as those of segmentations are."""

    def few(values: np.ndarray) -> bool:
        found = np.unique(values)
        return len(found) <= _MOST_LABELS and bool(np.all(found == np.rint(found))) and bool(found[0] >= 0)

    return few(sample) and few(data)


def _opened(path: Path) -> Any:
    nibabel = _import()
    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, *_BROKEN):
        raise DataError(f"{path} cannot be read as NIfTI: its header is broken", SKIP_HINT) from None


_lock = threading.Lock()
_kept: dict[tuple[Path, int, int], np.ndarray] = {}


def _data(path: Path, size: int, changed: int) -> np.ndarray:
    """Return the first volume of a file, its axes to the right, anterior and superior; the last two are kept."""
    key = (path, size, changed)
    with _lock:  # so that threads that want slices of one file read it once
        if key not in _kept:
            data = _load(path)
            while len(_kept) > 1:
                del _kept[next(iter(_kept))]
            _kept[key] = data
        return _kept[key]


def _load(path: Path) -> np.ndarray:
    nibabel, found = _import(), _opened(path)
    shape = tuple(found.shape)
    if len(shape) < 2 or not all(shape):
        raise DataError(f"{path} holds no image: its shape is {shape}", SKIP_HINT)
    kind = found.get_data_dtype()
    if kind.names or kind.kind not in "biuf":
        raise DataError(
            f"{path} holds colors or complex numbers, which are not read", "save it as numbers of one channel"
        )
    try:
        data: np.ndarray = np.asanyarray(
            found.dataobj[(..., *(0,) * (len(shape) - 3))] if len(shape) > 3 else found.dataobj
        )
        while data.ndim < 3:
            data = data[..., None]
        orientation = nibabel.orientations.io_orientation(found.affine)
        if np.isnan(orientation).any():
            raise ValueError
        data = nibabel.orientations.apply_orientation(data, orientation)
    except (*_BROKEN, nibabel.orientations.OrientationError):
        raise DataError(f"{path} cannot be read as NIfTI: it is damaged or incomplete", SKIP_HINT) from None
    data = data.astype(np.float32) if data.dtype == np.float64 else data
    return data
