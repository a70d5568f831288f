"""What keeps a card folder from being published; each problem with its mend, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.errors import DataError
from medzoo.evaluation.memorization import CopyCheck
from medzoo.hub.front_matter import LIBRARY, is_number, parse_card
from medzoo.hub.registry import CONFIG, GENERATOR, WEIGHTS, ModelEntry
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.card_text import (
    COUNT_HEAD,
    NOTE_HEAD,
    README,
    SAMPLES,
    SCORE_HEAD,
    SETTING_HEAD,
    Form,
    count_rows,
    form_of,
    note_rows,
    score_rows,
    setting_rows,
)
from medzoo.publishing.privacy import traces
from medzoo.publishing.weights_check import Problem, picture_problems, weights_problems
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
