"""Folders of images: parts, class folders, and what lies beside them; links are followed, nothing vanishes unsaid."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from medzoo.data.images import SUFFIXES, is_image, no_picture
from medzoo.data.masks import check_masks, find_masks
from medzoo.data.metadata import METADATA
from medzoo.data.spellings import part_of, without_part, words
from medzoo.data.summary import Findings, LeftOut, merge_left_out
from medzoo.errors import DataError
from medzoo.storage.files import relative_name

LAYOUTS = "give a folder of class folders, a CSV with the columns file,label, or a MedMNIST .npz"

# Folders of archives, network disks and systems, in lower case; hidden ones are passed over too.
_SYSTEM = frozenset(
    words(
        "@eadir @tmp @recycle @recently-snapshot @sharesnap @sharebin #recycle #snapshot $recycle.bin recycler "
        "recycled lost+found __pycache__"
    )
) | {"system volume information", "network trash folder", "temporary items", "thevolumesettingsfolder", "found.000"}
_NO_CLASSES = "put images in class folders, give a CSV, or name the DICOM attribute of the labels with --label-tag"
_NO_SUFFIX = "without a suffix"
MASK_FILES = "masks"
"""What `images.no_picture` calls files that hold a segmentation and not an image."""
_TEXTS = frozenset({"readme", "license", "licence", "notice", "changelog", "authors", "md5sums", "sha256sums"})
# What medzoo writes into a folder of images.
_OWN = frozenset({METADATA, "run.json", "split.csv"})
# One of these, beside images, says that medzoo wrote the folder: a run, its plan, a card, an experiment or a report.
_RUN_FILES = (".medzoo-plan.json", "run.json", "experiment.json", "model.safetensors", "report.html")
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
# Suffixes of images that medzoo does not read: nobody leaves these out on purpose.
_OTHER_IMAGES = frozenset(
    words(
        ".dicom .ima .gz .nrrd .mha .mhd .gif .webp .jp2 .j2k .heic .heif .avif .jfif .jxl .ppm .pgm .pbm "
        ".svs .ndpi .czi .raw .npy .mat .h5 .avi .mp4 .mov .zip .tar .7z .rar"
    )
)


@dataclass(frozen=True, kw_only=True)
class FolderPart:
    """The images of one part: its folder, files in order, each one's class, and its name relative to the folder."""

    folder: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...]


def read_folder(path: Path, *, masks: str) -> tuple[dict[str, FolderPart], Findings]:
    """Read class folders, or train, val and test folders of them, at `path`; `masks` is one of `masks.MASKS`.

    Raises: DataError for anything that is not class folders, with what may be meant instead.
    """
    folders = _part_folders(path)
    if not folders and part_of(path.resolve().name) == "train":
        folders = _parts_beside(path.resolve())
    if not folders:
        _check_no_parts(path)
    left_out: list[LeftOut] = []
    parts = {}
    for part, folder in (folders or {"train": path}).items():
        parts[part], beside = _read_class_folders(folder, masks=masks)
        left_out += beside
    if folders:
        root = next(iter(folders.values())).parent
        left_out += _beside_parts(root, folders)
    findings = Findings(
        layout="class folders",
        folders={part: folder.name for part, folder in folders.items()} or None,
        left_out=merge_left_out(left_out),
    )
    return parts, findings


def read_flat_folder(path: Path, *, masks: str, nested: bool = False) -> tuple[tuple[Path, ...], Findings] | None:
    """Return the images of a folder that has no folders with images, or None if it has or holds no images.

    With `nested`, the images in its folders too, as if they were beside the others.
    """
    check_masks(masks)
    if not nested and not any(not _is_folder(entry) and is_image(path / entry.name) for entry in _entries(path)):
        return None
    found = _walk(path)
    kept, dropped = _without_masks(found.images, path, masks=masks)
    if not kept or (not nested and any(file.parent != path for file in kept)):
        return None
    return tuple(kept), Findings(
        layout="images", left_out=merge_left_out([*dropped, *found.bare_files(path), *_other_files(found.others, path)])
    )


def without_masks(files: Sequence[Path], root: Path, *, masks: str) -> set[int]:
    """Return the indices of the masks to leave out. Raises: DataError if there are any and they are to be refused."""
    found = set() if masks == "as-images" else find_masks(files, root)
    if masks != "as-images":
        found |= {k for k, file in enumerate(files) if no_picture(file) == MASK_FILES}
    if found and masks == "refuse":
        first = files[min(found)]
        raise DataError(
            f"{root} holds {len(found)} masks beside its images, such as {relative_name(first, root)}",
            "--masks ignore leaves them out, --masks as-images takes them for images",
        )
    return found


