"""Tell by the marks inside image files whether they are synthetic, and what made them."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from medzoo.data import dicom
from medzoo.data.content_credentials import read_manifest
from medzoo.data.images import DICOM, SUFFIXES, format_of
from medzoo.data.marks import FoundMarks, leading_term, read_marks
from medzoo.errors import ConfigError, DataError

NO_MARK = "an image without a mark is not thereby real: marks are lost when programs save, convert or show images"

_BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, zlib.error)

Verdict = Literal["synthetic", "altered", "no mark", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class Identification:
    """What marks inside a file say: "synthetic", "altered" (a real image), "no mark" of either, or "unreadable".

    `marks` are those that were found: "XMP", "C2PA", "medzoo", or "settings" of a diffusion program. `source_type` is
    the IPTC's term, "" if none is stated; a camera's own, such as digitalCapture, is no mark of synthesis. `facts` say
    what made the image, as far as it is stated: program, generator, weights_sha256, seed, label, strength. `reason`
    says why a file cannot be read. With c2pa-python, `facts` also have `signed_by` and `signature` of a C2PA manifest.
    """

    path: Path
    verdict: Verdict
    marks: tuple[str, ...] = ()
    source_type: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def describe(self) -> str:
        """Return what was found in a few words, without the verdict."""
        if self.reason:
            return self.reason
        facts = [
            f"{key.removesuffix('_sha256').replace('_', ' ')} {_short(value)}" for key, value in self.facts.items()
        ]
        stated = [f"{self.source_type} in {' and '.join(self.marks)}"] if self.source_type else []
        return "; ".join([", ".join(facts), *stated] if facts else stated)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "path": str(self.path),
            "verdict": self.verdict,
            "marks": list(self.marks),
            "source_type": self.source_type,
            "facts": dict(self.facts),
            "reason": self.reason,
        }


def _short(value: object) -> str:
    """Return the start of a hash, and other values as they are."""
    text = str(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text


def identify_files(paths: Sequence[Path]) -> list[Identification]:
    """Identify files and the images in folders, sorted by name within each folder.

    Raises: DataError for a path that does not exist or a folder without images; ConfigError if there is no path.
    """
    if not paths:
        raise ConfigError("no file is given", "name image files or folders: medzoo identify scans")
    return [_identify(file) for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} does not exist", "check the path")
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not found:
        raise DataError(f"{path} holds no images", f"image files end in {', '.join(SUFFIXES)}")
    return found


def _identify(path: Path) -> Identification:
    try:
        found = _read(path)
    except DataError as error:
        return Identification(path=path, verdict="unreadable", reason=error.message.removeprefix(f"{path} "))
    except _BROKEN as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not an image"
        return Identification(path=path, verdict="unreadable", reason=f"it cannot be read: {reason}")
    if "C2PA" in found.marks or path.suffix.lower() == ".webp":
        found = _with_manifest(found, path)
    verdict: Verdict = "synthetic" if found.synthetic else "altered" if found.altered else "no mark"
    return Identification(
        path=path, verdict=verdict, marks=found.marks, source_type=found.source_type, facts=found.facts
    )


def _with_manifest(found: FoundMarks, path: Path) -> FoundMarks:
    """Add who signed a file's C2PA manifest, and what the signature is worth, where c2pa-python is installed."""
    manifest = read_manifest(path)
    if manifest is None:
        return found
    return replace(
        found,
        source_type=leading_term((found.source_type, manifest.source_type)),
        marks=tuple(dict.fromkeys((*found.marks, "C2PA"))),
        facts={**found.facts, "signed_by": manifest.signer, "signature": manifest.signature},
    )


def _read(path: Path) -> FoundMarks:
    if (kind := format_of(path)) == DICOM:
        return dicom.read_header(path).marks
    if kind:
        return FoundMarks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return read_marks(image)
