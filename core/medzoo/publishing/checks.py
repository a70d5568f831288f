"""Check a card folder before it is published, and list all problems with their fixes."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.data.images import decode
from medzoo.data.marks import TRAINED, Mark, png_chunks
from medzoo.errors import DataError, MedzooError
from medzoo.evaluation.memorization import CopyCheck
from medzoo.hub.entries import README, SAMPLES
from medzoo.hub.front_matter import LIBRARY, is_number, parse_card
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS, ModelEntry
from medzoo.models.folder import FINGERPRINTS
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Classifier, Generator
from medzoo.publishing.card import (
    COUNT_HEAD,
    NOTE_HEAD,
    SAMPLE_SIDE,
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
from medzoo.publishing.upload import RECORD
from medzoo.storage.files import read_json, sha256_file
from medzoo.storage.paths import expand_home

_AGAIN = "write the card again with `medzoo card`"
# The chunks of an image; text, dates and anything after the end could hide information.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
# Side in pixels of the blocks in which two images are compared, and the mean difference in gray levels that another
# processor may cause in one; on the same processor there is none.
_BLOCK, _TOLERANCE = 32, 12.0
_SUM_TOLERANCE = 1e-3
_ABSOLUTE = re.compile(
    r"(?<![\w/.~*\]\-])(?:file://)?/[\w.+@-]+(?:/[\w.+@-]*)*"  # /home/ann, file:///home/ann; not and/or, ./x, //host
    r"|\b[A-Za-z]:\\\w|\\\\\w+\\\w"  # C:\Users, \\server\share
)
# Names of users and machines that identify nobody.
_GENERIC = {"root", "user", "users", "ubuntu", "debian", "admin", "localhost", "runner", "jovyan", "docker", "home"}


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


def find_problems(card: Card, *, plugins: Plugins, accept_memorization: bool = False) -> list[str]:
    """Find everything that must be fixed before the card is published, each as "what is wrong: how to fix it"."""
    found = [
        *_files(card),
        *_front_matter(card),
        *_text(card),
        *_local_identifiers(card),
        *_agreement(card),
        *_memorization(card, accepted=accept_memorization),
    ]
    if all(_is_own_file(card.folder / name) for name in card.form.files):
        if SAMPLES in card.form.files and not _is_plain_png((card.folder / SAMPLES).read_bytes()):
            found.append(f"{SAMPLES} contains more than one image: {_AGAIN}")
        found += _weights(card.folder, plugins=plugins)
    return found


def _files(card: Card) -> Iterator[str]:
    names = card.form.files
    for name in names:
        if not _is_own_file(card.folder / name):
            yield f"{name} is missing or a link: {_AGAIN}"
    for entry in sorted(card.folder.iterdir()):
        if entry.name not in (*names, RECORD, FINGERPRINTS):
            yield f"contains {entry.name}: remove it: only {', '.join(names)} are published"


def _is_own_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _front_matter(card: Card) -> Iterator[str]:
    """Check what the front matter must state, and that every result in it was measured."""
    add = f"add it to the front matter of {README}"
    try:
        data: Any = parse_card(card.readme).data if card.readme.startswith("---\n") else {}
    except ValueError as error:
        yield f"the front matter of {README} is not valid YAML: correct it ({str(error).splitlines()[0]})"
        return
    license = data.get("license")
    if not license or not isinstance(license, str):
        yield f"has no license: choose one and {add}"
    elif card.license and license.lower() != card.license.lower():
        yield f"the license is {license}, but {card.license} in the registry entry: make the two agree"
    if data.get("library_name") != LIBRARY:
        yield f"library_name is not {LIBRARY}: {add}"
    for key in ("pipeline_tag", "tags"):
        if not data.get(key):
            yield f"has no {key}: {add}"
    measured = {(name, value) for facts in card.notes.values() for name, value in facts.items() if is_number(value)}
    for result in data.get("eval_results") or []:
        if (result.metric_type, result.metric_value) not in measured:
            value = f"{result.metric_type} {result.metric_value}"
            yield f"the model-index states {value}, which no run recorded: remove it from the front matter"


def _text(card: Card) -> Iterator[str]:
    """Check the sections, and that tables state only what config.json and the run record hold."""
    text = card.readme
    for name in card.form.sections:
        body = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        if body is None or not body[1].strip():
            yield f"has no section '{name}': write it under '## {name}' in {README}"
    if card.form.disclaimer not in " ".join(text.split()):
        yield f"the disclaimer is missing: add to {README}: {card.form.disclaimer}"
    known = {"|---|---|", "|---|---|---|", COUNT_HEAD, SETTING_HEAD, NOTE_HEAD, SCORE_HEAD}
    known |= {*count_rows(_table(card.description, "data", "counts")), *setting_rows(card.description["config"])}
    known |= {*note_rows(card.notes), *score_rows(card.notes, HELD_OUT), *score_rows(card.notes, HELD_OUT_APART)}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("|") and line not in known:
            yield f"states '{line}', which no run recorded: remove it, or train and write the card again"


def _table(description: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = description
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _local_identifiers(card: Card) -> Iterator[str]:
    """Check that no text of the folder names a path of this machine, its user or itself."""
    try:
        with safe_open(card.folder / WEIGHTS, "pt") as weights:
            metadata = weights.metadata() or {}
    except (OSError, SafetensorError):
        metadata = {}  # reported with the weights
    for name, values in ((README, card.readme), (CONFIG, card.description), (WEIGHTS, metadata)):
        for found in sorted(find_local_identifiers("\n".join(_strings(values)))):
            yield f"{name} contains '{found}' of this machine: remove it, or train from a relative path"
    if "data:image" in card.readme:
        yield f"{README} contains an embedded image: remove it"
    if metadata.keys() - {"format"}:
        yield f"{WEIGHTS} contains metadata: {_AGAIN}"


def find_local_identifiers(text: str) -> set[str]:
    """Find absolute paths in a text, and the names of this user and this machine."""
    paths = {match[0] for match in _ABSOLUTE.finditer(text)}
    # A single name after a slash may be a unit or a word, unless this machine has that folder.
    paths = {path for path in paths if not re.fullmatch(r"/[^/]+", path) or Path(path).exists()}
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        user = ""
    host = socket.gethostname()
    names = {user, host, host.partition(".")[0], expand_home("~").name}
    known = {name for name in names if len(name) > 3 and name.lower() not in _GENERIC}
    return paths | {name for name in known if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in JSON values, keys included, without JSON's escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value:
            yield from _strings(inner)
            if isinstance(value, Mapping):
                yield from _strings(value[inner])


def _agreement(card: Card) -> Iterator[str]:
    """Check that config.json is complete and agrees with the registry entry."""
    image = _table(card.description, "image")
    counts = _table(card.description, "data", "counts")
    classes = tuple(image.get("classes") or ())
    if set(counts) != set(classes) or not all(type(count) is int and count > 0 for count in counts.values()):
        yield f"{CONFIG} has no count of training images of some class: {_AGAIN}"
    stored = read_json(card.folder / CONFIG)["data"]
    if not card.pinned and ("images" in stored or "images" in stored.get("validation", {})):
        yield f"{CONFIG} lists fingerprints of the training images, which belong into {FINGERPRINTS}: {_AGAIN}"
    if card.entry is None:
        return
    own = {"id": card.description.get("id"), "plugin": card.description["plugin"], "classes": classes}
    own |= {"kind": card.description.get("kind", GENERATOR)} | {key: image.get(key) for key in ("size", "channels")}
    for key, value in own.items():
        if value != (named := getattr(card.entry, key)):
            yield f"{key} is {value} in {CONFIG}, but {named} in the registry entry: correct one, or choose a new id"
    for file in card.entry.files if card.pinned else ():
        path = card.folder / file.name
        if path.is_file() and (path.stat().st_size != file.bytes or sha256_file(path) != file.sha256):
            yield f"{file.name} differs from the registry entry: medzoo pull {card.entry.name}"


def _memorization(card: Card, *, accepted: bool) -> Iterator[str]:
    try:
        check = CopyCheck.of(card.notes)
    except DataError as error:
        yield f"{error.message}: {error.hint}"
        return
    if check is not None and check.failed and not accepted:
        yield (
            f"failed the memorization check: its images repeat training images ({check.metric}): train on more images "
            "or for fewer steps, or pass --accept-memorization, which the card then states"
        )


def _is_plain_png(data: bytes) -> bool:
    """Return whether a PNG holds its image and nothing else but the mark that it is synthetic."""
    data = data.replace(png_chunks(Mark(source_type=TRAINED)), b"", 1)
    chunks, place = [], 8
    while place + 8 <= len(data):
        chunks.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if chunks[-1] == b"IEND":
            break
    return data.startswith(b"\x89PNG") and place == len(data) and not set(chunks) - _PNG_CHUNKS


def _weights(folder: Path, *, plugins: Plugins) -> Iterator[str]:
    """Check that the weights are those config.json names, all that the model has, with plausible outputs."""
    try:
        model = load_published(folder, plugins=plugins)
        with safe_open(folder / WEIGHTS, "pt") as weights:
            stored = set(weights.keys())
    except MedzooError as error:
        yield f"{error.message}: {error.hint}"
        return
    if extra := sorted(stored ^ set(model.model.state_dict())):
        yield f"{WEIGHTS} and the model differ in the tensor {extra[0]}: {_AGAIN}"
    check = f"medzoo plugin check {model.spec.name}"
    if model.kind == CLASSIFIER:
        if not _predicts_probabilities(model):
            yield f"the model does not predict probabilities of its classes: {check}"
        return
    images, side = model.model.sample([0], label_tensor(model.image, model.image.classes[:1])), model.image.size
    if images.shape != (1, model.image.channels, side, side) or not images.isfinite().all():
        yield f"the model does not sample images of its own size and range: {check}"
    elif not _shows_samples(decode(folder / SAMPLES), model):
        yield f"{SAMPLES} was not sampled from these weights: {_AGAIN}"


def _predicts_probabilities(model: LoadedModel[Classifier]) -> bool:
    image = model.image
    images = torch.rand((2, image.channels, image.size, image.size), generator=torch.Generator().manual_seed(0))
    found = model.model.predict(images)
    if found.shape != (2, len(image.classes)) or not ((found >= 0) & (found <= 1)).all():
        return False
    return image.multi_label or bool(((found.sum(dim=1) - 1).abs() < _SUM_TOLERANCE).all())


def _shows_samples(shown: np.ndarray, model: LoadedModel[Generator]) -> bool:
    """Return whether no block of the card's sheet, uint8 (H, W, 3), looks different from samples of the model."""
    sampled = samples_sheet(model).transpose(1, 2, 0)
    # From the right, without the names of classes, which depend on fonts.
    width = SAMPLES_PER_CLASS * model.image.size * max(1, round(SAMPLE_SIDE / model.image.size))
    if shown.ndim != 3 or shown.shape[0] != sampled.shape[0] or shown.shape[1] < width:
        return False
    difference = np.abs(shown[:, -width:].astype(float) - sampled[:, -width:]).mean(axis=2)
    rows, columns = (length // _BLOCK for length in difference.shape)
    blocks = difference[-rows * _BLOCK :, -columns * _BLOCK :].reshape(rows, _BLOCK, columns, _BLOCK)
    return bool(blocks.mean(axis=(1, 3)).max() <= _TOLERANCE)
