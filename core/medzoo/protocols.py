"""The protocols that plugins implement: Generator, Classifier, Metric and Extractor, and the values they exchange.

Images are float32 tensors (N, C, H, W) in [0, 1]. Labels are int64 (N,), or float32 multi-hot (N, K) where the model
is multi-label. Nothing here imports torch or numpy at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medzoo.specs import ImageSpec


@runtime_checkable
class LabeledImages(Protocol):
    """Training images with their labels: `images.labels[i]` is the label of `images[i]`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label k means `classes[k]`."""

    @property
    def labels(self) -> np.ndarray:
        """Labels, int64 (N,), or float32 multi-hot (N, K)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image `index`, uint8 (C, H, W), in the size and channels the model was built for."""


@runtime_checkable
class WeightedImages(LabeledImages, Protocol):
    """Training images that count more or less: `weights[i]` multiplies the loss of image `i`."""

    @property
    def weights(self) -> np.ndarray:
        """Loss weights, float32 (N,), positive; 1 is an ordinary image."""


class TrainingCallback:
    """The events of a training. Every method does nothing by default; override those of interest.

    `fit` calls them, and `toolkit.training.loop.train` does so for a plugin that trains with it. medzoo passes a
    callback that writes the loss table, the sample grids and run.json, and draws the progress bar.

    `max_steps` is the optimizer step after which `fit` should end with the model as it is by then; None trains to the
    end.

    Example:
        class PrintLoss(TrainingCallback):
            def on_step_end(self, step, total, metrics):
                print(f"{step}/{total}: {metrics['loss']:.4f}")

        generator.fit(data, seed=0, callback=PrintLoss(), checkpoints=CheckpointStore())
    """

    max_steps: int | None = None

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Handle the end of optimizer step `step` of `total` (counted from 1), with its losses in `metrics`."""

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Inspect the model after step `step`: `sample(seeds, labels)` draws images from its averaged weights."""

    def log_metadata(self, name: str, value: Mapping[str, float | str]) -> None:
        """Record a fact about the model, such as its reconstruction error, for run.json, config.json and the card."""

    def warn(self, message: str) -> None:
        """Record a problem of the training in one line, such as mode collapse; run.json keeps it."""


class CheckpointStore:
    """Where `fit` saves its state and finds it again; by default nothing is saved, so a training cannot be resumed."""

    def load_checkpoint(self) -> Mapping[str, Tensor] | None:
        """Return the tensors of the newest checkpoint, or None to start from the beginning."""
        return None

    def save_checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Save `state`, everything needed to continue after optimizer step `step`."""

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors cached under `key`, a hash of all they depend on; call `compute` if there are none."""
        return compute()


@runtime_checkable
class Generator(Protocol):
    """A model that samples images of given classes. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The size, channels and classes of its images."""

    def fit(self, data: LabeledImages, *, seed: int, callback: TrainingCallback, checkpoints: CheckpointStore) -> None:
        """Train on `data`; the same data and seed give the same weights on the same machine.

        A plugin may ignore `callback` and `checkpoints`; without checkpoints an interrupted training starts over.

        Raises:
            DataError: `data` is empty.
        """

    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Sample one image per seed, float32 (N, C, H, W) in [0, 1].

        Image i depends only on the weights, `seeds[i]`, `labels[i]` and `init_images[i]`. `init_images` (N, C, H, W) in
        [0, 1] are real images of the same classes, given when the spec says `needs_init_images`, or `varies_images` and
        the setting `sampling.strength` is below 1.

        Raises:
            DataError: no seeds, or labels or `init_images` that do not fit them (`toolkit.validation` checks this).
        """

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Load weights that `state_dict` returned."""


@runtime_checkable
class LabelTokens(Protocol):
    """A generator whose label embeddings `medzoo inspect` can plot."""

    @property
    def no_label(self) -> Tensor | None:
        """The null label, () or (K,) where multi-hot, if the model was trained with it."""

    def label_tokens(self, labels: Tensor) -> Tensor:
        """Embed `labels` as float32 (N, tokens, width); a model without tokens has one."""


@runtime_checkable
class AttentionMaps(LabelTokens, Protocol):
    """A generator that can also map where an image attends to each label token."""

    def attention_maps(self, seeds: Sequence[int], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of `sample` and their attention maps, float32 (N, tokens, h, w), summing to 1 over tokens.

        A map is the cross-attention to one token, averaged over heads, layers (resized to the largest) and steps.
        """


