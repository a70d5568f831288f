"""Whether the weights in a card folder are what it says, shown by letting the model draw, or predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from medzoo.data.images import decode
from medzoo.errors import MedzooError
from medzoo.hub.registry import WEIGHTS
from medzoo.models.classifiers import LoadedClassifier
from medzoo.models.generators import LoadedModel
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.card import load_published
from medzoo.publishing.card_text import SAMPLES
from medzoo.publishing.generator_card import SAMPLE_SIDE, SAMPLES_PER_CLASS, samples_sheet

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
    network = model.classifier if isinstance(model, LoadedClassifier) else model.generator
    if extra := sorted(stored ^ set(network.state_dict())):
        yield Problem(message=f"{WEIGHTS} and the model differ in {extra[0]}", mend="write the card again")
    if isinstance(model, LoadedClassifier):
        yield from _prediction_problems(model)
    else:
        yield from _sample_problems(folder, model)


def _prediction_problems(model: LoadedClassifier) -> Iterator[Problem]:
    """A classifier whose answers are no probabilities."""
    shape = (2, model.image.channels, model.image.size, model.image.size)
    said = model.classifier.predict(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    sound = said.shape == (2, len(model.image.classes)) and bool(((said >= 0) & (said <= 1)).all())
    if sound and not model.image.multi_label:
        sound = bool(((said.sum(dim=1) - 1).abs() < _SUM_TOLERANCE).all())
    if not sound:
        yield Problem(
            message="its model gives no probabilities of its classes", mend=f"medzoo plugin check {model.spec.name}"
        )


def _sample_problems(folder: Path, model: LoadedModel) -> Iterator[Problem]:
    """A generator that draws no images, or others than its card shows."""
    images = model.generator.sample([0], _first_label(model))
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


def _first_label(model: LoadedModel) -> torch.Tensor:
    if not model.image.multi_label:
        return torch.zeros(1, dtype=torch.long)
    return torch.eye(len(model.image.classes))[:1]
