"""What keeps a card folder from being published; each problem with its mend, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.data.images import decode
from medzoo.errors import DataError, MedzooError
from medzoo.evaluation.memorization import CopyCheck
from medzoo.hub.front_matter import LIBRARY, is_number, parse_card
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS, ModelEntry
from medzoo.models.loading import LoadedModel
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Classifier, Generator
from medzoo.publishing.card import (
    COUNT_HEAD,
    NOTE_HEAD,
    README,
    SAMPLE_SIDE,
    SAMPLES,
    SAMPLES_PER_CLASS,
    SCORE_HEAD,
    SETTING_HEAD,
    Form,
    count_rows,
    form_of,
    load_published,
    note_rows,
    samples_sheet,
    score_rows,
    setting_rows,
)
from medzoo.publishing.privacy import traces
from medzoo.storage.files import sha256_file

RECORD = ".medzoo-published.json"
"""Where a folder that no registry row pins keeps what it was published as; never sent itself."""

FRONT_MATTER = ("license", "library_name", "pipeline_tag", "tags")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card folder, the text its README is to have, and what it must agree with.

    `notes` is what its training measured, by the run's record where there is one. `row` is the registry's row of the
    model; `pinned` says whether the folder must hold the very files the row names. `license` is the one that the row or
    the facts about the model name, "" where there are neither.
    """

    folder: Path
    readme: str
    description: Mapping[str, Any]
    notes: Mapping[str, Any]
    row: ModelEntry | None
    pinned: bool
    license: str

    @property
    def form(self) -> Form:
        """What the card of this kind of model holds and says."""
        return form_of(self.description)


def problems(card: Card, *, plugins: Plugins, accept_memorisation: bool = False) -> list[Problem]:
    """Everything that keeps the card from being published; nothing where it may be."""
    found = [
        *_files(card),
        *_front_matter(card),
        *_sections(card),
        *_figures(card),
        *_traces(card),
        *_agreement(card),
        *_copying(card, accepted=accept_memorisation),
    ]
    if all(_is_own_file(card.folder / name) for name in card.form.files):
        if SAMPLES in card.form.files:
            found += picture_problems(card.folder / SAMPLES)
        found += weights_problems(card.folder, plugins=plugins)
    return found


def _files(card: Card) -> Iterator[Problem]:
    names = card.form.files
    for name in names:
        if not _is_own_file(card.folder / name):
            yield Problem(message=f"lacks {name} as a file of its own", mend="write the card again with `medzoo card`")
    for entry in sorted(card.folder.iterdir()):
        if entry.name not in names and entry.name != RECORD:
            yield Problem(message=f"holds {entry.name}", mend=f"only {', '.join(names)} are published, remove it")


def _is_own_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _front_matter(card: Card) -> Iterator[Problem]:
    mend = f"put it into the front matter of {README}"
    try:
        data = parse_card(card.readme).data if card.readme.startswith("---\n") else None
    except ValueError as error:
        yield Problem(message=f"{README} has bad front matter", mend=f"mend it ({str(error).splitlines()[0]})")
        return
    stated = {key: data.get(key) if data is not None else None for key in FRONT_MATTER}
    license = stated["license"]
    if not license or not isinstance(license, str):
        yield Problem(message="has no license", mend=f"choose one, nobody else can, and {mend}")
    elif card.license and license.lower() != card.license.lower():
        yield Problem(message=f"has license {license}, its row {card.license}", mend="make the two agree")
    if stated["library_name"] != LIBRARY:
        yield Problem(message=f"does not say library_name: {LIBRARY}", mend=mend)
    for key in ("pipeline_tag", "tags"):
        if not stated[key]:
            yield Problem(message=f"has no {key}", mend=mend)


def _sections(card: Card) -> Iterator[Problem]:
    text = card.readme
    for name in card.form.sections:
        body = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        if body is None or not body[1].strip():
            yield Problem(message=f"has no section '{name}'", mend=f"write it under '## {name}' in {README}")
    if card.form.disclaimer not in " ".join(text.split()):
        yield Problem(message="lacks the disclaimer", mend=f"put into {README}: {card.form.disclaimer}")


