"""Models in memory, generators and classifiers alike: build one, or load it from a folder, the registry or the Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from medzoo import config as settings
from medzoo.data.dataset import Dataset
from medzoo.data.marks import ALGORITHMIC, ALTERED, EDITED, TRAINED
from medzoo.data.pixels import contact_sheet, to_uint8
from medzoo.errors import ConfigError, DataError, PluginError, UnknownName, memory_errors
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS, Registry, check_kind, resolve
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import (
    UNKNOWN_LINEAGE,
    check_size,
    load_weights,
    override_saved,
    read_description,
    saved_settings,
    training_images,
)
from medzoo.models.labels import label_tensor
from medzoo.protocols import Classifier, Generator
from medzoo.seeds import global_draws_from
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec, ModelSpec
from medzoo.toolkit.remote import RemoteGenerator

if TYPE_CHECKING:
    from medzoo.plugins.lookup import Plugins

TIMM = "timm"

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Generator | Classifier)
M_co = TypeVar("M_co", bound=Generator | Classifier, covariant=True)


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Generic[M_co]):
    """A model ready to use, and what is known about it: `LoadedModel[Generator]` or `LoadedModel[Classifier]`.

    `crop` is how images are cropped to a square before the model reads them. `folder` is where the model was loaded
    from. `trained_on` holds the fingerprints (`Dataset.fingerprints`) of the images it was trained on, and of those its
    weights were chosen by; `lineage_known` is false where the folder does not say which those are. `demo_dataset` names
    the data set that medzoo can generate to demonstrate the model ("phantom", or "" for none).
    """

    name: str
    model: M_co
    spec: ModelSpec[M_co]
    image: ImageSpec
    config: settings.Resolved[Any]
    crop: str
    folder: Path | None = None
    weights_sha256: str | None = None
    trained_on: frozenset[str] = frozenset()
    lineage_known: bool = True
    demo_dataset: str = ""

    @property
    def kind(self) -> Literal["generator", "classifier"]:
        """Which kind of model it is."""
        return "classifier" if isinstance(self.spec, ClassifierSpec) else "generator"

    def check_lineage(self) -> bool:
        """Return `lineage_known`; log a warning if it is not."""
        if not self.lineage_known:
            logger.warning(UNKNOWN_LINEAGE.format(name=self.name))
        return self.lineage_known

    def check_images(self, data: Dataset, *, convert_color: bool = False) -> Dataset:
        """Return the images as the model reads them, at its bit depth and with its gray window.

        Raises: DataError for color that it does not see; ConfigError for images that are to have another window.
        """
        if self.image.channels == 1 and data.channels == 3 and not convert_color:
            raise DataError(
                f"{data.path} is in color, but '{self.name}' was trained on grayscale images",
                "use a model trained in color; --convert-color reads them in gray",
            )
        return data.with_depth(self.depth).with_window(self.window, whose=f"'{self.name}'")

    @property
    def window(self) -> str:
        """The gray window that DICOM and NIfTI files are read with; "" if none of its training images was one."""
        return str(getattr(self.config.image, "window", ""))

    @property
    def depth(self) -> int:
        """The bits that images of more than 8 are read with; 0 if none of its training images had more."""
        return int(getattr(self.config.image, "depth", 0))

    @property
    def strength(self) -> float:
        """The setting `sampling.strength` of a generator that varies real images below 1; 1 of every other model."""
        if not isinstance(self.spec, GeneratorSpec) or not self.spec.varies_images:
            return 1.0
        return float(self.config.value.sampling.strength)

    @property
    def needs_init_images(self) -> bool:
        """Whether it is a generator that varies real images, always or at its strength."""
        return self.strength < 1.0 or (isinstance(self.spec, GeneratorSpec) and self.spec.needs_init_images)

    @property
    def remote(self) -> bool:
        """Whether a service makes its images."""
        return isinstance(self.model, RemoteGenerator) and self.model.service is not None

    @property
    def digital_source_type(self) -> str:
        """The IPTC's term for images of this generator (`data.marks`): sampled, or a real image edited or altered."""
        spec = self.spec
        trained = (isinstance(spec, GeneratorSpec) and spec.trainable) or isinstance(self.model, RemoteGenerator)
        if self.needs_init_images:
            return EDITED if trained else ALTERED
        return TRAINED if trained else ALGORITHMIC

    @property
    def sampling_name(self) -> str:
        """Its name, followed by its strength below 1 as in "ddpm-var-busi@0.3": file names and seeds are of this."""
        return name_with_strength(self.name, self.strength)


