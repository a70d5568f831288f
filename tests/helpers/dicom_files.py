"""Generated DICOM files, and where those lie that come with pydicom and pydicom-data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def sample_folders() -> tuple[Path, Path]:
    """Return the folders of the files of pydicom-data and of pydicom's own."""
    import data_store
    import pydicom.data

    own = Path(str(pydicom.data.__file__)).parent / "test_files"
    return Path(str(data_store.__file__)).parent / "data", own


def write_dicom(path: Path, pixels: np.ndarray | None, *, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> Path:
    """Write pixels (H, W), (F, H, W) or (H, W, 3) as a DICOM file, with other attributes by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = tags.pop("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    found = FileDataset(
        path,
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.Modality = "CT"
    if pixels is not None:
        color = pixels.ndim >= 3 and pixels.shape[-1] == 3
        found.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
        found.SamplesPerPixel = 3 if color else 1
        if color:
            found.PlanarConfiguration = 0
        frames = pixels if pixels.ndim == (4 if color else 3) else pixels[None]
        if len(frames) > 1:
            found.NumberOfFrames = len(frames)
        found.Rows, found.Columns = frames.shape[1:3]
        found.BitsAllocated = found.BitsStored = 8 * pixels.dtype.itemsize
        found.HighBit = found.BitsStored - 1
        found.PixelRepresentation = int(pixels.dtype.kind == "i")
        order = "<" if syntax.is_little_endian else ">"
        data = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder(order)).tobytes()
        found.PixelData = data + b"\0" * (len(data) % 2)
        found["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in tags.items():
        setattr(found, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path
