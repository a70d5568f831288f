"""What the training runs of generators and of classifiers share: who may train, on what, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medzoo import config as settings
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, PluginError
from medzoo.hub.registry import CONFIG, WEIGHTS
from medzoo.models.devices import hardware
from medzoo.plugins.lookup import Plugins
from medzoo.runs.record import RunRecord
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec
from medzoo.training.run_folder import RunFolder

if TYPE_CHECKING:
    from medzoo.models.loading import LoadedModel
    from medzoo.protocols import Classifier, Generator


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training run: its folder and record, and whether it had been finished before.

    `leads` is true in the one process of several that writes and speaks.
    """

    folder: Path
    record: Mapping[str, Any]
    already_done: bool
    leads: bool


def refuse_unfit(spec: GeneratorSpec | ClassifierSpec, data: Dataset) -> None:
    """Nothing. Raises: PluginError without settings of the image, ConfigError for labels that `spec` does not take."""
    lacking = sorted({"image.size", "image.channels"} - set(settings.keys(spec.config)))
    if lacking:
        raise PluginError(f"'{spec.name}' has no setting {lacking[0]}", f"run `medzoo plugin check {spec.name}`")
    if data.multi_label and not spec.multi_label:
        raise ConfigError(f"'{spec.name}' takes one label an image, {data.path} has several", "give single labels")


def image_of(flat: Mapping[str, Any], data: Dataset) -> ImageSpec:
    """The images that a model of these flat settings sees, with the classes of `data`."""
    return ImageSpec(
        size=flat["image.size"], channels=flat["image.channels"], classes=data.classes, multi_label=data.multi_label
    )


def trained_on(data: Dataset, start: LoadedModel[Generator | Classifier] | None) -> dict[str, Any]:
    """What config.json says of the training data; `images` are those of the model it started from as well."""
    before = start.trained_on if start is not None else frozenset()
    return {
        "name": data.path.resolve().name,
        "fingerprint": data.fingerprint(),
        "counts": data.counts(),
        "size": len(data),
        "images": sorted(before.union(data.fingerprints())),
    }


def plan_of(
    job: str,
    spec: GeneratorSpec | ClassifierSpec,
    config: settings.Resolved[Any],
    data: Dataset,
    *,
    seed: int,
    start: LoadedModel[Generator | Classifier] | None,
) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {
        **({"start": {"name": start.name, "weights_sha256": start.weights_sha256}} if start is not None else {}),
        "job": job,
        "plugin": spec.name,
        "seed": seed,
        "data": {"fingerprint": data.fingerprint(), "classes": list(data.classes), "counts": data.counts()},
        "config": config.flat(),
    }


def finish(
    record: RunRecord,
    *,
    kind: str,
    config: settings.Resolved[Any],
    plan: Mapping[str, Any],
    data: Mapping[str, Any],
    plugins: Plugins,
    device: str,
    run: RunFolder,
) -> None:
    """Nothing; run.json of a training of that `kind` ("generator", "classifier") is written, `data` in it."""
    record.config = config.flat()
    record.origins = config.origins
    record.plugins = [plugins.plugin_of(kind, plan["plugin"])]
    record.data = data
    record.seeds = {"seed": plan["seed"]}
    record.device = device
    record.extra = {
        **record.extra,
        "hardware": hardware(device),
        "training_seconds": round(run.seconds, 1),
        "resumed_at_step": run.resumed_at,
        "notes": run.notes,
        "warnings": run.warnings(),
    }
    record.add_outputs([record.folder / WEIGHTS, record.folder / CONFIG])
    record.weights = {WEIGHTS: record.outputs[0]["sha256"]}
    record.finish()
