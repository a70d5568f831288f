"""The key of a reading study: what each image is and in which order the page shows them. It stays with the author."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.errors import DataError
from medzoo.storage.files import make_folder, read_json, temporary_beside, with_checksum, without_checksum

KEY, PAGE = "key.json", "study.html"
FORMAT = "medzoo-study-key"
VERSION = 1

ORIGIN, CLASS, QUALITY = "origin", "class", "quality"
TASKS = (ORIGIN, CLASS, QUALITY)
"""Real or synthetic, with confidence; which class; how good an image is."""
ORIGIN_LEVELS, QUALITY_LEVELS = 6, 5
CALLED = 4
"""The lowest answer to `ORIGIN` that calls an image synthetic, or of a pair the right one."""


@dataclass(frozen=True, kw_only=True)
class StudyImage:
    """An image of a study: whether it is synthetic, its class, its name in its set, and its pixels' fingerprint."""

    synthetic: bool
    label: str
    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a reader sees at a time: an image, or a pair from left to right, by place in `Study.images`.

    `repeat_of` is the trial that it repeats, "" for one shown first.
    """

    id: str
    images: tuple[int, ...]
    repeat_of: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A reading study with its key.

    `design` is all that the author chose, and `secret` 64 random hexadecimal digits: whoever has both and the image
    sets, and nobody else, can derive which images were picked, their order, and the ids of trials.
    """

    id: str
    secret: str
    design: Mapping[str, Any]
    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    pairs: bool
    side: int
    images: tuple[StudyImage, ...]
    trials: tuple[Trial, ...]
    page_sha256: str
    warnings: tuple[str, ...] = ()

    @property
    def first_trials(self) -> list[Trial]:
        """The trials that repeat no other."""
        return [trial for trial in self.trials if not trial.repeat_of]

    def synthetic(self, trial: Trial) -> bool:
        """Return whether the image of a trial is synthetic, or of a pair the right one."""
        return self.images[trial.images[-1]].synthetic

    def label(self, trial: Trial) -> str:
        """Return the class of the image or pair of a trial."""
        return self.images[trial.images[0]].label


def keyed(secret: str, *parts: object) -> bytes:
    """Return 32 bytes that depend on the parts, and that nobody can compute without the secret (HMAC-SHA256)."""
    return hmac.new(bytes.fromhex(secret), "/".join(map(str, parts)).encode(), hashlib.sha256).digest()


def keyed_random(secret: str, *parts: object) -> np.random.Generator:
    """Return a random generator seeded by `keyed`."""
    return np.random.default_rng(int.from_bytes(keyed(secret, *parts), "big"))


def write_key(study: Study, folder: Path) -> Path:
    """Write key.json, which only its owner may read where the disk knows owners, and return its path."""
    import json

    path = make_folder(folder) / KEY
    values = with_checksum({"format": FORMAT, "version": VERSION, **asdict(study)})
    with temporary_beside(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    return path


def read_study(folder: Path) -> Study:
    """Read the key in a study's folder. Raises: DataError if there is none, or it was changed."""
    path = folder / KEY
    try:
        values = read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("it is another file")
        if values["version"] != VERSION:
            raise ValueError(f"it is of version {values['version']}, and this medzoo reads {VERSION}")
        values = without_checksum(values, required=True)
        return Study(
            id=values["id"],
            secret=values["secret"],
            design=values["design"],
            tasks=tuple(values["tasks"]),
            classes=tuple(values["classes"]),
            pairs=values["pairs"],
            side=values["side"],
            images=tuple(StudyImage(**one) for one in values["images"]),
            trials=tuple(Trial(**{**one, "images": tuple(one["images"])}) for one in values["trials"]),
            page_sha256=values["page_sha256"],
            warnings=tuple(values["warnings"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder} holds no reading study: {KEY} is missing", "give the folder that `medzoo study new --out` wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the key of a reading study: {error}", "restore the file from a backup"
        ) from None
