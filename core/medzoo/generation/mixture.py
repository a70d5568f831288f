"""What a filling job starts from: the models of a mixture, the real images, and whether the two go together."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from medzoo import config as settings
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.images import probe
from medzoo.data.phantom import phantom_dataset
from medzoo.errors import ConfigError, DataError
from medzoo.generation.plan import distinct, file_safe
from medzoo.generation.shares import parse_mixture
from medzoo.hub.registry import Registry, load_registry, resolve
from medzoo.hub.repositories import check_source
from medzoo.models.devices import pick_device
from medzoo.models.loading import LoadedModel, load_by_name
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Generator
from medzoo.specs import ImageSpec

logger = logging.getLogger(__name__)


DEFAULT_DATA = Path("datasets/train")

# The embedded set: imbalanced as a clinic's archive is, and so small that even a demonstration adds to every class.
PHANTOM_COUNTS: Mapping[str, int] = {"normal": 20, "thick-wall": 12, "narrow-canal": 8, "echogenic-content": 6}
PHANTOM_SEED = 2024


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where models come from and on what they run."""

    plugins: Plugins
    registry: Registry
    device: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mirror: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Models with their shares, which sum to 1, and the file-safe names under which their pictures go."""

    models: tuple[LoadedModel[Generator], ...]
    shares: tuple[Fraction, ...]
    names: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """What of each model decides its pictures, by name.

        Settings under `requests.` only say how a service is asked, so that a job may go on with others.
        """
        return {
            name: {
                "share": str(share),
                "plugin": model.spec.name,
                "weights_sha256": model.weights_sha256,
                "image": model.image.to_dict(),
                "crop": model.crop,
                "config": {key: value for key, value in model.config.flat().items() if not key.startswith("requests.")},
            }
            for name, model, share in zip(self.names, self.models, self.shares, strict=True)
        }


def load_mixture(
    given: Sequence[str], source: Source, *, open_real: Callable[[LoadedModel[Generator] | None], Dataset | None]
) -> tuple[Mixture, Dataset | None]:
    """The models that the GEN arguments mean, and the real images, which `open_real` finds for the first model.

    Generators without weights make images like the first model's, or like the real ones where they are alone.
    Raises: UnknownName, ConfigError, HubError, DataError.
    """
    pairs = parse_mixture(given)
    for name, _ in pairs:
        check_source(name, source.mirror)
    weightless = [_is_weightless(name, source) for name, _ in pairs]
    overrides = _overrides_by_generator([name for name, _ in pairs], source)
    models: list[LoadedModel[Generator] | None] = [
        None if bare else load_from(name, source, overrides=overrides[name])
        for (name, _), bare in zip(pairs, weightless, strict=True)
    ]
    lead = next((model for model in models if model is not None), None)
    real = open_real(lead)
    for place, (name, _) in enumerate(pairs):
        if weightless[place]:
            models[place] = _load_weightless(name, lead, real, source, overrides[name])
    loaded = tuple(model for model in models if model is not None)
    names = tuple(distinct([file_safe(model.name) for model in loaded]))
    return Mixture(models=loaded, shares=tuple(share for _, share in pairs), names=names), real


def _is_weightless(given: str, source: Source) -> bool:
    found = resolve(given, source.registry, source.plugins)
    return found.entry is None and found.folder is None


def _overrides_by_generator(given: Sequence[str], source: Source) -> dict[str, dict[str, Any]]:
    """Each generator's part of the overrides; one that no generator knows goes to all, to be refused there."""
    known = {name: set(settings.keys(resolve(name, source.registry, source.plugins).spec.config)) for name in given}
    found: dict[str, dict[str, Any]] = {name: {} for name in given}
    for key, value in source.overrides.items():
        for name in [name for name in given if key in known[name]] or given:
            found[name][key] = value
    return found