def _figures(card: Card) -> Iterator[Problem]:
    """Tables and model-index may hold only what config.json and the run's record hold."""
    known = {"|---|---|", "|---|---|---|", COUNT_HEAD, SETTING_HEAD, NOTE_HEAD, SCORE_HEAD}
    known |= {*count_rows(_table(card.description, "data", "counts")), *setting_rows(card.description["config"])}
    known |= {*note_rows(card.notes), *score_rows(card.notes, HELD_OUT), *score_rows(card.notes, HELD_OUT_APART)}
    for line in map(str.strip, card.readme.splitlines()):
        if line.startswith("|") and line not in known:
            yield Problem(message=f"states '{line}', which no run recorded", mend="remove it, or train and write again")
    measured = {(name, value) for facts in card.notes.values() for name, value in facts.items() if is_number(value)}
    try:
        results = parse_card(card.readme).data.get("eval_results") or [] if card.readme.startswith("---\n") else []
    except ValueError:
        return  # told of with the front matter
    for result in results:
        if (result.metric_type, result.metric_value) not in measured:
            yield Problem(
                message=f"its model-index states {result.metric_type} {result.metric_value}, which no run recorded",
                mend="remove it from the front matter",
            )


def _table(description: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = description
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _traces(card: Card) -> Iterator[Problem]:
    texts = {README: card.readme, CONFIG: "\n".join(_strings(card.description))}
    try:
        with safe_open(card.folder / WEIGHTS, "pt") as weights:
            metadata = weights.metadata() or {}
    except (OSError, SafetensorError):
        metadata = {}  # told of with the weights
    texts[WEIGHTS] = "\n".join(_strings(metadata))
    for name, text in texts.items():
        for trace in sorted(traces(text)):
            yield Problem(message=f"{name} holds '{trace}' of this machine", mend="reword it, or train from elsewhere")
    if "data:image" in card.readme:
        yield Problem(message=f"{README} holds a picture in its text", mend="remove it")
    if metadata.keys() - {"format"}:
        yield Problem(message=f"{WEIGHTS} holds metadata", mend="write the card again with `medzoo card`")


def _strings(value: Any) -> Iterator[str]:
    """All texts in JSON values, keys included, as they are without JSON's escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value:
            yield from _strings(inner)
            if isinstance(value, Mapping):
                yield from _strings(value[inner])


def _agreement(card: Card) -> Iterator[Problem]:
    """config.json whole, and of one mind with the registry row."""
    image = _table(card.description, "image")
    counts = _table(card.description, "data", "counts")
    classes = image.get("classes") or []
    if set(counts) != set(classes) or not all(type(count) is int and count > 0 for count in counts.values()):
        yield Problem(message=f"{CONFIG} lacks training images of some class", mend="write the card again")
    if not _table(card.description, "data").get("images"):
        yield Problem(message=f"{CONFIG} lacks its training images' fingerprints", mend="write the card again")
    row = card.row
    if row is None:
        return
    own = {"id": card.description.get("id"), "plugin": card.description["plugin"], "classes": list(classes)}
    own |= {"kind": card.description.get("kind", GENERATOR)} | {key: image.get(key) for key in ("size", "channels")}
    for key, value in own.items():
        named = list(row.classes) if key == "classes" else getattr(row, key)
        if value != named:
            yield Problem(
                message=f"{CONFIG} says {key} {value}, the registry row {named}", mend="correct one, or choose a new id"
            )
    for file in row.files if card.pinned else ():
        path = card.folder / file.name
        if path.is_file() and (path.stat().st_size != file.bytes or sha256_file(path) != file.sha256):
            yield Problem(message=f"{file.name} is not what the registry row names", mend=f"medzoo pull {row.name}")


def _copying(card: Card, *, accepted: bool) -> Iterator[Problem]:
    try:
        check = CopyCheck.of(card.notes)
    except DataError as error:
        yield Problem(message=error.message, mend=error.hint)
        return
    if check is not None and check.failed and not accepted:
        yield Problem(
            message=f"failed its copy check: its images repeat training images ({check.metric})",
            mend="train it on more images or for less long, or --accept-memorisation, which the card then states",
        )


# The parts of a picture; text, dates and anything behind the end could carry what nobody sees.
_PNG_PARTS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
# Side in pixels of the blocks in which two pictures are compared, and the mean difference in grey levels that another
# processor may cause in one; on the same processor there is none.
_BLOCK, _REDRAWN = 32, 12.0
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with a card, and what mends it."""

    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}: {self.mend}"


