"""Features of an experiment's images for classifiers on a frozen network, extracted once for each set of images."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from medzoo.data.decoded_cache import Decoded
from medzoo.data.pixels import to_float
from medzoo.errors import ResourceError
from medzoo.experiment.models import Recipe
from medzoo.experiment.training_sets import ConcatDataset
from medzoo.hub.download import folder_lock
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import FeatureClassifier
from medzoo.specs import ImageSpec
from medzoo.storage.files import optional_cache, warn_of_cache
from medzoo.storage.paths import features_root
from medzoo.storage.tensors import read_cached_tensors, sha256_tensors, write_tensors

_BATCH = 64


class FrozenFeatures:
    """The features by which one classifier sees whole sets of images: all real ones, or all that one task sampled.

    They are kept in memory, and in the cache by the pixels, the classifier's settings and its frozen weights; of
    several processes, one extracts them and the others wait for it.
    """

    def __init__(self, recipe: Recipe, image: ImageSpec, *, plugins: Plugins, device: str) -> None:
        self._recipe, self._image, self._plugins, self._device = recipe, image, plugins, device
        self._model: FeatureClassifier | None = None
        self._identity = ""
        self.weights_sha256 = ""
        """The hash of the frozen weights; "" until features were asked for."""
        self._found: dict[str, Tensor] = {}

    def of(self, images: Decoded) -> Tensor:
        """Return the features of all `images`, float32 (N, views, D) on the CPU. Raises: whatever `extract` raises."""
        if (known := self._found.get(images.digest)) is not None:
            return known
        model, path = self.load(), self._path(images)
        if (kept := read_cached_tensors(path)) is None:
            with _alone(path):
                if (kept := read_cached_tensors(path)) is None:
                    kept = {"features": self._extract(model, images)}
                    with optional_cache():
                        write_tensors(path, kept)
        return self._found.setdefault(images.digest, kept["features"])

    def of_dataset(self, data: ConcatDataset) -> Tensor:
        """Return the features of the images of `data`, in order: float32 (N, views, D)."""
        found = torch.empty(0)
        for images, places, rows in data.sources():
            features = self.of(images)
            found = found if len(found) else features.new_empty(len(data), *features.shape[1:])
            found[torch.from_numpy(places)] = features[torch.from_numpy(rows)]
        return found

    def load(self) -> FeatureClassifier:
        """Return the model that extracts, with its frozen weights, of which `_identity` holds the hash.

        Raises: whatever `extract` raises, such as HubError for weights that are not on this machine.
        """
        if self._model is None:
            base = self._recipe.base()
            model = build_model(self._recipe.spec, base, self._image, device=self._device, seed=0)
            assert isinstance(model, FeatureClassifier)  # whoever asks for features has checked it
            blank = torch.zeros(1, self._image.channels, self._image.size, self._image.size)
            model.extract(blank)  # by now its frozen weights are loaded
            weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
            self.weights_sha256 = sha256_tensors(weights)
            spec = self._recipe.spec
            facts = [
                spec.name,
                self._plugins.plugin_of("classifier", spec.name).version,
                base.flat(),
                self._device.partition(":")[0],
                self.weights_sha256,
            ]
            self._identity, self._model = json.dumps(facts, sort_keys=True), model
        return self._model

    def _path(self, images: Decoded) -> Path:
        facts = f"{images.digest}\n{self._identity}"
        return features_root() / f"{hashlib.sha256(facts.encode()).hexdigest()[:40]}.safetensors"

    def _extract(self, model: FeatureClassifier, images: Decoded) -> Tensor:
        starts = range(0, len(images), _BATCH)
        batches = (torch.from_numpy(to_float(images[start : start + _BATCH])) for start in starts)
        return torch.cat([model.extract(batch).detach().float().cpu() for batch in batches])


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes waiting that extract the same features; without a cache, all extract them."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder_lock(path))
        except ResourceError as error:
            warn_of_cache(error)
        yield
