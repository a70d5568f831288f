"""Segmentation masks among images: recognized by their names beside those of images, and by their pixels."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medzoo.data.images import SUFFIXES, decode, spread
from medzoo.data.spellings import words
from medzoo.errors import ConfigError, DataError
from medzoo.storage.files import relative_name

MASKS = ("ignore", "refuse", "as-images")
"""What to do with masks: leave them out, raise an error, or take them for images."""

# Words that name masks; those of _WEAK name other things too, so the pixels decide.
_STRONG = frozenset(["mask", "masks", "segmentation", "segmentations", "segment", "seg", "segm", "groundtruth", "gt"])
_WEAK = frozenset(
    words(
        "annotation annotations annot label labels labelmap roi rois lesion contour outline manual manual1 manual2 "
        "truth target targets region"
    )
)
_UNSEPARATED = re.compile(r"(?P<image>.+?)(?P<word>masks?|segmentation|groundtruth)")
_SEPARATORS = re.compile(r"[-_. ()]+")
# Masks whose file was compressed with loss have more than two levels, all near these two.
_NEAR, _NEAR_SHARE = 24, 0.97
_LEVELS = 8
_SAMPLE = 5
_MOST_COMPARED = 12


def check_masks(masks: str) -> None:
    """Raise ConfigError unless `masks` is one of MASKS."""
    if masks not in MASKS:
        raise ConfigError(f"masks cannot take '{masks}'", f"--masks takes {', '.join(MASKS)}")


def find_masks(files: Sequence[Path], root: Path) -> set[int]:
    """Return the indices of the masks among the image `files` under `root`.

    A mask's file is called like an image beside it with a word for masks added, as scan_mask_1.png beside scan.png; or
    it lies in a folder of masks, whose files are called like those of a folder beside it; or it is called like an image
    with anything added, has its size, and has two levels where the image has more. Only files whose names leave it open
    are read.
    """
    folders: dict[tuple[str, ...], _Folder] = {}
    for index, file in enumerate(files):
        parts = tuple(relative_name(file, root).split("/"))
        if file.name.lower().endswith(SUFFIXES):  # the names of others, such as UIDs, say nothing
            folders.setdefault(parts[:-1], _Folder()).add(index, _stem(file))
    found: set[int] = set()
    for folder in folders.values():
        found |= _beside(folder, files)
    return found | _in_folders(folders, files, found)


def _stem(file: Path) -> str:
    """Return a file's name in lower case without its suffix, that of a compressed volume being .nii.gz."""
    return file.stem.casefold().removesuffix(".nii")


@dataclass
class _Folder:
    """The files of a folder: each one's index by its stem in lower case."""

    stems: dict[str, int] = field(default_factory=dict)
    indices: list[int] = field(default_factory=list)

    def add(self, index: int, stem: str) -> None:
        self.stems.setdefault(stem, index)
        self.indices.append(index)


def _beside(folder: _Folder, files: Sequence[Path]) -> set[int]:
    """Find masks that lie in the folder of their images."""
    found: set[int] = set()
    unclear: dict[str, list[tuple[int, int]]] = {}
    for index in folder.indices:
        stem = _stem(files[index])
        if (twin := folder.stems[stem]) != index:  # scan.jpg and its mask scan.png, whichever comes first
            for one, other in ((index, twin), (twin, index)):
                unclear.setdefault(files[one].suffix.casefold(), []).append((one, other))
        partners = [(folder.stems[before], added) for before, added in _shorter(stem) if before in folder.stems]
        if any(_words(added) & _STRONG for _, added in partners):
            found.add(index)
        elif partners:
            partner, added = partners[0]
            unclear.setdefault(re.sub(r"\d+", "#", added), []).append((index, partner))
    for pairs in unclear.values():
        # A few files tell whether what is added to a name may stand for masks at all.
        if _are_masks([pairs[k] for k in spread(len(pairs), _SAMPLE)], files):
            found |= {index for index, partner in pairs if _mask_levels(files[index], files[partner])}
    return found


def _shorter(stem: str) -> Iterable[tuple[str, str]]:
    """Yield a name without what may be added to an image's name, and what that is, the longest name first."""
    for match in reversed(list(_SEPARATORS.finditer(stem))):
        added = stem[match.end() :]
        if match.start() and added:
            yield stem[: match.start()], added
            # The parenthesis of "scan (1)_mask" ends the image's name.
            if stem[match.start()] == ")":
                yield stem[: match.start() + 1], added
    if joined := _UNSEPARATED.fullmatch(stem.rstrip("-_. ()0123456789")):
        yield joined["image"].rstrip("-_. "), joined["word"]
    if (first := _SEPARATORS.split(stem, maxsplit=1))[0] in _STRONG and len(first) == 2:
        for before in (first[1], f"image_{first[1]}", f"img_{first[1]}", f"image-{first[1]}", f"image{first[1]}"):
            yield before, first[0]


