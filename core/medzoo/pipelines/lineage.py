"""Whether the images that a model is judged by are ones it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medzoo.errors import DataError
from medzoo.hub import locate
from medzoo.pipelines.evaluation import FAKE, REAL, TRAIN
from medzoo.pipelines.image_sets import ImageSet, Origin
from medzoo.pipelines.inputs import Source
from medzoo.pipelines.measuring import MeasuredSet
from medzoo.pipelines.model_folder import read_description
from medzoo.pipelines.models import LoadedModel
from medzoo.registry import WEIGHTS

_MEND = "give images that no model was trained on; --allow-leak goes on and records it"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What is known of it: `facts` for run.json, `warnings` for the report's reader."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def refuse_leaks(
    given: Mapping[str, ImageSet],
    sets: Mapping[str, MeasuredSet],
    source: Source,
    *,
    models: Sequence[LoadedModel] = (),
    allow_leak: bool,
    notice: Callable[[str], None],
) -> Lineage:
    """What is known of the synthetic images' lineage, by their metadata.csv and the `models` that made them.

    Raises:
        DataError: real images are among those given as trained on, or a published model that made synthetic images was
            trained on them; unless `allow_leak`.
    """
    facts: dict[str, Any] = {"allow_leak": allow_leak, "models": {}}
    warnings: list[str] = []
    if TRAIN in sets:
        known = set(sets[TRAIN].images.fingerprints())
        shared = sum(digest in known for digest in sets[REAL].images.fingerprints())
        facts["real_among_train"] = shared
        if shared:
            what = f"{shared} of the {len(sets[REAL].data)} real images are among the training images"
            warnings.append(_told(what, allow_leak=allow_leak))
    known_models = {origin.generator: _published(origin, source, notice) for origin in given[FAKE].origins}
    known_models |= {model.name: (model.weights_sha256 or "", model.trained_on) for model in models}
    for name, (weights, trained_on) in known_models.items():
        entry: dict[str, Any] = {"weights_sha256": weights, "trained_on": None}
        facts["models"][name] = entry
        if trained_on is None:
            continue
        shared = sum(digest in trained_on for digest in sets[REAL].images.fingerprints())
        entry |= {"trained_on": len(trained_on), "real_among_them": shared}
        if shared:
            what = f"'{name}' was trained on {shared} of the {len(sets[REAL].data)} real images"
            warnings.append(_told(what, allow_leak=allow_leak))
    return Lineage(facts=facts, warnings=tuple(warnings))


def _told(what: str, *, allow_leak: bool) -> str:
    """A warning. Raises: DataError unless `allow_leak`."""
    if not allow_leak:
        raise DataError(f"{what}, so nothing measured on them would hold", _MEND)
    return f"{what}: the numbers flatter it"


def _published(origin: Origin, source: Source, notice: Callable[[str], None]) -> tuple[str, frozenset[str] | None]:
    """The weights an image was made with, and the fingerprints of the images they were trained on, None if unknown."""
    for row in source.registry.rows:
        if not any(file.name == WEIGHTS and file.sha256 == origin.weights_sha256 for file in row.files):
            continue
        folder = locate(row)[1]
        if folder is not None:
            return origin.weights_sha256, frozenset(map(str, read_description(folder)["data"].get("images", ())))
    if origin.weights_sha256:
        notice(f"'{origin.generator}' is in no registry here, so nobody can say what it was trained on")
    return origin.weights_sha256, None
