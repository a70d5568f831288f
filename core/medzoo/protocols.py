"""Generator, Classifier and Metric: what a plugin's models must do, and the values they exchange.

Images are float32 tensors (N, C, H, W) in [0, 1]. Labels are int64 (N,), or float32 multi-hot (N, K) where the model
is multi-label. Nothing here imports torch or numpy at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from medzoo.errors import ConfigError, MedzooError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medzoo.specs import ImageSpec


@runtime_checkable
class LabeledImages(Protocol):
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

    def stop_after(self) -> int | None:
        """The optimiser step after which `fit` ends, the model as it is by then; None to train to the end."""


@runtime_checkable
class Generator(Protocol):
    """Makes images of given classes. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The images it makes."""

    def fit(self, data: LabeledImages, *, seed: int, report: Report) -> None:
        """Train on `data`; the same data and seed give the same weights on the same machine.

        Raises: DataError for no images.
        """

    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """One image a seed: float32 (N, C, H, W) in [0, 1].

        Image i depends only on the weights, `seeds[i]`, `labels[i]` and `init_images[i]`. `init_images` (N, C, H, W) in
        [0, 1] are real images of the same classes, given when the spec says `needs_init_images`.
        Raises: DataError for no seeds, and for labels or `init_images` that are not one a seed or none of the model's
        (`toolkit.validation` checks them).
        """

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Take weights that `state_dict` gave."""


@runtime_checkable
class LabelTokens(Protocol):
    """A generator whose labels become vectors that can be looked at. `medzoo inspect` draws them."""

    @property
    def no_label(self) -> Tensor | None:
        """The label that says nothing, () or (K,) where multi-hot, if the model was trained with it."""

    def label_tokens(self, labels: Tensor) -> Tensor:
        """The vectors that stand for `labels`, float32 (N, tokens, width); one token where there is no more."""


@runtime_checkable
class AttentionMaps(LabelTokens, Protocol):
    """A generator that can also show where in an image it attends to each label token."""

    def attention_maps(self, seeds: Sequence[int], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W), the ones `sample` gives, and maps float32 (N, tokens, h, w) that sum to 1 over tokens.

        A map is the mean of the cross-attention to one token over heads, layers (resized to the largest) and steps of
        sampling.
        """


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service outside this machine that makes a generator's images, and its terms.

    One request carries one real image, a PNG of `side` pixels square in RGB without metadata, to `host`, and beside it
    what the words of `beside` say. At most `parallel` requests are under way at once; one that fails is repeated up to
    `retries` times, after `backoff` seconds and twice as many each time, or after what the service asks for, up to
    `patience` seconds. `price` is of one request in `currency`. `max_requests` and `max_cost` hold for all requests of
    a job together, 0 is no limit. Users know these terms as the generator's settings `requests.max_retries` and so on.
    """

    host: str
    encrypted: bool
    beside: str
    side: int
    parallel: int
    retries: int
    backoff: float
    patience: float
    price: float
    currency: str
    max_requests: int
    max_cost: float

    def __post_init__(self) -> None:
        if self.max_cost and not self.price:
            raise ConfigError(
                "requests.max_cost needs to know what a request costs",
                "give its price, as in --set requests.price_per_request=0.04",
            )


RequestOutcome = Literal["refused", "failed", "lost"]


class RequestError(MedzooError):
    """One request that gave no image.

    `outcome`: "refused" when the service answered that it will not do it, which costs nothing; "failed" when it
    answered with an error of its own or with no image; "lost" when no whole answer came. The last two may have been
    charged. `again`: the same request may succeed later, after `wait` seconds where the service names them.
    """

    exit_code = 6

    def __init__(self, message: str, *, outcome: RequestOutcome, again: bool, wait: float = 0.0) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.again = again
        self.wait = wait