@functools.lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    """Return the words of a name, without digits at their ends."""
    parts = _SEPARATORS.split(text.casefold())
    found = frozenset(re.sub(r"\d+$", "", word) for word in parts)
    return found | {"groundtruth"} if "groundtruth" in "".join(parts) else found


def _in_folders(folders: Mapping[tuple[str, ...], _Folder], files: Sequence[Path], known: set[int]) -> set[int]:
    """Find whole folders of masks, beside or below folders of images whose files are called alike."""
    found: set[int] = set()
    beside: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[str, ...]]] = {}
    for folder in folders:
        for place in range(len(folder)):
            beside.setdefault((folder[:place], folder[place + 1 :]), []).append(folder)
    for (above, below), siblings in beside.items():
        named = {folder: words for folder in siblings if (words := _words(folder[len(above)]) & (_STRONG | _WEAK))}
        others = [folder for folder in siblings if folder not in named]
        if (*above, *below) in folders:  # the images of a class, and its masks in a folder within
            others.append((*above, *below))
        images = {stem: k for folder in others for stem, k in folders[folder].stems.items()} if named else {}
        images = {stem: k for stem, k in images.items() if k not in known}
        for folder, words in named.items():
            if _are_called_alike(folders[folder], files, images, strong=bool(words & _STRONG), share=0.5):
                found.update(folders[folder].indices)
        if not named and len(others) <= _MOST_COMPARED:
            # Folders of two classes may both count their files from 0, so nearly all have to fit.
            for folder, other in itertools.permutations(others, 2):
                if _are_called_alike(folders[folder], files, folders[other].stems, strong=False, share=0.9):
                    found.update(folders[folder].indices)
    return found


def _are_called_alike(
    folder: _Folder, files: Sequence[Path], images: Mapping[str, int], *, strong: bool, share: float
) -> bool:
    """Return whether a folder holds masks of `images`: a `share` of its files are called like one, and look like masks.

    In a folder whose name stands for masks (`strong`), those have few levels; else they are masks by `_are_masks`.
    """
    # A few files decide first, for most folders hold no masks.
    for own in ([folder.indices[k] for k in spread(len(folder.indices), _SAMPLE)], folder.indices):
        pairs = [pair for index in own if (pair := _pair(index, files, images)) is not None]
        if not pairs or len(pairs) < share * len(own):
            return False
        if own is not folder.indices:
            few = all(_has_few_levels(files[k]) for k, _ in pairs) if strong else _are_masks(pairs, files)
            if not few:
                return False
    return True


def _pair(index: int, files: Sequence[Path], images: Mapping[str, int]) -> tuple[int, int] | None:
    """Return a file with the one of the `images` that it is called like, if any."""
    stem = _stem(files[index])
    for name in itertools.chain((stem,), (before for before, _ in _shorter(stem))):
        if name in images:
            return index, images[name]
    return None


def _are_masks(pairs: Sequence[tuple[int, int]], files: Sequence[Path]) -> bool:
    """Return whether all files of a sample may be masks of their images, and some are for certain: one may be empty."""
    most = 0
    for mask, image in pairs:
        if not (levels := _mask_levels(files[mask], files[image])):
            return False
        most = max(most, levels)
    return most == 2


def _mask_levels(mask: Path, image: Path) -> int:
    """Return the levels of a file, 1 or 2, if it has an image's size and the image has more levels; else 0."""
    pixels = _pixels(mask)
    if pixels is None or (levels := len(_levels(pixels))) > 2:
        return 0
    partner = _pixels(image)
    fits = partner is not None and partner.shape[:2] == pixels.shape[:2] and len(_levels(partner)) > 2
    return levels if fits else 0


def _has_few_levels(file: Path) -> bool:
    """Return whether a file has few levels, as label maps have, or pixels that are nearly all dark or bright."""
    pixels = _pixels(file)
    if pixels is None:
        return False
    if len(_levels(pixels)) <= _LEVELS:
        return True
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    low, high = float(gray.min()), float(gray.max())
    return bool(np.mean((gray <= low + _NEAR) | (gray >= high - _NEAR)) >= _NEAR_SHARE) and high - low > 4 * _NEAR


def _pixels(file: Path) -> np.ndarray | None:
    try:
        return decode(file)
    except DataError:
        return None  # whoever opens the images says so


def _levels(pixels: np.ndarray) -> np.ndarray:
    """Return the distinct colors."""
    flat = pixels.reshape(-1) if pixels.ndim == 2 else pixels.reshape(-1, 3).astype(np.int32) @ (65536, 256, 1)
    return np.unique(flat)