def name_with_strength(name: str, strength: float) -> str:
    """Return the name under which a generator samples: "NAME@STRENGTH" below strength 1."""
    return name if strength == 1.0 else f"{name}@{strength}"


def build_model(
    spec: ModelSpec[M], config: settings.Resolved[Any], image: ImageSpec, *, device: str, seed: int = 0
) -> M:
    """Build a model with fresh weights drawn from `seed`; the global random state is neither used nor changed.

    Raises:
        PluginError: the plugin's `build` returns something else.
    """
    with global_draws_from(seed, torch.device(device)):
        model = spec.build(config.value, image, device)
    wanted: type[Any] = Classifier if isinstance(spec, ClassifierSpec) else Generator
    if not isinstance(model, wanted):
        raise PluginError(f"{spec.name} did not build a {wanted.__name__}", f"run `medzoo plugin check {spec.name}`")
    return model


def parameter_free_model(
    spec: GeneratorSpec,
    *,
    image: ImageSpec,
    device: str,
    preset: str = "default",
    overrides: Mapping[str, Any] | None = None,
) -> LoadedModel[Generator]:
    """Build a generator that has no weights to load, such as `classic`, for images like `image`."""
    config = settings.resolve(spec.config, presets=spec.presets, preset=preset, overrides=overrides)
    model = build_model(spec, config, image, device=device)
    return LoadedModel(name=spec.name, model=model, spec=spec, image=image, config=config, crop=config.image.crop)


def load_model(
    folder: Path,
    *,
    plugins: Plugins,
    device: str,
    kind: Literal["generator", "classifier"] = GENERATOR,
    overrides: Mapping[str, Any] | None = None,
    name: str = "",
) -> LoadedModel[Any]:
    """Load the model in `folder`, which must be of this `kind`, onto `device`.

    `overrides` may change settings that the weights do not depend on: those of `sampling`, or a classifier's
    `prediction`.

    Raises:
        ConfigError: the folder holds the other kind of model, or one that asks a service or has no weights; or an
            override changes what was trained.
        IntegrityError: the files are damaged or do not fit each other.
        PluginError, UnknownName: its plugin is broken or not installed.
    """
    description = read_description(folder)
    check_kind(str(folder), str(description.get("kind", GENERATOR)), expected=kind)
    plugin = description["plugin"]
    spec: ModelSpec[Any]
    if kind == CLASSIFIER:
        spec, changeable = plugins.classifier(plugin), "prediction"
    else:
        spec = generator = plugins.generator(plugin)
        if not generator.trainable:
            raise _not_a_model(folder, generator, description["config"], overrides or {})
        changeable = "sampling"
    image, saved = saved_settings(spec, description, folder)
    config = override_saved(saved, overrides, changeable=changeable)
    weights_sha256 = str(description["weights_sha256"])
    check_size(spec, config, image, folder / WEIGHTS, sha256=weights_sha256)
    with memory_errors(f"building '{spec.name}' for {folder}", "use a machine or a device with more memory"):
        model = build_model(spec, config, image, device=device)
    if isinstance(model, RemoteGenerator) and model.service is not None:
        raise ConfigError(
            f"{folder} would send images and a key to {model.service.host}, which its {CONFIG} names",
            "only your own settings may name a service: --set, with the generator's name",
        )
    with memory_errors(f"loading {folder / WEIGHTS}", "use a machine or a device with more memory"):
        load_weights(model, folder / WEIGHTS, sha256=weights_sha256)
    data, known = description["data"], training_images(description)
    return LoadedModel(
        name=name or str(description.get("id", "")) or folder.resolve().name,
        model=model,
        spec=spec,
        image=image,
        config=config,
        crop=config.image.crop,
        folder=folder,
        weights_sha256=weights_sha256,
        trained_on=known or frozenset(),
        lineage_known=known is not None,
        demo_dataset=str(data.get("demo_dataset", data.get("embedded", ""))),
    )


def build_again(model: LoadedModel[M], spec: ModelSpec[M], *, device: str) -> LoadedModel[M]:
    """Return the model with its network built from `spec` and its folder, as in a process that it was sent to without.

    Raises: as `load_model`.
    """
    network = build_model(spec, model.config, model.image, device=device)
    if model.weights_sha256 is not None and model.folder is not None:
        load_weights(network, model.folder / WEIGHTS, sha256=model.weights_sha256)
    return replace(model, model=network, spec=spec)


