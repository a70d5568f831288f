"""How DICOM and NIfTI files become images: their gray window, and which frames or slices of them are taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from medzoo.errors import ConfigError, DataError, UnknownName

SKIP = "--skip-bad skips such files and lists them"
SKIP_HINT = f"fix or remove it; {SKIP}"
"""What to do about a file that cannot be read."""

PLANES = ("axial", "coronal", "sagittal")
_FRAMES = ("first", "middle", "all")
_SLICES = ("middle", "all", "nonempty")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to take of DICOM and NIfTI files; other images are read the same whatever this says.

    `window` is "" for the model's, else the file's; else as `windows.parse_window` takes it. `frames` and `slices` are
    rules of `chosen`: which frames of a DICOM file, which slices of a NIfTI volume along `plane`. `label_tag` is the
    DICOM attribute that holds the label, where folders do not.
    """

    window: str = ""
    frames: str = "middle"
    plane: str = "axial"
    slices: str = "middle"
    label_tag: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str] | None) -> Reading:
        """Return the reading with these values. Raises: UnknownName, ConfigError."""
        known = [field.name for field in fields(cls)]
        for key, value in (given or {}).items():
            if key not in known:
                raise UnknownName("key of `reading`", key, known)
            if not isinstance(value, str):
                raise ConfigError(f"reading['{key}'] takes a string, not {value!r}")
        found = cls(**(given or {}))
        found.check()
        return found

    def check(self) -> None:
        """Raise ConfigError unless every value can be taken."""
        if self.window:
            from medzoo.data.windows import parse_window

            parse_window(self.window)
        for option, rule, words in (("frames", self.frames, _FRAMES), ("slices", self.slices, _SLICES)):
            if rule not in words and _step(rule) is None:
                raise ConfigError(f"--{option} cannot take '{rule}'", f"it takes {', '.join(words)} or every:N")
        if self.plane not in PLANES:
            raise ConfigError(f"--plane cannot take '{self.plane}'", f"it takes {', '.join(PLANES)}")


def chosen(count: int, rule: str) -> list[int]:
    """Return the places of 0..`count` - 1 that a rule takes: "first", "middle", "all" or "every:N", from the first on.

    >>> chosen(7, "every:3")
    [0, 3, 6]
    """
    if rule == "first":
        return [0]
    if rule == "middle":
        return [count // 2]
    return list(range(0, count, _step(rule) or 1))


def _step(rule: str) -> int | None:
    """Return N of "every:N"; None for another rule."""
    word, colon, number = rule.partition(":")
    return int(number) if word == "every" and colon and number.isdecimal() and int(number) > 0 else None


def file_state(path: Path) -> tuple[Path, int, int]:
    """Return a file with its size and time of change, under which what was read of it is kept.

    Raises: DataError if there is no such file, or nothing in it.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or '').lower()}", "check the path") from None
    if not stat.st_size:
        raise DataError(f"{path} is empty (0 bytes)", SKIP_HINT)
    return path, stat.st_size, stat.st_mtime_ns
