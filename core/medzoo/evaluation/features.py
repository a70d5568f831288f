"""Load extractors, and extract features of image sets: computed once and cached by everything they depend on."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medzoo import assets
from medzoo.assets import LoadedExtractor, check_at_hand
from medzoo.data.dataset import Dataset
from medzoo.errors import HubError, PluginError, UnknownName, memory_errors
from medzoo.evaluation.image_sets import EvaluationSet
from medzoo.generation.mixture import Source
from medzoo.hub.registry import CLASSIFIER, ModelEntry, Registry
from medzoo.hub.sources import AT_HAND, locate
from medzoo.models.devices import device_here
from medzoo.models.loading import load_by_name
from medzoo.protocols import Classifier
from medzoo.runs.progress import Progress, no_progress
from medzoo.specs import ImageSpec
from medzoo.storage.files import optional_cache, remove_partial_files
from medzoo.storage.paths import features_root
from medzoo.storage.tensors import read_cached_tensors, write_tensors

logger = logging.getLogger(__name__)

MIRRORED = "mirrored"
PRETRAINED = "efficientnet-lite0"
"""The extractor to prefer: it has seen no medical image."""
_LEAST_PROBABILITY = 1e-12


class ClassifierExtractor:
    """A classifier as an extractor: its representation is "features", the log of its probabilities "logits".

    Images are resized by bicubic interpolation with antialiasing; color becomes gray as its luma, gray is repeated.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Compute features as `Extractor` says."""
        spec = self.classifier.image
        seen = images.float() / 255.0
        if seen.shape[1] == 3 and spec.channels == 1:
            seen = (seen * seen.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        seen = seen.expand(-1, spec.channels, -1, -1)
        if seen.shape[-1] != spec.size:
            seen = functional.interpolate(seen, size=(spec.size, spec.size), mode="bicubic", antialias=True)
        return _Layers(self.classifier, seen.clamp(0.0, 1.0))


class _Layers(dict[str, Tensor]):
    """The layers of a classifier, each computed when it is accessed: a metric seldom needs both."""

    def __init__(self, classifier: Classifier, images: Tensor) -> None:
        self._classifier, self._images = classifier, images

    def __missing__(self, layer: str) -> Tensor:
        if layer == "features":
            return self._classifier.features(self._images).float()
        if layer == "logits":
            return self._classifier.predict(self._images).float().clamp_min(_LEAST_PROBABILITY).log()
        raise KeyError(layer)


def domain_classifier(registry: Registry, classes: Sequence[str]) -> ModelEntry | None:
    """Return the available classifier that knows all `classes` and the fewest others, or None."""
    known = [row for row in registry.entries if row.kind == "classifier" and row.newest and not row.deprecated]
    fitting = [row for row in known if set(classes) <= set(row.classes) and locate(row)[0] in AT_HAND]
    return min(fitting, key=lambda row: (len(row.classes), not row.default, row.id), default=None)


def check_available(name: str, source: Source) -> None:
    """Check that the extractor `name` can be loaded without a network.

    Raises:
        UnknownName: no plugin provides it and no published classifier has that name.
        HubError: its weights are not on this machine; the hint is the command that downloads them.
    """
    if name in source.plugins.extractors:
        check_at_hand(name, [source.registry.asset(asset) for asset in source.plugins.extractors[name].assets])
    elif name in source.registry.models and source.registry.models[name].kind == "classifier":
        check_at_hand(name, [source.registry.models[name]])
    else:
        source.plugins.check_usable(name)
        classifiers = [row.id for row in source.registry.entries if row.kind == "classifier"]
        raise UnknownName(
            "extractor", name, [*source.plugins.extractors, *classifiers], source.plugins.unavailable_hint
        )


def load_extractor(name: str, source: Source) -> LoadedExtractor:
    """Load the extractor `name`: of a plugin, or a classifier. Raises: as `check_available`; IntegrityError."""
    check_available(name, source)
    device = device_here(source.device)
    if name in source.plugins.extractors:
        return assets.load_extractor(
            name, device=device, plugins=source.plugins, registry=source.registry, source=source.mirror
        )
    loaded = load_by_name(name, kind=CLASSIFIER, registry=source.registry, plugins=source.plugins, device=device)
    size, color = loaded.image.size, "gray" if loaded.image.channels == 1 else "RGB"
    return LoadedExtractor(
        name=name,
        extract=ClassifierExtractor(loaded.model),
        preprocessing=f"{size}x{size} {color}, bicubic with antialiasing",
        weights=loaded.weights_sha256 or "",
        identity=f"classifier {loaded.spec.name} {loaded.weights_sha256} {sorted(loaded.config.flat().items())}",
        device=device,
        trained_on=loaded.trained_on,
    )


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Which `layers` ("mirrored" may be one) to extract from which set's images by which extractor."""

    images: EvaluationSet
    extractor: LoadedExtractor
    layers: tuple[str, ...]

    def path(self, layer: str) -> Path:
        """Return the cache path of a layer, which depends on the pixels, the extractor, its weights and the device."""
        device = self.extractor.device.partition(":")[0]
        facts = f"{self.images.images.digest}\n{self.extractor.identity}\n{layer}\n{device}"
        return features_root() / f"{hashlib.sha256(facts.encode()).hexdigest()[:40]}.safetensors"