def _without_masks(files: Sequence[Path], root: Path, *, masks: str) -> tuple[list[Path], list[LeftOut]]:
    found = without_masks(files, root, masks=masks)
    names = [relative_name(files[k], root) for k in found]
    kept = [file for k, file in enumerate(files) if k not in found]
    return kept, [LeftOut.of("masks", names)] if names else []


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, links to folders included, without hidden ones and those of systems."""
    return sorted(folder / entry.name for entry in _entries(folder) if _is_folder(entry))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder, without hidden files and those of systems. Raises: DataError."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be opened: {(error.strerror or str(error)).lower()}", "check the folder's permissions"
        ) from error
    for entry in entries:
        name = entry.name.casefold()
        # Archives made on a Mac carry a __MACOSX folder of resource forks named like images.
        if not name.startswith((".", "__macosx")) and name not in _SYSTEM | _SYSTEM_FILES:
            yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one. Raises: DataError for a link that leads nowhere."""
    try:
        if entry.is_dir():
            return True
        named = entry.name.lower().endswith(SUFFIXES)
        broken = entry.is_symlink() and not named and not Path(entry.path).exists()
    except OSError:  # links in a circle
        broken = True
    if broken:
        raise DataError(f"{entry.path} is a link that leads nowhere", "restore what it links to, or remove it")
    return False


@dataclass
class _Found:
    """What lies under a folder: images, other files, links that lead back, and folders that medzoo wrote.

    `bare` are DICOM files and the like without a picture, with what they are.
    """

    images: list[Path] = field(default_factory=list)
    bare: list[tuple[str, Path]] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)

    def bare_files(self, root: Path) -> list[LeftOut]:
        """Count the files without a picture by what they are."""
        kinds = dict.fromkeys(what for what, _ in self.bare)
        names = {kind: [relative_name(file, root) for what, file in self.bare if what == kind] for kind in kinds}
        return [LeftOut.of(kind, own, expected=True) for kind, own in names.items()]


def _walk(folder: Path) -> _Found:
    """Find all files under `folder`; links are followed, and no folder is read twice. Raises: DataError."""
    found = _Found()
    seen: set[tuple[int, int]] = set()

    def visit(place: Path) -> None:
        stat = place.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            found.links.append(place)
            return
        seen.add((stat.st_dev, stat.st_ino))
        if place != folder and _is_run(place):
            found.runs.append(place)
            return
        for entry in _entries(place):
            if _is_folder(entry):
                visit(place / entry.name)
            elif not is_image(file := place / entry.name):
                found.others.append(file)
            elif (what := no_picture(file)) and what != MASK_FILES:
                found.bare.append((what, file))
            else:
                found.images.append(file)

    visit(folder)
    found.images.sort()
    return found


def _is_run(folder: Path) -> bool:
    """Return whether medzoo wrote a folder, whose images are samples and plots, or copies of the real ones."""
    return any((folder / name).exists() for name in _RUN_FILES)


def _may_be_part(folder: Path) -> bool:
    """Return whether a folder's own folders may be classes: those of a training run are not, those of `augment` are."""
    return not _is_run(folder) or (folder / METADATA).is_file()


def _holds_images(folder: Path) -> bool:
    return bool(_walk(folder).images)


def _part_folders(folder: Path) -> dict[str, Path]:
    """Find the train, val and test folders in `folder`; {} unless there is a train folder of class folders."""
    parts: dict[str, Path] = {}
    for entry in subfolders(folder):
        part = part_of(entry.name)
        if part is not None and subfolders(entry) and _may_be_part(entry):
            if part in parts:
                raise DataError(f"{folder} has both {parts[part].name}/ and {entry.name}/", "keep one of them")
            parts[part] = entry
    return parts if "train" in parts else {}


def _parts_beside(path: Path) -> dict[str, Path]:
    """Find the parts that a train folder belongs to: folders beside it, called alike but for the word of the part."""
    alike = [entry for entry in subfolders(path.parent) if without_part(entry.name) == without_part(path.name)]
    parts = {
        part: entry
        for entry in alike
        if (part := part_of(entry.name)) is not None and subfolders(entry) and _may_be_part(entry)
    }
    return parts if parts.get("train") == path else {}