@runtime_checkable
class RemoteGenerator(Generator, Protocol):
    """A generator that varies real images, whose settings may have a service outside this machine make its images.

    Core then calls `request` in place of `sample`. It asks the user before anything is uploaded, makes what is sent
    and reads what comes back, and it counts, repeats and caps the requests; the generator sends one and no more.
    """

    @property
    def service(self) -> Service | None:
        """The service, or None where the images are made on this machine, by `sample`."""

    def connect(self) -> None:
        """Be ready for requests; nothing is sent. Raises: ConfigError, as for a key that is missing."""

    def request(self, picture: bytes, label: str, *, seed: int, idempotency_key: str) -> bytes:
        """An image file's bytes: the variation of `picture` (PNG) that the service makes in one request.

        Called by several threads at once. `idempotency_key` tells the service that a request repeats one whose
        answer was lost. No error may hold a secret.
        Raises:
            RequestError: this request gave no image.
            MedzooError: no request can, so that the job had better stop (a wrong key, an empty account).
        """


@runtime_checkable
class Classifier(Protocol):
    """Tells classes of images. Any `torch.nn.Module` with these methods complies."""

    @property
    def image(self) -> ImageSpec:
        """The images it reads."""

    def fit(self, data: LabeledImages, *, validation: LabeledImages, seed: int, report: Report) -> None:
        """Train on `data`, choosing by `validation`. Raises: DataError for no images."""

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities, float32 (N, K). Raises: DataError for no images, or other ones than `image` says."""

    def features(self, images: Tensor) -> Tensor:
        """The representation before the last layer, float32 (N, D). Raises: as `predict`."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Take weights that `state_dict` gave."""


class Pixels(Protocol):
    """Images read a few at a time; a Tensor (N, C, H, W) is one, and so is a file of them that no memory could hold."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        """The images at `index`: float32 (n, C, H, W) in [0, 1]."""


class Extractor(Protocol):
    """A network, or anything else, that turns images into vectors in which they are compared."""

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """By layer, the vectors of uint8 images (N, C, H, W), C 1 or 3, of any side: float32 (N, D).

        The layer "features" is what distances between sets are measured in, "logits" what a classifier says. A row
        depends on its own image alone.
        """


@runtime_checkable
class PerceptualExtractor(Extractor, Protocol):
    """An extractor that also knows how different two images look."""

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Perceptual distance (N,), float32, of each pair of uint8 images (N, C, H, W); 0 for equal ones."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images to be measured, as far as a metric's spec asks for them.

    `pixels` gives float32 (n, C, H, W) in [0, 1], real and synthetic ones alike in size and channels. `labels` are
    int64 (N,). `features` are float32 (N, D) by layer of the extractor, and `distance` is that extractor's perceptual
    distance of pairs from `pixels`. "mirrored" is the layer "features" of the images mirrored left to right.
    """

    size: int
    pixels: Pixels | None = None
    labels: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    distance: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How values of the sets are spread: `shares[name][k]` of a set's values lie between `edges[k]` and the next."""

    title: str
    unit: str
    edges: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image (`fake`), the training image nearest to it (`train`), both by index, and their distance."""

    fake: int
    train: int
    distance: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured number.

    `spread` is its standard deviation over what `spread_over` names ("subsets", "splits", "pairs"), which is no
    confidence interval; `interval` is one, of 95 %, by resampling images. `details` are further numbers by name. NaN
    stands for what is not defined. `method` says how it was measured, where there are choices: subsets, bins, pairs;
    `warnings` what its reader must know. `pairs`, closest first, are for looking at. `failed` is True where the number
    shows a fault, as copied images are.
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
    pairs: tuple[Pair, ...] = ()
    failed: bool = False


class Metric(Protocol):
    """A number about synthetic images beside real ones."""

    def __call__(self, real: Sample, fake: Sample, *, seed: int) -> Score:
        """Measure `fake` against `real`; any random choice comes from `seed`.

        Raises: DataError for images it cannot measure, such as too few or too small ones.
        """


class TrainMetric(Protocol):
    """A number about synthetic images beside real ones that no model saw, and those its model was trained on."""

    def __call__(self, real: Sample, fake: Sample, *, train: Sample, seed: int) -> Score:
        """As `Metric`."""