def extract_all(wanted: Iterable[Extraction], *, batch_size: int, progress: Progress) -> None:
    """Put the layers of each extraction, float32 (N, D) on the CPU, into its set, from the cache or computed.

    `progress` counts images. They are extracted while later ones are decoded.
    Raises: PluginError for an extractor that returns a wrong number of rows, or lacks a layer.
    """
    passes: list[tuple[Extraction, dict[str, Tensor], tuple[str, ...], bool]] = []
    for job in wanted:
        kept = job.images.features.setdefault(job.extractor.name, {})
        if job.images.images.complete:
            for layer in job.layers:
                if layer not in kept and (tensors := read_cached_tensors(job.path(layer))) is not None:
                    kept[layer] = tensors["rows"]
        if plain := tuple(layer for layer in job.layers if layer != MIRRORED and layer not in kept):
            passes.append((job, kept, plain, False))
        if MIRRORED in job.layers and MIRRORED not in kept:
            passes.append((job, kept, ("features",), True))
    if passes:
        with optional_cache():
            remove_partial_files(features_root())
    done, total = 0, sum(len(job.images.images) for job, *_ in passes)
    progress(done, total)
    for job, kept, layers, mirrored in passes:
        parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        images = job.images.images
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[start : start + batch_size])
            doing = f"extracting features of {len(batch)} images at once by '{job.extractor.name}'"
            with memory_errors(doing, f"use a --batch-size below {batch_size}"):
                for layer, rows in _extract(job.extractor, batch.flip(-1) if mirrored else batch, layers).items():
                    parts[layer].append(rows)
            done += len(batch)
            progress(done, total)
        for layer, batches in parts.items():
            name = MIRRORED if mirrored else layer
            kept[name] = torch.cat(batches)
            with optional_cache():
                write_tensors(job.path(name), {"rows": kept[name]})


class DatasetExtractor:
    """The features of datasets by one extractor, from the cache or computed (`generation.pool.FeatureExtractor`)."""

    def __init__(self, loaded: LoadedExtractor, *, batch_size: int) -> None:
        self._loaded = loaded
        self._batch_size = batch_size
        self.name = loaded.name
        self.identity = hashlib.sha256(f"{loaded.identity} {loaded.device.partition(':')[0]}".encode()).hexdigest()
        self.trained_on = loaded.trained_on

    def extract(self, data: Dataset, image: ImageSpec, *, crop: str, mirrored: bool) -> list[np.ndarray]:
        """Return features, float32 (N, D), of images decoded as `EvaluationSet.decode` does; with `mirrored`, both.

        Raises: as `extract_all`.
        """
        one = EvaluationSet("", data)
        one.decode(image, crop=crop)
        layers = ("features", MIRRORED) if mirrored else ("features",)
        extract_all(
            [Extraction(images=one, extractor=self._loaded, layers=layers)],
            batch_size=self._batch_size,
            progress=no_progress,
        )
        return [one.features[self.name][layer].numpy() for layer in layers]

    def seconds_per_image(self, image: ImageSpec) -> float:
        """Time a few images; the first call is not counted, as it includes one-time work."""
        images = torch.zeros(8, image.channels, image.size, image.size, dtype=torch.uint8)
        _extract(self._loaded, images[:1], ("features",))
        started = time.perf_counter()
        _extract(self._loaded, images, ("features",))
        return (time.perf_counter() - started) / len(images)


def dataset_extractor(name: str | None, source: Source, classes: Sequence[str], *, batch_size: int) -> DatasetExtractor:
    """Load the extractor `name`, or else the best one at hand for images of `classes`, and log which.

    That is `PRETRAINED`, or the classifier trained on images of these classes.
    Raises: as `load_extractor`; HubError with the command that installs `PRETRAINED` where there is neither.
    """
    if name is None:
        try:
            check_available(PRETRAINED, source)
            name = PRETRAINED
        except (HubError, UnknownName) as error:
            row = domain_classifier(source.registry, classes)
            if row is None:
                raise HubError(f"no extractor of features is on this machine: {error.message}", error.hint) from error
            name = row.id
            logger.info(f"features by '{name}', for {error.message}: {error.hint}")
    return DatasetExtractor(load_extractor(name, source), batch_size=batch_size)


@torch.inference_mode()
def _extract(extractor: LoadedExtractor, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    given: Any = extractor.extract(images.to(extractor.device))
    check = f"run `medzoo plugin check {extractor.name}`"
    found = {}
    for layer in layers:
        try:
            rows = given[layer].detach().float().cpu()
        except KeyError:
            raise PluginError(f"the extractor '{extractor.name}' gives no {layer}", check) from None
        if rows.ndim != 2 or len(rows) != len(images):
            shape = tuple(rows.shape)
            raise PluginError(f"'{extractor.name}' gave {layer} {shape} for {len(images)} images", check)
        found[layer] = rows
    return found
