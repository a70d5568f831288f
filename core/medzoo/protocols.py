"""Generator, Classifier and Metric: what a plugin's models must do, and the values they exchange.

Images are float32 tensors (N, C, H, W) in [0, 1]. Labels are int64 (N,), or float32 multi-hot (N, K) where the model
is multi-label. Nothing here imports torch or numpy at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medzoo.specs import ImageSpec


@runtime_checkable
class LabelledImages(Protocol):
    """A set of images a model is fitted on: `images.labels[i]` belongs to `images[i]`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label k means `classes[k]`."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), or float32 multi-hot (N, K)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (C, H, W) in the size and channels the model was built for."""


class Report(Protocol):
    """What `fit` tells the world while it runs, and where it finds the state to go on from.

    Core implements it with files, a progress bar and TensorBoard; a plugin hands it on to `toolkit.training.train`.
    """

    def restore(self) -> Mapping[str, Tensor] | None:
        """The newest checkpoint's tensors, or None to start from the beginning."""

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep `state` so that a later `restore` returns it; called after optimiser step `step`."""

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Optimiser step `step` of `total` is done with these loss `values`."""

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Look at the model now: `sample(seeds, labels)` draws images from its averaged weights."""

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """State a fact about the model, such as its reconstruction error, for run.json, config.json and the card."""

    def warn(self, message: str) -> None:
        """Say that something looks wrong, such as a collapse; run.json keeps it."""

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The tensors kept under `key`, a hash of all they depend on; `make` gives them the first time."""


@runtime_checkable
class Generator(Protocol):
    """Makes images of given classes. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The images it makes."""

    def fit(self, data: LabelledImages, *, seed: int, report: Report) -> None:
        """Train on `data`; the same data and seed give the same weights on the same machine."""

    def sample(self, seeds: Sequence[int], labels: Tensor, *, sources: Tensor | None = None) -> Tensor:
        """One image a seed: float32 (N, C, H, W) in [0, 1].

        Image i depends only on the weights, `seeds[i]`, `labels[i]` and `sources[i]`. `sources` (N, C, H, W) in [0, 1]
        are real images of the same classes, given when the spec says `needs_sources`.
        """

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Take weights that `state_dict` gave."""


@runtime_checkable
class Classifier(Protocol):
    """Tells classes of images. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The images it reads."""

    def fit(self, data: LabelledImages, *, validation: LabelledImages, seed: int, report: Report) -> None:
        """Train on `data`, choosing by `validation`."""

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities, float32 (N, K)."""

    def features(self, images: Tensor) -> Tensor:
        """The representation before the last layer, float32 (N, D)."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Take weights that `state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images to be measured: pixels float32 (N, C, H, W) in [0, 1], labels, and features by extractor name (N, D)."""

    pixels: Tensor | None = None
    labels: Tensor | None = None
    features: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured number: its spread, how many images each side had, and whose features it was measured on."""

    value: float
    spread: float | None
    n_real: int
    n_fake: int
    extractor: str


class Metric(Protocol):
    """A number about synthetic images beside real ones."""

    def __call__(self, real: Sample, fake: Sample, *, seed: int) -> Score:
        """Measure `fake` against `real`; any random choice comes from `seed`."""