def _not_a_model(
    folder: Path, spec: GeneratorSpec, stated: Mapping[str, Any], overrides: Mapping[str, Any]
) -> ConfigError:
    """Explain that a folder names a generator without weights; the settings it states are never used."""
    own = settings.resolve(spec.config, presets=spec.presets).flat() | dict(overrides)
    others = [
        f"{key} = {value!r} (yours: {own[key]!r})" for key, value in stated.items() if key in own and value != own[key]
    ]
    sets = f"; its {CONFIG} sets {', '.join(others)}" if others else ""
    return ConfigError(
        f"{folder} is not a model: '{spec.name}' has no weights{sets}",
        f"use it by its name, {spec.name}, with your own settings: --set KEY=VALUE",
    )


def load_by_name(
    name: str,
    *,
    registry: Registry,
    plugins: Plugins,
    device: str,
    kind: Literal["generator", "classifier"] = GENERATOR,
    image: ImageSpec | None = None,
    overrides: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> LoadedModel[Any]:
    """Load the model that `name` means: a registry id, a plugin (its default model), a folder, or hf:org/name.

    `source` is the only place to take files from ("bundled", "hub" or a folder). A generator without parameters is
    built for images like `image`; without `image` it is refused.

    Raises:
        ConfigError: as `load_model`; `name` is ambiguous, or has no model.
        HubError: the files cannot be had from `source`.
        IntegrityError, PluginError, UnknownName: as `load_model`.
    """
    found = resolve(name, registry, plugins, kind=kind)
    if found.folder is not None:
        return load_model(found.folder, plugins=plugins, device=device, kind=kind, overrides=overrides)
    if found.entry is not None:
        if found.entry.notice:
            logger.warning(found.entry.notice)
        folder = fetch_model(found.entry, source=source)
        return load_model(folder, plugins=plugins, device=device, kind=kind, overrides=overrides, name=found.entry.id)
    if image is None:
        raise ConfigError(f"'{name}' has no weights", "`medzoo list` shows the models that have weights")
    assert isinstance(found.spec, GeneratorSpec)  # no caller gives an image with a classifier
    return parameter_free_model(found.spec, image=image, device=device, overrides=overrides)


def spec_to_train(
    name: str, plugins: Plugins, *, kind: Literal["generator", "classifier"] | None = None
) -> tuple[ModelSpec[Any], dict[str, str]]:
    """Return the generator or classifier that `name` means, of that `kind` if given, and the overrides it implies.

    `timm:resnet34` is the classifier `timm` with the network `resnet34`.

    Raises:
        ConfigError: `name` is of the other kind.
        PluginError, UnknownName: its plugin is broken or not installed.
    """
    plugin, colon, network = name.partition(":")
    generator, classifier = name in plugins.generators, name in plugins.classifiers
    if kind is None and not generator and plugin not in plugins.classifiers:
        plugins.check_usable(name)
        known = {*plugins.generators, *plugins.classifiers}
        raise UnknownName("generator or classifier", name, known, plugins.unavailable_hint)
    kind = kind or (GENERATOR if generator else CLASSIFIER)
    if generator != classifier:
        check_kind(name, GENERATOR if generator else CLASSIFIER, expected=kind, train=True)
    if kind == GENERATOR:
        return plugins.generator(name), {}
    if not colon or plugin != TIMM:
        return plugins.classifier(name), {}
    if not network:
        raise ConfigError(f"'{name}' names no network", "write timm:resnet34, or another model name of timm")
    return plugins.classifier(TIMM), {"network.name": network}


def copy_matching_weights(model: Generator | Classifier, start: LoadedModel[Generator | Classifier]) -> str:
    """Copy the tensors of `start` that have the same name and shape into `model`; return how many, as "n of m".

    Raises:
        ConfigError: there are none.
    """
    own = dict(model.state_dict())
    given = start.model.state_dict()
    same = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not same:
        raise ConfigError(f"no weights of '{start.name}' fit", "start from a model of the same plugin and network")
    model.load_state_dict({**own, **same})
    return f"{len(same)} of {len(own)}"


def class_sheet(
    image: ImageSpec,
    sample: Callable[[Sequence[int], Tensor], Tensor],
    *,
    seeds: Mapping[str, Sequence[int]],
    side: int,
) -> np.ndarray:
    """Draw a contact sheet, uint8 (3, H, W): one row per class, sampled by `sample` from the class's `seeds`.

    Images smaller than about `side` pixels are enlarged by a whole factor.
    """
    rows = [(name, to_uint8(sample(own, label_tensor(image, [name] * len(own))))) for name, own in seeds.items()]
    return contact_sheet(rows, columns=max(map(len, seeds.values())), scale=max(1, round(side / image.size)))


def count_parameters(model: Generator | Classifier) -> int:
    """Return how many numbers the weights hold, buffers included."""
    return sum(tensor.numel() for tensor in model.state_dict().values())