def load_from(
    given: str,
    source: Source,
    *,
    image: ImageSpec | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedModel[Generator]:
    """The model that a GEN argument means, by `models.load_by_name`; with `overrides` in place of the source's."""
    return load_by_name(
        given,
        image=image,
        registry=source.registry,
        plugins=source.plugins,
        device=source.device,
        overrides=source.overrides if overrides is None else overrides,
        source=source.mirror,
    )


def _load_weightless(
    given: str,
    lead: LoadedModel[Generator] | None,
    real: Dataset | None,
    source: Source,
    overrides: Mapping[str, Any] | None,
) -> LoadedModel[Generator]:
    if real is None:
        raise ConfigError(f"'{given}' varies real images", "give them with --data")
    if lead is not None:
        return replace(load_from(given, source, image=lead.image, overrides=overrides), crop=lead.crop)
    spec = resolve(given, source.registry, source.plugins).spec
    resolved = settings.resolve(spec.config, presets=spec.presets, overrides=overrides)
    asked = {key: value for key, value in resolved.flat().items() if resolved.origins[key] == "--set"}
    return load_from(given, source, image=natural_image(real, asked), overrides=overrides)


def natural_image(data: Dataset, asked: Mapping[str, Any]) -> ImageSpec:
    """Images like the real ones: their median shorter side, colour if any has it, unless `asked` for otherwise."""
    if data.files is not None:
        headers = [probe(file) for file in data.files]
        side = int(np.median([min(width, height) for width, height, _ in headers]))
        grey = all(mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16") for _, _, mode in headers)
    else:
        assert data.array is not None  # a dataset has files or an array
        side, grey = min(data.array.shape[1:3]), data.array.ndim == 3
    size = asked.get("image.size", min(max(side, 8), 1024))
    channels = asked.get("image.channels", 1 if grey else 3)
    return ImageSpec(size=size, channels=channels, classes=data.classes)


def find_data(
    path: Path | None, lead: LoadedModel[Generator] | None, *, classes: Sequence[str] | None, skip_bad: bool
) -> Dataset:
    """The real images: those at `path`, else ./datasets/train, else the set medzoo can make for the model.

    Raises: DataError if there are none, if they are multi-label, or if some are synthetic already.
    """
    if path is None and DEFAULT_DATA.exists():
        path = DEFAULT_DATA
        logger.info(f"real images: ./{DEFAULT_DATA} (no --data given)")
    if path is not None:
        data = open_dataset(path, skip_bad=skip_bad, classes=classes)
        _refuse_synthetic(path)
        for name, reason in (entry for part in (data, *data.held_out.values()) for entry in part.bad):
            logger.warning(f"left out {name}: {reason}")
    elif lead is not None and lead.demo_dataset == "phantom":
        data = phantom_dataset(PHANTOM_COUNTS, size=lead.image.size, seed=PHANTOM_SEED)
        logger.warning(
            "real images: none given and no ./datasets/train here, so simulated ultrasound stands in for them"
        )
    else:
        whose = (
            f"'{lead.name}' has no embedded images" if lead is not None else "these generators have none of their own"
        )
        raise DataError(f"no real images: ./{DEFAULT_DATA} does not exist and {whose}", "give them with --data DIR")
    if data.multi_label:
        raise DataError(
            f"{data.path} is multi-label: an image may have several classes, so filling one class changes others",
            "give a set with one label an image",
        )
    return data


def _refuse_synthetic(path: Path) -> None:
    """Nothing. Raises: DataError for a folder, or its metadata.csv, that tells of synthetic images."""
    tables = (path / "metadata.csv", path / "train" / "metadata.csv") if path.is_dir() else (path,)
    for table in tables:
        if not table.is_file() or table.suffix.lower() != ".csv":
            continue
        with table.open(encoding="utf-8", newline="") as file:
            synthetic = sum(row.get("origin") == "synthetic" for row in csv.DictReader(file))
        if synthetic:
            raise DataError(
                f"{table.parent} holds {synthetic} synthetic images, by its {table.name}; they would count as real",
                "give the folder of the real images",
            )


def refuse_unknown_classes(mixture: Mixture, data: Dataset, labels: Sequence[str]) -> None:
    """Nothing. Raises: DataError if a model cannot make one of `labels`."""
    for model in mixture.models:
        unknown = [label for label in labels if label not in model.image.classes]
        if not unknown:
            continue
        if all(label.isdecimal() for label in data.classes) and data.array is not None:
            mend = (
                f"name the npz's classes in their order with --classes, as in --classes {','.join(model.image.classes)}"
            )
        else:
            mend = f"rename the class folders, or train on them: medzoo train {model.spec.name} --data {data.path}"
        raise DataError(
            f"'{model.name}' does not know the class{'es' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"it knows {', '.join(model.image.classes)}, the data has {', '.join(data.classes)}",
            mend,
        )


def lineage(mixture: Mixture, data: Dataset, *, allow_leak: bool) -> dict[str, Any]:
    """By model: how many images it was trained on, and how many of those are in the data and its held-out parts.

    Raises: DataError if a held-out image is among them, unless `allow_leak`.
    """
    found: dict[str, Any] = {}
    for model, name in zip(mixture.models, mixture.names, strict=True):
        if not model.trained_on:
            continue
        seen = {
            part: sum(digest in model.trained_on for digest in images.fingerprints())
            for part, images in data.held_out.items()
        }
        for part, count in seen.items():
            if count and not allow_leak:
                raise DataError(
                    f"'{model.name}' was trained on {count} of the {len(data.held_out[part])} {part} images of "
                    f"{data.path}, so nothing measured on them would hold",
                    "take a model trained on the training part alone; --allow-leak goes on and records it",
                )
        among = sum(digest in model.trained_on for digest in data.fingerprints())
        found[name] = {"trained_on": len(model.trained_on), "among_the_real": among, "held_out": seen}
    return found


def make_source(
    plugins: Plugins, *, device: str, overrides: Mapping[str, Any] | None = None, mirror: str | None = None
) -> Source:
    """Where models come from and run: the whole catalogue, on `device` ("auto", "cpu", "cuda:0").

    Raises: ConfigError, ResourceError for a device that cannot be used.
    """
    return Source(
        plugins=plugins,
        registry=load_registry(plugins=plugins),
        device=pick_device(device),
        overrides=dict(overrides or {}),
        mirror=mirror,
    )