def _check_no_parts(path: Path) -> None:
    """Raise DataError for folders of parts that cannot be read as such, and would become classes."""
    folders = [entry for entry in subfolders(path) if part_of(entry.name) is not None and _may_be_part(entry)]
    with_classes = [entry for entry in folders if subfolders(entry) and _holds_images(entry)]
    if with_classes:
        names = " and ".join(f"{entry.name}/" for entry in with_classes)
        raise DataError(f"{path} holds {names} but no part to train on", f"did you mean --data {with_classes[0]}?")
    if len(folders) < 2 or not any(part_of(entry.name) == "train" for entry in folders):
        return
    if {entry for entry in subfolders(path) if _holds_images(entry)} <= set(folders):
        names = " and ".join(f"{entry.name}/" for entry in folders)
        raise DataError(
            f"{path} holds the parts {names} without class folders in them",
            "put images in class folders in each part, or give a CSV",
        )


def _beside_parts(root: Path, folders: Mapping[str, Path]) -> list[LeftOut]:
    """Return what lies beside the folders of the parts."""
    others = [entry for entry in subfolders(root) if entry.resolve() not in {own.resolve() for own in folders.values()}]
    images = {entry.name: len(_walk(entry).images) for entry in others}
    left_out = [
        LeftOut.of(f"images in {name}/ beside the parts", [name] * count) for name, count in images.items() if count
    ]
    files = [root / entry.name for entry in _entries(root) if not _is_folder(entry)]
    loose = [file.name for file in files if is_image(file)]
    left_out += [LeftOut.of("images beside the parts", loose)] if loose else []
    return left_out + _other_files([file for file in files if not is_image(file)], root)


def _read_class_folders(root: Path, *, masks: str) -> tuple[FolderPart, list[LeftOut]]:
    """Read the class folders in `root`; masks are looked for among all of them."""
    folders = subfolders(root)
    runs = [folder for folder in folders if _is_run(folder)]
    if runs and len(runs) == len(folders):
        raise DataError(
            f"{root} holds no class folders, but {runs[0].name}/, which medzoo wrote", f"did you mean --data {runs[0]}?"
        )
    folders = [folder for folder in folders if folder not in runs]
    loose = [root / entry.name for entry in _entries(root) if not _is_folder(entry)]
    bare = [(what, file) for file in loose if is_image(file) and (what := no_picture(file)) not in ("", MASK_FILES)]
    beside = [file for file in loose if is_image(file) and no_picture(file) in ("", MASK_FILES)]
    if not folders:
        if beside:
            raise DataError(f"{root} holds images but no class folders", _NO_CLASSES)
        tables = [file for file in loose if file.suffix.lower() == ".csv"]
        table = next((file for file in tables if file.name == "split.csv"), tables[0] if len(tables) == 1 else None)
        hint = LAYOUTS if table is None else f"did you mean --data {table}?"
        raise DataError(f"{root} holds no images{_what_else(loose)}", hint)
    found = {folder: _walk(folder) for folder in folders}
    for folder in [folder for folder, one in found.items() if one.bare and not one.images]:
        folders.remove(folder)  # reports and the like beside the class folders are no class
    if not folders:
        raise DataError(f"{root} holds no images: its DICOM files are without a picture", LAYOUTS)
    everything = [file for folder in folders for file in found[folder].images]
    kept, left_out = _without_masks(everything, root, masks=masks)
    images: dict[Path, list[Path]] = {folder: [] for folder in folders}
    named = {folder.name: folder for folder in folders}
    for file in kept:
        images[named[relative_name(file, root).partition("/")[0]]].append(file)
    for folder, own in list(images.items()):
        if not own and found[folder].images:
            del images[folder]  # a folder of masks is no class
        elif not own:
            raise DataError(
                f"class folder {folder} holds no images ({', '.join(SUFFIXES)}){_what_else(found[folder].others)}",
                "fill or remove it",
            )
    if not images and beside:
        raise DataError(f"{root} holds images but no class folders", _NO_CLASSES)
    if not images:
        raise DataError(f"{root} holds no images but masks", "--masks as-images takes masks for images")
    _check_classes(root, images)
    runs += [folder for one in found.values() for folder in one.runs]
    left_out += [LeftOut.of("folders that medzoo wrote", [relative_name(one, root) for one in runs])] if runs else []
    left_out += [LeftOut.of("images beside the class folders", [file.name for file in beside])] if beside else []
    left_out += _other_files(
        [
            *(file for file in loose if not is_image(file)),
            *(file for one in found.values() for file in one.others),
        ],
        root,
    )
    bare += [pair for one in found.values() for pair in one.bare]
    left_out += _Found(bare=bare).bare_files(root)
    links = [relative_name(link, root) for one in found.values() for link in one.links]
    left_out += [LeftOut.of("links to a folder that was read already", links)] if links else []
    files = [file for own in images.values() for file in own]
    names = tuple(relative_name(file, root) for file in files)
    _check_encoding(root, names)
    classes = tuple(folder.name for folder, own in images.items() for _ in own)
    return FolderPart(folder=root, files=tuple(files), classes=classes, names=names), left_out


