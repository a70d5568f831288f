"""Write a gallery: a folder of pages that opens by double click, or lies on any web server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

from medzoo._version import __version__
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError
from medzoo.hub.registry import GENERATOR, WEIGHTS, ModelEntry, load_registry
from medzoo.plugins.guard import exits_as_errors
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.report.gallery.data import (
    DataPage,
    EvaluationPage,
    Maker,
    TuningPage,
    check_same_data,
    data_page,
    find_evaluations,
    find_tuning,
)
from medzoo.report.gallery.images import drawn_samples
from medzoo.report.gallery.models import ModelPage, model_page
from medzoo.report.page import page_script, render
from medzoo.runs.arguments import class_names, invalid_argument, require, whole_number
from medzoo.runs.progress import Progress, no_progress
from medzoo.storage.files import (
    check_empty,
    check_outside,
    disk_errors,
    make_folder,
    new_folder,
    read_json,
    with_checksum,
    without_checksum,
    write_atomic,
    write_json_atomic,
)

logger = logging.getLogger(__name__)

INDEX, RECORD = "index.html", "gallery.json"
TITLE = "Gallery of models"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A gallery that was written: its first page, the models in it, and those of them whose files are not here."""

    index: Path
    models: tuple[str, ...]
    remote: tuple[str, ...]


@exits_as_errors()
def gallery(
    out: str | Path,
    *,
    data: str | Path | None = None,
    augmented: str | Path | Sequence[str | Path] = (),
    evaluated: str | Path | Sequence[str | Path] = (),
    tuned: str | Path | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    device: str = "auto",
    title: str = "",
    progress: Progress | None = None,
) -> Gallery:
    """Write a static site of all published models into the folder `out`: samples, cards, scores, commands.

    With `data`, real images or an augmented folder that holds them, or `augmented`, folders that `augment` or `sample`
    wrote, the site shows those instead: real and synthetic images of each class side by side, counts, what made them,
    and of the models only those that did. `evaluated` are folders of evaluations and `tuned` is one of a tuning; those
    in the folders given are found. `classes`, `skip_bad`, `masks` and `reading` are what `train` takes.

    Images are those of the cards; with `sample`, that many of each class are sampled anew, with `seed` on `device`,
    from the generators on this machine. Nothing is downloaded: models that are elsewhere are shown as such. `out` is a
    new folder, or an earlier gallery, which is brought up to date. The same models give the same bytes.

    Example:
        >>> medzoo.gallery("site").index
        PosixPath('site/index.html')
        >>> medzoo.gallery("busi-site", data="busi", augmented="busi-500", tuned="tuned")

    Raises:
        ConfigError: an argument out of range or of the wrong type; a registry file that cannot be read.
        DataError: `out` holds other files; folders that hold no synthetic images, no evaluation or no tuning.
        ResourceError: `out` cannot be written to; a device that cannot be used.
    """
    require((str, Path), "a path", out=out)
    require(str, "a text", title=title, device=device)
    require((int, NoneType), "a whole number", sample=sample)
    if sample is not None and whole_number("sample", sample) < 1:
        raise ConfigError(f"sample = {sample} is too small", "use at least 1")
    require((str, Path, NoneType), "a path", data=data, tuned=tuned)
    folder, given = Path(out), None if data is None else Path(data)
    made, evaluations = _paths("augmented", augmented), _paths("evaluated", evaluated)
    folders = [*filter(None, [given]), *made]
    try:
        check_outside(folder, *folders)
    except DataError as error:
        raise DataError(error.message, "give another folder for the gallery") from None
    earlier = _earlier(folder)
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    for text in filter(None, [*registry.problems, plugins.broken_hint.strip("()")]):
        logger.warning(text)
    shown = _opened(given, made, classes=classes, skip_bad=skip_bad, masks=masks, reading=reading)
    tuning = find_tuning(None if tuned is None else Path(tuned), folders) if folders or tuned is not None else None
    found = find_evaluations(evaluations, folders) if folders or evaluations else []
    if shown is not None:
        check_same_data(shown, tuning, found)
    entries = [entry for entry in registry.entries if shown is None or _weights(entry) in _used(shown.makers, tuning)]
    models = [replace(model_page(entry), evaluations=_of(entry, found)) for entry in entries]
    if unknown := [
        one.folder for one in found if shown is None and not any(one in each.evaluations for each in models)
    ]:
        raise DataError(
            f"the evaluation {unknown[0]} is of no published model", "give its images as well: --augmented DIR"
        )
    models.sort(key=lambda model: model.entry.kind != GENERATOR)
    if sample is not None:
        models = _sampled(models, plugins, count=sample, seed=seed, device=device, progress=progress or no_progress)
    heading = title or (TITLE if shown is None else f"Gallery: {shown.name}")
    pages = _render(models, title=heading, data=shown, tuning=tuning, evaluations=found if shown is not None else [])
    _write(folder, pages, earlier)
    remote = tuple(model.name for model in models if model.remote)
    if remote:
        logger.info(f"shown without their images and cards, as they are not on this machine: {', '.join(remote)}")
    if shown is not None and shown.shows_real:
        logger.info(f"{folder} shows {shown.shows_real} real images: give it only to those who may see them")
    return Gallery(index=folder / INDEX, models=tuple(model.name for model in models), remote=remote)


