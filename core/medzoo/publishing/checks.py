"""Check a card folder before it is published, and list all problems with their fixes."""

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
from medzoo.publishing.privacy import find_local_identifiers
from medzoo.storage.files import sha256_file

RECORD = ".medzoo-published.json"
"""Where a folder that no registry entry pins keeps the commit it was published as; never sent."""

FRONT_MATTER = ("license", "library_name", "pipeline_tag", "tags")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card folder, the text of its README, and what both must agree with.

    `notes` is what the training measured, from the run's record if there is one. `entry` is the model's registry entry;
    `pinned` says whether the folder must hold the very files that the entry names. `license` is the one that the entry
    or the facts about the model name, "" if there are neither.
    """

    folder: Path
    readme: str
    description: Mapping[str, Any]
    notes: Mapping[str, Any]
    entry: ModelEntry | None
    pinned: bool
    license: str

    @property
    def form(self) -> Form:
        """What a card of this kind of model must hold and say."""
        return form_of(self.description)


def find_problems(card: Card, *, plugins: Plugins, accept_memorization: bool = False) -> list[Problem]:
    """Find everything that must be fixed before the card is published."""
    found = [
        *_files(card),
        *_front_matter(card),
        *_sections(card),
        *_figures(card),
        *_local_identifiers(card),
        *_agreement(card),
        *_memorization(card, accepted=accept_memorization),
    ]
    if all(_is_own_file(card.folder / name) for name in card.form.files):
        if SAMPLES in card.form.files:
            found += _png_problems(card.folder / SAMPLES)
        found += _weights_problems(card.folder, plugins=plugins)
    return found


def _files(card: Card) -> Iterator[Problem]:
    names = card.form.files
    for name in names:
        if not _is_own_file(card.folder / name):
            yield Problem(message=f"{name} is missing or a link", hint="write the card again with `medzoo card`")
    for entry in sorted(card.folder.iterdir()):
        if entry.name not in names and entry.name != RECORD:
            yield Problem(message=f"contains {entry.name}", hint=f"remove it: only {', '.join(names)} are published")


def _is_own_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _front_matter(card: Card) -> Iterator[Problem]:
    hint = f"add it to the front matter of {README}"
    try:
        data = parse_card(card.readme).data if card.readme.startswith("---\n") else None
    except ValueError as error:
        yield Problem(
            message=f"the front matter of {README} is not valid YAML", hint=f"correct it ({str(error).splitlines()[0]})"
        )
        return
    stated = {key: data.get(key) if data is not None else None for key in FRONT_MATTER}
    license = stated["license"]
    if not license or not isinstance(license, str):
        yield Problem(message="has no license", hint=f"choose one and {hint}")
    elif card.license and license.lower() != card.license.lower():
        yield Problem(
            message=f"the license is {license}, but {card.license} in the registry entry", hint="make the two agree"
        )
    if stated["library_name"] != LIBRARY:
        yield Problem(message=f"library_name is not {LIBRARY}", hint=hint)
    for key in ("pipeline_tag", "tags"):
        if not stated[key]:
            yield Problem(message=f"has no {key}", hint=hint)


def _sections(card: Card) -> Iterator[Problem]:
    text = card.readme
    for name in card.form.sections:
        body = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        if body is None or not body[1].strip():
            yield Problem(message=f"has no section '{name}'", hint=f"write it under '## {name}' in {README}")
    if card.form.disclaimer not in " ".join(text.split()):
        yield Problem(message="the disclaimer is missing", hint=f"add to {README}: {card.form.disclaimer}")


def _figures(card: Card) -> Iterator[Problem]:
    """Check that tables and the model-index state only what config.json and the run record hold."""
    known = {"|---|---|", "|---|---|---|", COUNT_HEAD, SETTING_HEAD, NOTE_HEAD, SCORE_HEAD}
    known |= {*count_rows(_table(card.description, "data", "counts")), *setting_rows(card.description["config"])}
    known |= {*note_rows(card.notes), *score_rows(card.notes, HELD_OUT), *score_rows(card.notes, HELD_OUT_APART)}
    for line in map(str.strip, card.readme.splitlines()):
        if line.startswith("|") and line not in known:
            yield Problem(
                message=f"states '{line}', which no run recorded", hint="remove it, or train and write the card again"
            )
    measured = {(name, value) for facts in card.notes.values() for name, value in facts.items() if is_number(value)}
    try:
        results = parse_card(card.readme).data.get("eval_results") or [] if card.readme.startswith("---\n") else []
    except ValueError:
        return  # reported with the front matter
    for result in results:
        if (result.metric_type, result.metric_value) not in measured:
            yield Problem(
                message=f"the model-index states {result.metric_type} {result.metric_value}, which no run recorded",
                hint="remove it from the front matter",
            )


def _table(description: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = description
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _local_identifiers(card: Card) -> Iterator[Problem]:
    texts = {README: card.readme, CONFIG: "\n".join(_strings(card.description))}
    try:
        with safe_open(card.folder / WEIGHTS, "pt") as weights:
            metadata = weights.metadata() or {}
    except (OSError, SafetensorError):
        metadata = {}  # reported with the weights
    texts[WEIGHTS] = "\n".join(_strings(metadata))
    for name, text in texts.items():
        for found in sorted(find_local_identifiers(text)):
            yield Problem(
                message=f"{name} contains '{found}' of this machine", hint="remove it, or train from a relative path"
            )
    if "data:image" in card.readme:
        yield Problem(message=f"{README} contains an embedded image", hint="remove it")
    if metadata.keys() - {"format"}:
        yield Problem(message=f"{WEIGHTS} contains metadata", hint="write the card again with `medzoo card`")


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in JSON values, keys included, without JSON's escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value:
            yield from _strings(inner)
            if isinstance(value, Mapping):
                yield from _strings(value[inner])


def _agreement(card: Card) -> Iterator[Problem]:
    """Check that config.json is complete and agrees with the registry entry."""
    image = _table(card.description, "image")
    counts = _table(card.description, "data", "counts")
    classes = image.get("classes") or []
    if set(counts) != set(classes) or not all(type(count) is int and count > 0 for count in counts.values()):
        yield Problem(message=f"{CONFIG} has no count of training images of some class", hint="write the card again")
    if not _table(card.description, "data").get("images"):
        yield Problem(message=f"{CONFIG} has no fingerprints of the training images", hint="write the card again")
    entry = card.entry
    if entry is None:
        return
    own = {"id": card.description.get("id"), "plugin": card.description["plugin"], "classes": list(classes)}
    own |= {"kind": card.description.get("kind", GENERATOR)} | {key: image.get(key) for key in ("size", "channels")}
    for key, value in own.items():
        named = list(entry.classes) if key == "classes" else getattr(entry, key)
        if value != named:
            yield Problem(
                message=f"{key} is {value} in {CONFIG}, but {named} in the registry entry",
                hint="correct one, or choose a new id",
            )
    for file in entry.files if card.pinned else ():
        path = card.folder / file.name
        if path.is_file() and (path.stat().st_size != file.bytes or sha256_file(path) != file.sha256):
            yield Problem(message=f"{file.name} differs from the registry entry", hint=f"medzoo pull {entry.name}")


def _memorization(card: Card, *, accepted: bool) -> Iterator[Problem]:
    try:
        check = CopyCheck.of(card.notes)
    except DataError as error:
        yield Problem(message=error.message, hint=error.hint)
        return
    if check is not None and check.failed and not accepted:
        yield Problem(
            message=f"failed the memorization check: its images repeat training images ({check.metric})",
            hint="train on more images or for fewer steps, or pass --accept-memorization, which the card then states",
        )


# The chunks of an image; text, dates and anything after the end could hide information.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
# Side in pixels of the blocks in which two images are compared, and the mean difference in gray levels that another
# processor may cause in one; on the same processor there is none.
_BLOCK, _TOLERANCE = 32, 12.0
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem of a card, and how to fix it."""

    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}"


