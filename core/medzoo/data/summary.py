"""What a path of images was taken for: one line, and the same in plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medzoo.data.spellings import class_name_issues

_EXAMPLES = 5
_CLASSES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What a path holds but the dataset does not: a number of files or folders, what they are, and a few names.

    `expected` is true of what nobody takes for images of the set, such as text files.
    """

    what: str
    count: int
    examples: tuple[str, ...] = ()
    expected: bool = False

    @classmethod
    def of(cls, what: str, names: Iterable[str], *, expected: bool = False) -> LeftOut:
        """Describe the files or folders of these names."""
        found = sorted(names)
        return cls(what=what, count=len(found), examples=tuple(found[:_EXAMPLES]), expected=expected)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How a path was read: its layout, the columns or folders it was read by, what was left out.

    `columns` maps "file", "label", "part" and "patient" to a table's columns, `folders` parts to folders' names. Of the
    `unused_columns`, some may look like a patient's or a part's.
    `patients_from` says where patients are known from, if not from a column. `notes` state what was understood from
    the values.
    """

    layout: str = "images"
    columns: Mapping[str, str] | None = None
    unused_columns: tuple[str, ...] = ()
    patient_like: tuple[str, ...] = ()
    part_like: tuple[str, ...] = ()
    folders: Mapping[str, str] | None = None
    left_out: tuple[LeftOut, ...] = ()
    patients_from: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What a path was taken for.

    `parts` counts images by part and class, with the one part "all" where there are none. `patients` is their number,
    or None if unknown. `channels` counts images by "gray", "color" and "gray stored as RGB", `bits` by bits a channel;
    those of more than 8 are read as of `depth` bits and store no value above `highest`. `synthetic` is the number of
    synthetic images, `unreadable` that of files left out as such, `not_square` that of images of unequal sides.
    `windows` counts DICOM and NIfTI images by the gray window that shows them, `burned_in` those whose headers say that
    text is burned into the pixels; `reading` are the options with which they were read. `classes_are_patients` is true
    where each class is one patient's.
    """

    path: str
    findings: Findings
    parts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    multi_label: bool
    patients: int | None
    channels: Mapping[str, int]
    bits: Mapping[int, int]
    depth: int | None = None
    highest: int | None = None
    synthetic: int = 0
    unreadable: int = 0
    windows: Mapping[str, int] = field(default_factory=dict)
    burned_in: int = 0
    reading: Mapping[str, str] = field(default_factory=dict)
    classes_are_patients: bool = False
    not_square: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should look at, each in a few words."""
        found = []
        if self.findings.patient_like:
            found.append(_columns_like("patient", self.findings.patient_like))
        if self.findings.part_like:
            found.append(_columns_like("part", self.findings.part_like))
        if self.burned_in:
            found.append(
                f"{_images(self.burned_in)} with text burned in by the DICOM header (Burned In Annotation), "
                "which may name patients"
            )
        if self.classes_are_patients:
            found.append(
                "each class holds images of one patient alone: are its folders patients? --label-tag gives labels"
            )
        found += class_name_issues(next(iter(self.parts.values())))
        return tuple(found)

    @property
    def notable(self) -> bool:
        """Whether anything calls for a look: a warning, or images that were left out."""
        return bool(self.warnings or self.unreadable or any(not one.expected for one in self.findings.left_out))

    def line(self) -> str:
        """Return everything in one line."""
        findings = self.findings
        total = sum(self.sizes.values())
        synthetic = f", {self.synthetic} of them synthetic" if self.synthetic else ""
        facts = [f"{_images(total)} {self._classes()}{synthetic}"]
        if len(self.sizes) > 1:
            facts.append("parts " + ", ".join(f"{part} {size}" for part, size in self.sizes.items()))
        else:
            facts.append("no parts")
        if self.patients is None:
            facts.append("patients unknown")
        else:
            column = (findings.columns or {}).get("patient")
            column = f" (column {column})" if column else f" {findings.patients_from}".rstrip()
            facts.append(f"{self.patients} {'patient' if self.patients == 1 else 'patients'}{column}")
        facts.append(f"{_counted(self.channels)}, {_counted({f'{bits} bit': n for bits, n in self.bits.items()})}")
        if self.depth is not None and self.depth != 16:
            facts[-1] += f" read as {self.depth} bit (highest value {self.highest}; change it with image.depth)"
        if self.windows:
            facts.append(f"gray window {_counted(self.windows)} (--window)")
        if self.not_square:
            facts.append(
                f"{self.not_square} not square: squeezed to squares unless image.crop is center, dark-border or pad"
            )
        facts += findings.notes
        left = [f"{one.count} {_singular(one.what) if one.count == 1 else one.what}" for one in findings.left_out]
        left += [f"{self.unreadable} unreadable"] if self.unreadable else []
        if left:
            facts.append(f"left out: {', '.join(left)}")
        like = (*findings.patient_like, *findings.part_like)
        if others := [name for name in findings.unused_columns if name not in like]:
            facts.append(f"columns not used: {', '.join(others)}")
        facts += self.warnings
        return f"{self.path}: {'; '.join(facts)}"

    def _classes(self) -> str:
        counts: dict[str, int] = {}
        for part in self.parts.values():
            for name, count in part.items():
                counts[name] = counts.get(name, 0) + count
        if not any(counts.values()):
            return "without labels"
        several = " (several per image)" if self.multi_label else ""
        if len(counts) > _CLASSES_SHOWN:
            return f"of {len(counts)} classes{several}"
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"of {len(counts)} {'class' if len(counts) == 1 else 'classes'}{several} ({named})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        findings = self.findings
        return {
            "path": self.path,
            "layout": findings.layout,
            "images": sum(self.sizes.values()),
            "parts": dict(self.sizes),
            "counts": {part: dict(counts) for part, counts in self.parts.items()},
            "multi_label": self.multi_label,
            "patients": self.patients,
            "columns": dict(findings.columns or {}),
            "unused_columns": list(findings.unused_columns),
            "folders": dict(findings.folders or {}),
            "channels": dict(self.channels),
            "bits": {str(bits): count for bits, count in self.bits.items()},
            "depth": self.depth,
            "highest": self.highest,
            "left_out": [{**asdict(one), "examples": list(one.examples)} for one in findings.left_out],
            "unreadable": self.unreadable,
            "synthetic": self.synthetic,
            "windows": dict(self.windows),
            "burned_in": self.burned_in,
            "reading": dict(self.reading),
            "patients_from": findings.patients_from,
            "not_square": self.not_square,
            "notes": list(findings.notes),
            "warnings": list(self.warnings),
        }


def _images(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _columns_like(what: str, names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} not used but like a {what}'s: {', '.join(names)}"


def _singular(what: str) -> str:
    """Return "mask" for "masks", "image beside the parts" for "images beside the parts"."""
    first, space, rest = what.partition(" ")
    return first.removesuffix("s") + space + rest if not first.startswith(".") else what


def _counted(counts: Mapping[str, int]) -> str:
    """Return "gray", or "gray 3 and color 5" where they differ."""
    if len(counts) == 1:
        return next(iter(counts))
    return " and ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def merge_left_out(found: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    """Add up entries of the same kind, as of several parts."""
    merged: dict[tuple[str, bool], LeftOut] = {}
    for one in found:
        if one.count:
            before = merged.get(key := (one.what, one.expected))
            examples = (*before.examples, *one.examples)[:_EXAMPLES] if before else one.examples
            count = one.count + (before.count if before else 0)
            merged[key] = LeftOut(what=one.what, count=count, examples=examples, expected=one.expected)
    return tuple(merged.values())