def _paths(name: str, given: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return one path or several. Raises: ConfigError."""
    several = [given] if isinstance(given, str | Path) else list(given)
    for one in several:
        if not isinstance(one, str | Path):
            raise invalid_argument(name, one, "a path")
    return [Path(one) for one in several]


def _opened(
    data: Path | None,
    augmented: Sequence[Path],
    *,
    classes: Sequence[str] | None,
    skip_bad: bool,
    masks: str,
    reading: Mapping[str, str] | None,
) -> DataPage | None:
    """Return the page of the data, None without any. Raises: DataError."""
    if data is None and not augmented:
        return None
    from medzoo.data.dataset import open_dataset

    how = Reading.of(reading)
    names = class_names(classes)
    return data_page(
        data,
        augmented,
        opened=lambda path: open_dataset(path, classes=names, skip_bad=skip_bad, masks=masks, reading=how),
    )


def _weights(entry: ModelEntry) -> str:
    return next((file.sha256 for file in entry.files if file.name == WEIGHTS), "")


def _used(makers: Sequence[Maker], tuning: TuningPage | None) -> set[str]:
    """Return the hashes of the weights that made images, or would by the policy."""
    return {*(maker.weights_sha256 for maker in makers), tuning.weights_sha256 if tuning else ""} - {""}


def _of(entry: ModelEntry, evaluations: Sequence[EvaluationPage]) -> tuple[EvaluationPage, ...]:
    return tuple(one for one in evaluations if _weights(entry) in one.weights)


def _sampled(
    models: list[ModelPage], plugins: Plugins, *, count: int, seed: int, device: str, progress: Progress
) -> list[ModelPage]:
    """Return the models with samples drawn anew, of the generators that are on this machine."""
    from medzoo.generation.mixture import make_source

    source = make_source(plugins, device=device)
    return [
        replace(model, samples=drawn_samples(model.entry, source, count=count, seed=seed, progress=progress))
        if model.entry.kind == GENERATOR and not model.remote
        else model
        for model in models
    ]


def _render(
    models: list[ModelPage],
    *,
    title: str,
    data: DataPage | None,
    tuning: TuningPage | None,
    evaluations: Sequence[EvaluationPage],
) -> dict[str, bytes]:
    """Return the pages by their path in the gallery."""
    script, digest = page_script("gallery.js")
    common: Mapping[str, Any] = {
        "version": __version__,
        "script": script,
        "digest": digest,
        "pages": [("All models" if data is None else "Overview", INDEX)],
    }
    index = {
        **common,
        "title": title,
        "models": models,
        "data": data,
        "tuning": tuning,
        "evaluations": evaluations,
        # Where a model has a page, by the hash of its weights.
        "links": {_weights(model.entry): (model.name, model.file) for model in models},
        "root": "",
        "here": INDEX,
    }
    pages = {INDEX: render("gallery_index.html.j2", index)}
    for model in models:
        values = {**common, "model": model, "root": "../", "here": model.file}
        pages[model.file] = render("gallery_model.html.j2", values)
    return pages


def _earlier(folder: Path) -> list[str] | None:
    """Return the files of the gallery that a folder holds, None for a new folder.

    Raises: DataError if it holds other files; hidden ones are left alone, as of git.
    """
    if not (folder / RECORD).is_file():
        check_empty(folder)
        return None
    try:
        content = without_checksum(read_json(folder / RECORD), required=True)
        known = [str(name) for name in content["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder} holds other files, and no gallery of medzoo", "give a new folder, or empty this one"
        ) from None
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    others = [name for name in there if name not in (RECORD, *known) and not _is_hidden(name)]
    if others:
        raise DataError(
            f"{folder} holds a file that is not of its gallery: {others[0]}", "move it away, or give a new folder"
        )
    return known


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _write(folder: Path, pages: Mapping[str, bytes], earlier: list[str] | None) -> None:
    """Write the pages, a new folder all at once, and remove pages of an earlier gallery. Raises: ResourceError."""
    if earlier is None:
        with new_folder(folder) as place:
            for name, data in pages.items():
                write_atomic(place / name, data)
            _record(place, pages)
        return
    # The record comes first and last: after an interrupt, every file is one of a gallery.
    _record(folder, {*earlier, *pages})
    for name, data in pages.items():
        path = folder / name
        make_folder(path.parent)
        if not path.is_file() or path.is_symlink() or path.read_bytes() != data:
            write_atomic(path, data)
    with disk_errors(folder):
        for name in set(earlier) - pages.keys():
            (folder / name).unlink(missing_ok=True)
    _record(folder, pages)


def _record(folder: Path, names: Mapping[str, bytes] | set[str]) -> None:
    write_json_atomic(folder / RECORD, with_checksum({"gallery": FORMAT, "files": sorted(names)}))
