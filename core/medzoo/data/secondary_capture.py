"""Write synthetic images as DICOM Secondary Captures that say what they are.

Source: DICOM PS3.3 (2024), A.8.1 "Secondary Capture Image IOD" and C.8.6.1 "SC Equipment Module".
"""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from medzoo.data.dicom import BROKEN, import_pydicom
from medzoo.data.marks import KEYWORD, Mark, describe_mark
from medzoo.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

COMMENT = "Synthetic image: not of a patient, not for diagnosis"

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_IMPLEMENTATION = "1.2.826.0.1.3680043.8.498.1"  # pydicom's, whatever its version


def encode_dicom(pixels: np.ndarray, mark: Mark) -> bytes:
    """Return a DICOM file's bytes for uint8 (C, H, W), C 1 or 3; the same pixels and mark give the same bytes.

    It is a Secondary Capture of 8 bits, MONOCHROME2 or RGB, ImageType DERIVED SECONDARY, ConversionType SYN, without a
    date. Patient, study, series and UIDs are made up from the mark and the pixels, so each image is of a patient of its
    own. What made it is in DerivationDescription and ContributingEquipmentSequence.

    Raises: ConfigError without pydicom; DataError for other pixels.
    """
    pydicom = import_pydicom("writing")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise DataError(f"expected uint8 pixels (1, H, W) or (3, H, W), got {pixels.dtype} {pixels.shape}")
    entropy = [json.dumps(mark.facts()), str(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]

    def uid(what: str) -> str:
        return str(pydicom.uid.generate_uid(entropy_srcs=[what, *entropy]))

    found = pydicom.Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.ImageType = ["DERIVED", "SECONDARY"]
    found.SOPClassUID, found.SOPInstanceUID = _SECONDARY_CAPTURE, uid("instance")
    found.StudyInstanceUID, found.SeriesInstanceUID = uid("study"), uid("series")
    found.PatientName, found.PatientID = "Synthetic^Image", f"SYNTHETIC-{uid('patient')[-16:]}"
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
        setattr(found, empty, "")
    found.ReferringPhysicianName, found.PatientOrientation, found.Laterality = "", "", ""
    found.StudyDescription = found.SeriesDescription = "Synthetic image"
    found.SeriesNumber, found.InstanceNumber = 1, 1
    found.Modality, found.ConversionType = "OT", "SYN"
    found.ImageComments = COMMENT
    found.DerivationDescription = describe_mark(mark)
    found.BurnedInAnnotation, found.LossyImageCompression = "NO", "00"
    found.ContributingEquipmentSequence = pydicom.Sequence([_equipment(pydicom, mark)])
    channels, found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel = channels
    found.PhotometricInterpretation = "MONOCHROME2" if channels == 1 else "RGB"
    if channels == 3:
        found.PlanarConfiguration = 0
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 8, 8, 7, 0
    data = np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes()
    found.PixelData = data + b"\0" * (len(data) % 2)
    found["PixelData"].VR = "OB"
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = _EXPLICIT_LITTLE_ENDIAN
    found.file_meta.ImplementationClassUID = _IMPLEMENTATION
    found.file_meta.ImplementationVersionName = "MEDZOO"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


def _equipment(pydicom: Any, mark: Mark) -> Dataset:
    """Return the item of ContributingEquipmentSequence that names medzoo and the generator."""
    purpose = pydicom.Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item: Dataset = pydicom.Dataset()
    item.PurposeOfReferenceCodeSequence = pydicom.Sequence([purpose])
    item.Manufacturer = KEYWORD
    item.ManufacturerModelName = mark.generator[:64]
    item.ContributionDescription = COMMENT
    return item


def is_whole_dicom(data: bytes) -> bool:
    """Return whether `data` is a DICOM file with all of its pixels."""
    pydicom = import_pydicom("writing")
    try:
        found = pydicom.dcmread(io.BytesIO(data))
        size = found.Rows * found.Columns * found.SamplesPerPixel
        return bool(len(found.PixelData) == size + size % 2)
    except (pydicom.errors.InvalidDicomError, *BROKEN):
        return False