def _check_classes(root: Path, images: Mapping[Path, Sequence[Path]]) -> None:
    """Raise DataError where a class folder holds what look like parts or classes of its own."""
    inner = {folder: _inner_folders(folder, files) for folder, files in images.items()}
    parted = {folder: [name for name in names if part_of(name) is not None] for folder, names in inner.items()}
    parted = {folder: names for folder, names in parted.items() if len(names) > 1 or "train" in map(part_of, names)}
    for folder, names in parted.items():
        above = ""
        if len(parted) > 1:
            above = f" Parts come before classes: {names[0]}/{folder.name}"
        raise DataError(
            f"{folder} is no class: it holds the parts {_few(names)}", f"did you mean --data {folder}?{above}"
        )
    if len(inner) == 1:
        (folder,) = inner
        while len(names := _inner_folders(folder, images[next(iter(images))])) == 1:
            folder = folder / names[0]
        if len(names) > 1:
            raise DataError(
                f"{root} has one folder, {next(iter(images)).name}, which holds the folders {_few(names)}",
                f"did you mean --data {folder}? To make it one class, put its images into it directly",
            )
        return
    shared = set.intersection(*map(set, inner.values()))
    # Folders whose names differ in numbers alone hold patients, series or magnifications.
    if len({re.sub(r"\d+", "", name.casefold()) for name in shared}) > 1:
        first, second = list(inner)[:2]
        raise DataError(
            f"{root} has the folders {_few([folder.name for folder in inner])}, each of which holds the folders "
            f"{_few(sorted(shared))}: either could be the classes",
            f"did you mean --data {first}? To keep {first.name} and {second.name} as classes, put their images into "
            "them directly, or give a CSV",
        )


def _inner_folders(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return the names of the folders with images in a folder that has no images of its own."""
    start = f"{folder}{os.sep}"
    parts = [relative_name(file, folder).split("/") for file in files if str(file).startswith(start)]
    return [] if any(len(own) == 1 for own in parts) else list(dict.fromkeys(own[0] for own in parts))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _what_else(files: Sequence[Path]) -> str:
    """Return " (it has 3 .dcm)" for the files that are there instead of images."""
    counts: dict[str, int] = {}
    for file in files:
        counts[_suffix(file)] = counts.get(_suffix(file), 0) + 1
    return f"; it has {', '.join(f'{n} {suffix}' for suffix, n in sorted(counts.items()))}" if counts else ""


def _suffix(file: Path) -> str:
    """Return a file's suffix in lower case, or what is said of a file without one."""
    return file.suffix.lower() or _NO_SUFFIX


def _other_files(files: Sequence[Path], root: Path) -> list[LeftOut]:
    """Count files by suffix, those of images that medzoo does not read first."""
    by_suffix: dict[str, list[str]] = {}
    for file in files:
        if (name := relative_name(file, root)) not in _OWN:
            by_suffix.setdefault(_suffix(file), []).append(name)
    found = [
        LeftOut.of(suffix, names, expected=_is_expected(suffix, names)) for suffix, names in sorted(by_suffix.items())
    ]
    return sorted(found, key=lambda one: one.expected)


def _is_expected(suffix: str, names: Sequence[str]) -> bool:
    """Return whether nobody takes files of a suffix for images."""
    if suffix == _NO_SUFFIX:
        return {PurePath(name).name.casefold() for name in names} <= _TEXTS
    return suffix not in _OTHER_IMAGES


def _check_encoding(root: Path, names: Iterable[str]) -> None:
    """Check that names are in UTF-8, as tables and records need. Raises: DataError."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="backslashreplace").decode()
            raise DataError(f"{root} holds a name that is not UTF-8: {shown}", "rename the folder or file") from None