def weights_problems(folder: Path, *, plugins: Plugins) -> Iterator[Problem]:
    """Weights that are not those config.json names, or not all a fresh model takes, or that make no sense."""
    try:
        model = load_published(folder, plugins=plugins)
        with safe_open(folder / WEIGHTS, "pt") as weights:
            stored = set(weights.keys())
    except MedzooError as error:
        yield Problem(message=error.message, mend=error.hint)
        return
    if extra := sorted(stored ^ set(model.model.state_dict())):
        yield Problem(message=f"{WEIGHTS} and the model differ in {extra[0]}", mend="write the card again")
    if model.kind == CLASSIFIER:
        yield from _prediction_problems(model)
    else:
        yield from _sample_problems(folder, model)


def _prediction_problems(model: LoadedModel[Classifier]) -> Iterator[Problem]:
    """A classifier whose answers are no probabilities."""
    shape = (2, model.image.channels, model.image.size, model.image.size)
    said = model.model.predict(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    sound = said.shape == (2, len(model.image.classes)) and bool(((said >= 0) & (said <= 1)).all())
    if sound and not model.image.multi_label:
        sound = bool(((said.sum(dim=1) - 1).abs() < _SUM_TOLERANCE).all())
    if not sound:
        yield Problem(
            message="its model gives no probabilities of its classes", mend=f"medzoo plugin check {model.spec.name}"
        )


def _sample_problems(folder: Path, model: LoadedModel[Generator]) -> Iterator[Problem]:
    """A generator that draws no images, or others than its card shows."""
    images = model.model.sample([0], _first_label(model))
    side = model.image.size
    if images.shape != (1, model.image.channels, side, side) or not images.isfinite().all():
        yield Problem(
            message="its model samples no images of its own spec", mend=f"medzoo plugin check {model.spec.name}"
        )
        return
    if _differ(decode(folder / SAMPLES), samples_sheet(model).transpose(1, 2, 0), width=_tiles_width(side)):
        yield Problem(message=f"{SAMPLES} was not drawn from these weights", mend="write the card again")


def picture_problems(path: Path) -> Iterator[Problem]:
    """A PNG that holds more than its one picture."""
    data = path.read_bytes()
    parts, place = [], 8
    while place + 8 <= len(data):
        parts.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if parts[-1] == b"IEND":
            break
    if not data.startswith(b"\x89PNG") or place != len(data) or set(parts) - _PNG_PARTS:
        yield Problem(
            message=f"{path.name} holds more than one picture", mend="write the card again with `medzoo card`"
        )


def _tiles_width(side: int) -> int:
    """Pixels from the right that hold a sheet's samples and none of the names beside them, which other fonts move."""
    return SAMPLES_PER_CLASS * side * max(1, round(SAMPLE_SIDE / side))


def _differ(shown: np.ndarray, drawn: np.ndarray, *, width: int) -> bool:
    """Whether some block of two pictures (H, W, 3) looks different."""
    if shown.ndim != 3 or shown.shape[0] != drawn.shape[0] or shown.shape[1] < width:
        return True
    difference = np.abs(shown[:, -width:].astype(float) - drawn[:, -width:]).mean(axis=2)
    rows, columns = (length // _BLOCK for length in difference.shape)
    blocks = difference[-rows * _BLOCK :, -columns * _BLOCK :].reshape(rows, _BLOCK, columns, _BLOCK)
    return bool(blocks.mean(axis=(1, 3)).max() > _REDRAWN)


def _first_label(model: LoadedModel[Generator]) -> torch.Tensor:
    if not model.image.multi_label:
        return torch.zeros(1, dtype=torch.long)
    return torch.eye(len(model.image.classes))[:1]