@runtime_checkable
class Classifier(Protocol):
    """A model that classifies images. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The size, channels and classes of the images it reads."""

    def fit(
        self,
        data: LabeledImages,
        *,
        validation: LabeledImages,
        seed: int,
        callback: TrainingCallback,
        checkpoints: CheckpointStore,
    ) -> None:
        """Train on `data`, selecting weights by `validation`, otherwise as `Generator.fit`."""

    def predict(self, images: Tensor) -> Tensor:
        """Predict class probabilities, float32 (N, K), of `images` float32 (N, C, H, W) in [0, 1].

        Raises:
            DataError: no images, or a size or channels other than `image` says.
        """

    def features(self, images: Tensor) -> Tensor:
        """Return the representation before the last layer, float32 (N, D). Raises: as `predict`."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Load weights that `state_dict` returned."""


@runtime_checkable
class FeatureClassifier(Classifier, Protocol):
    """A classifier on the features of a frozen network, which medzoo extracts once and uses in many trainings.

    Its `fit` and `predict` give the same from images. A view is a way of looking at an image, such as mirrored.
    """

    def extract(self, images: Tensor) -> Tensor:
        """Return features, float32 (N, views, D), of images float32 (N, C, H, W) in [0, 1].

        They depend on the image and the settings only, not on any training. Raises: DataError, as `predict`.
        """

    def fit_features(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        weights: Tensor | None = None,
        validation: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        """Train on `features` (N, views, D) and `labels`, with loss weights float32 (N,); select on `validation`.

        Raises:
            DataError: there are no images.
        """

    def predict_features(self, features: Tensor) -> Tensor:
        """Predict class probabilities, float32 (N, K), of images with these `features` (N, views, D)."""


class Pixels(Protocol):
    """Images read in batches: a Tensor (N, C, H, W), or a file too large for memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        """Return the images at `index`, float32 (n, C, H, W) in [0, 1]."""


class Extractor(Protocol):
    """A network, or any other function, that maps images to feature vectors."""

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return float32 (N, D) by layer, of uint8 images (N, C, H, W) of any size, C 1 or 3.

        The layer "features" is for distances between sets, "logits" are those of a classifier. A row depends on its own
        image only.
        """


@runtime_checkable
class PerceptualExtractor(Extractor, Protocol):
    """An extractor that also has a perceptual distance, such as LPIPS."""

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the perceptual distance, float32 (N,), of pairs of uint8 images (N, C, H, W); 0 for equal images."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The images of one set, with what the metric's spec asks for.

    `pixels` gives float32 (n, C, H, W) in [0, 1], real and synthetic images alike in size and channels. `labels` are
    int64 (N,), label k meaning `classes[k]`; in all sets alike, but each may lack images of some. `features` are
    float32 (N, D) by layer of the extractor, finite; the layer "mirrored" holds the "features" of the horizontally
    flipped images. `distance` is the extractor's perceptual distance of pairs of `pixels`. `sources`, int64 (N,), are
    given of synthetic images to a metric that needs training images, if any is a variation of one: the index of that
    training image, -1 of an image that varies none of them.
    """

    size: int
    pixels: Pixels | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    features: Mapping[str, Tensor] = field(default_factory=dict)
    distance: Callable[[Tensor, Tensor], Tensor] | None = None
    sources: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A histogram per set: the share `shares[name][k]` of its values lies between `edges[k]` and `edges[k + 1]`."""

    title: str
    unit: str
    edges: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line per name: `lines[name][k]` at `x[k]`, which rises, positive, in units of `x_label` and `y_label`.

    It is drawn with a logarithmic axis; a dashed line at `reference` shows where images like the real ones would lie,
    and `marked` is the stretch of x which the metric's value is about.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    reference: float | None = None
    marked: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image (`fake`) and the training image nearest to it (`train`), by index, and their distance."""

    fake: int
    train: int
    distance: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """The value of a metric.

    `spread` is its standard deviation over what `spread_over` names ("subsets", "splits", "pairs"), which is not a
    confidence interval; `interval` is one, of 95 %, from resampling images. `details` are further numbers by name. NaN
    means undefined. `method` describes choices of the measurement, such as subsets, bins or pairs; `warnings` are what
    a reader must know. `pairs`, closest first, are shown as images. `failed` marks a value that shows a fault, such as
    copied images.
    """

    value: float
    n_real: int
    n_fake: int
    spread: float | None = None
    spread_over: str = ""
    interval: tuple[float, float] | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    warnings: tuple[str, ...] = ()
    histogram: Histogram | None = None
    curve: Curve | None = None
    pairs: tuple[Pair, ...] = ()
    failed: bool = False


class Metric(Protocol):
    """A number that describes synthetic images in comparison with real ones."""

    def __call__(self, real: Sample, fake: Sample, *, seed: int) -> Score:
        """Measure `fake` against `real`; every random choice comes from `seed`.

        Each set has at least the spec's `min_samples` images, and all features are finite.

        Raises:
            DataError: images it cannot measure, such as too small ones.
        """


class TrainMetric(Protocol):
    """A metric that also needs the images the model was trained on; `real` images were held out."""

    def __call__(self, real: Sample, fake: Sample, *, train: Sample, seed: int) -> Score:
        """Measure as `Metric` does."""