def _weights_problems(folder: Path, *, plugins: Plugins) -> Iterator[Problem]:
    """Check that the weights are those config.json names, all that the model has, with plausible outputs."""
    try:
        model = load_published(folder, plugins=plugins)
        with safe_open(folder / WEIGHTS, "pt") as weights:
            stored = set(weights.keys())
    except MedzooError as error:
        yield Problem(message=error.message, hint=error.hint)
        return
    if extra := sorted(stored ^ set(model.model.state_dict())):
        yield Problem(message=f"{WEIGHTS} and the model differ in the tensor {extra[0]}", hint="write the card again")
    if model.kind == CLASSIFIER:
        yield from _prediction_problems(model)
    else:
        yield from _sample_problems(folder, model)


def _prediction_problems(model: LoadedModel[Classifier]) -> Iterator[Problem]:
    """Check that a classifier predicts probabilities."""
    shape = (2, model.image.channels, model.image.size, model.image.size)
    probabilities = model.model.predict(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    valid = probabilities.shape == (2, len(model.image.classes)) and bool(
        ((probabilities >= 0) & (probabilities <= 1)).all()
    )
    if valid and not model.image.multi_label:
        valid = bool(((probabilities.sum(dim=1) - 1).abs() < _SUM_TOLERANCE).all())
    if not valid:
        yield Problem(
            message="the model does not predict probabilities of its classes",
            hint=f"medzoo plugin check {model.spec.name}",
        )


def _sample_problems(folder: Path, model: LoadedModel[Generator]) -> Iterator[Problem]:
    """Check that a generator samples valid images, and those that its card shows."""
    images = model.model.sample([0], _first_label(model))
    side = model.image.size
    if images.shape != (1, model.image.channels, side, side) or not images.isfinite().all():
        yield Problem(
            message="the model does not sample images of its own size and range",
            hint=f"medzoo plugin check {model.spec.name}",
        )
        return
    if _differ(decode(folder / SAMPLES), samples_sheet(model).transpose(1, 2, 0), width=_tiles_width(side)):
        yield Problem(message=f"{SAMPLES} was not sampled from these weights", hint="write the card again")


def _png_problems(path: Path) -> Iterator[Problem]:
    """Check that a PNG holds its image and nothing else."""
    data = path.read_bytes()
    chunks, place = [], 8
    while place + 8 <= len(data):
        chunks.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if chunks[-1] == b"IEND":
            break
    if not data.startswith(b"\x89PNG") or place != len(data) or set(chunks) - _PNG_CHUNKS:
        yield Problem(
            message=f"{path.name} contains more than one image", hint="write the card again with `medzoo card`"
        )


def _tiles_width(side: int) -> int:
    """Return the width, from the right, of a sheet's samples without the names, which depend on fonts."""
    return SAMPLES_PER_CLASS * side * max(1, round(SAMPLE_SIDE / side))


def _differ(shown: np.ndarray, sampled: np.ndarray, *, width: int) -> bool:
    """Return whether some block of two images (H, W, 3) looks different."""
    if shown.ndim != 3 or shown.shape[0] != sampled.shape[0] or shown.shape[1] < width:
        return True
    difference = np.abs(shown[:, -width:].astype(float) - sampled[:, -width:]).mean(axis=2)
    rows, columns = (length // _BLOCK for length in difference.shape)
    blocks = difference[-rows * _BLOCK :, -columns * _BLOCK :].reshape(rows, _BLOCK, columns, _BLOCK)
    return bool(blocks.mean(axis=(1, 3)).max() > _TOLERANCE)


def _first_label(model: LoadedModel[Generator]) -> torch.Tensor:
    if not model.image.multi_label:
        return torch.zeros(1, dtype=torch.long)
    return torch.eye(len(model.image.classes))[:1]
