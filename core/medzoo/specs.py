"""Light descriptions of what plugins offer; only `build` loads a model's code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from medzoo.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from torch import Tensor

    from medzoo.protocols import Classifier, Extractor, Generator, Metric, TrainMetric

M_co = TypeVar("M_co", bound="Generator | Classifier", covariant=True)

CONTRACT = 3
"""The contract between plugins and this medzoo: hooks, specs and protocols. A plugin states the one it was written for.

It goes up by one with every release in which a plugin can see a change, were it only a new field.
"""

OLDEST_CONTRACT = 2
"""The oldest contract this medzoo still keeps. It goes up only when something that plugins used is taken away."""


MAX_SIZE = 4096
"""The largest side of a model's images, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The images a model reads or makes: square side in pixels, channels (1 or 3), class names in label order."""

    size: int
    channels: int
    classes: tuple[str, ...]
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ConfigError(f"images have 1 or 3 channels, not {self.channels}")
        if not 1 <= self.size <= MAX_SIZE:
            raise ConfigError(f"image size must be 1 to {MAX_SIZE} pixels, not {self.size}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"class names must be given and differ: {', '.join(self.classes) or 'none'}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for config.json."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageSpec:
        """Create a spec from the values of `to_dict`.

        Raises: ConfigError on values that `to_dict` cannot have given.
        """
        kinds = {"size": int, "channels": int, "classes": list, "multi_label": bool}
        if wrong := [key for key, kind in kinds.items() if not isinstance(values.get(key), kind)]:
            raise ConfigError(f"image.{wrong[0]} is missing or of the wrong type")
        if not all(isinstance(name, str) for name in values["classes"]):
            raise ConfigError("image.classes holds values that are not strings")
        return cls(
            size=values["size"],
            channels=values["channels"],
            classes=tuple(values["classes"]),
            multi_label=values["multi_label"],
        )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The fields of every spec: the contract it was written for, its name, and a summary of one line."""

    contract: int
    name: str
    summary: str

    def __new__(cls, *, contract: int | None = None, **fields: Any) -> Self:
        """Check the contract before the other fields, whose names another contract may not know.

        Raises:
            PluginError: `contract` is missing or not supported.
        """
        if contract is None and fields:
            raise PluginError(f"its {cls.__name__} states no contract", f"write contract={CONTRACT}")
        if contract is not None and contract not in range(OLDEST_CONTRACT, CONTRACT + 1):
            newer = isinstance(contract, int) and contract > CONTRACT
            supported = CONTRACT if OLDEST_CONTRACT == CONTRACT else f"{OLDEST_CONTRACT} to {CONTRACT}"
            message = f"it was written for contract {contract!r} of medzoo, and this version supports {supported}"
            if newer:
                raise PluginError(message, "look for a newer version of medzoo")
            raise PluginError(
                f"{message}: `fit` takes a callback and a checkpoint store in place of a report, `sample` takes "
                "init_images in place of sources, and fields of MetricSpec and Score have other names",
                "look for a newer version of the plugin; docs/plugins.md#contract-versions lists every change",
            )
        return super().__new__(cls)


class _ImportedClass:
    """A field for a class, or for its import path as in "package.module:Class", imported when it is first read."""

    def __set__(self, spec: object, value: type[Any] | str) -> None:
        vars(spec)["config"] = value

    def __get__(self, spec: object, owner: type[object]) -> Any:
        if spec is None:
            raise AttributeError  # as dataclasses ask for a default, of which there is none
        value: Any = vars(spec)["config"]
        if isinstance(value, str):
            module, _, name = value.partition(":")
            try:
                value = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise PluginError(f"its settings cannot be imported: {error}", "check `config` of the spec") from error
            vars(spec)["config"] = value
        return value


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec, Generic[M_co]):
    """A kind of model. `config` is a dataclass of settings (medzoo.config), `presets` a folder of TOML files.

    `config` may be an import path, "package.module:Class": `medzoo list` is faster where settings are not imported.

    `build(config, image, device)` imports the model and returns it with fresh weights on `device` ("cpu", "cuda:0").
    `multi_label`: its labels may be multi-hot.
    """

    config: Any = _ImportedClass()  # type[Any] | str when given, type[Any] when read
    presets: Traversable
    build: Callable[[Any, ImageSpec, str], M_co]
    multi_label: bool = False


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(ModelSpec["Generator"]):
    """A kind of generator. `needs_init_images`: it varies real images. `trainable`: it has weights.

    `varies_images`: it samples from noise, but varies the real images given as `init_images` where its setting
    `sampling.strength`, in (0, 1] and 1 by default, is below 1. `takes_unlabeled`: its `fit` takes images of the null
    label, `len(classes)` (in multi-hot labels, the row `toolkit.nn.conditioning.null_label` returns).

    Settings under `sampling` may be changed after training (`medzoo sample --set sampling.num_inference_steps=50`), no
    others.
    """

    needs_init_images: bool = False
    varies_images: bool = False
    takes_unlabeled: bool = False
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(ModelSpec["Classifier"]):
    """A kind of classifier. Settings under `prediction` may be changed after training, no others.

    `sample_weights`: its `fit` multiplies each image's loss by its weight (`protocols.WeightedImages`). `converges`:
    its training ends at an optimum and not after a number of steps, so an experiment does not equalize them.
    """

    sample_weights: bool = False
    converges: bool = False


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec(Spec):
    """A kind of extractor, whose name stands behind the "@" of a metric's: `fid@inception`.

    `layers` are those it gives; `perceptual`: it is a `PerceptualExtractor`. `preprocessing` says in a few words what
    it does to images. `assets` are the registry's ids of its published weights; `build(weights, device)` is given their
    tensors by name, under the assets' ids, and imports the network. `version` changes whenever the same images and
    weights give other vectors, for what is extracted is kept.
    """

    layers: tuple[str, ...]
    preprocessing: str
    build: Callable[[Mapping[str, Mapping[str, Tensor]], str], Extractor]
    assets: tuple[str, ...] = ()
    perceptual: bool = False
    version: str = "1"

    @property
    def gives(self) -> list[str]:
        """What it makes of images, in words."""
        return [*self.layers, *(["perceptual distance"] if self.perceptual else [])]


DOMAIN = "domain"
"""In `MetricSpec.extractors`: the published classifier that knows the classes of the images at hand."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A kind of metric: what it needs, its unit, and whether higher is better (None where neither way is).

    `needs_features` are layers of an extractor ("features", "logits"), `needs_distance` its perceptual distance, and
    `needs_train` layers of the training images, so that `build` gives a `TrainMetric`. Such a metric is asked for as
    `name@extractor`; `extractors` are those it is measured with when none is named and they are at hand. `min_samples`
    is the smallest number of images per set it takes: core measures no smaller sets, and none whose features are NaN or
    infinite. `baseline`: measure two halves of the real images against each other too, which shows what sampling alone
    makes of it. `symmetric`: the same number comes out with real and synthetic images exchanged. `ideal` is the value
    of images that are like the real ones, such as 1 of a ratio; None where it depends on the images.
    """

    unit: str
    build: Callable[[], Metric | TrainMetric]
    needs_pixels: bool = False
    needs_labels: bool = False
    needs_features: tuple[str, ...] = ()
    needs_distance: bool = False
    needs_train: tuple[str, ...] = ()
    extractors: tuple[str, ...] = ()
    min_samples: int = 2
    higher_is_better: bool | None = None
    baseline: bool = False
    symmetric: bool = False
    ideal: float | None = None

    @property
    def better(self) -> str:
        """Whether "higher", "lower" or "neither" is better."""
        return {True: "higher", False: "lower", None: "neither"}[self.higher_is_better]

    @property
    def needs(self) -> list[str]:
        """What it asks of the images, in words."""
        requirements = [
            ("pixels", self.needs_pixels),
            ("labels", self.needs_labels),
            (" and ".join(self.needs_features), self.needs_features),
            ("perceptual distance", self.needs_distance),
            (f"{' and '.join(self.needs_train)} of the training images", self.needs_train),
        ]
        return [words for words, needed in requirements if needed]
