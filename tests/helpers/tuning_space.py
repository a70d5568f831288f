"""A space of policies over simulated images, for tests of what is searched."""

from __future__ import annotations

from typing import Any

from medzoo.data.phantom import phantom_dataset
from medzoo.tuning.config import TuningSettings
from medzoo.tuning.space import Space, targets_that_add, uses_of


def space_of(**given: Any) -> Space:
    """Two pools and two inner folds of 40 images; the settings are the defaults and those given."""
    settings = TuningSettings(**given)
    whole = phantom_dataset({"normal": 20, "thick-wall": 12, "narrow-canal": 8}, size=8, seed=0)
    parts = tuple(whole.subset([index for index in range(len(whole)) if index % 2 == part]) for part in range(2))
    return Space(
        settings=settings,
        pools={"a": "folder:/a", "b": "folder:/b"},
        parts=parts,
        whole=whole,
        targets=targets_that_add(settings, parts, whole),
        loss_weights=settings.loss_weight,
        uses=uses_of(settings),
        classes=settings.classes,
        weighted=settings.weighted,
        select=settings.select,
    )
