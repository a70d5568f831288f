"""Mixtures of generators (`a=0.8`, `b=0.2`): parse and load them with the real images, and check one by the other."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from medzoo import config as settings
from medzoo.data.content_credentials import ManifestSigner
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.image_formats import image_formats
from medzoo.data.images import encode_png
from medzoo.data.marks import TRAINED, Mark
from medzoo.data.phantom import phantom_dataset
from medzoo.data.reading import Reading
from medzoo.data.synthetic import check_no_synthetic
from medzoo.distributed.workers import Cluster
from medzoo.errors import ConfigError, DataError
from medzoo.generation.label_sets import label_sets
from medzoo.generation.plan import FORMATS, distinct, file_safe, make_plan
from medzoo.generation.sampler import Sampler
from medzoo.hub.registry import Registry, load_registry, resolve
from medzoo.hub.repositories import check_source
from medzoo.models.devices import device_here, pick_device
from medzoo.models.labels import split_label
from medzoo.models.loading import LoadedModel, load_by_name
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Generator
from medzoo.specs import GeneratorSpec, ImageSpec

logger = logging.getLogger(__name__)

DEFAULT_DATA = Path("datasets/train")

# The demo dataset: imbalanced like a clinic's archive, and small enough that a demonstration adds to every class.
PHANTOM_COUNTS: Mapping[str, int] = {"normal": 20, "thick-wall": 12, "narrow-canal": 8, "echogenic-content": 6}
PHANTOM_SEED = 2024

_STRENGTH = re.compile(r"(?P<name>.+)@(?P<strength>[+-]?(?:\d+\.?\d*|\.\d+))")
_SETTING = "sampling.strength"
_EXAMPLE = "for instance --gen ddpm-busi=0.8 --gen ddpm-var-busi=0.2"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where models come from and on what they run: `device`, of this machine or, of a `cluster`, of each node."""

    plugins: Plugins
    registry: Registry
    device: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mirror: str | None = None
    cluster: Cluster | None = None


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Models, their shares, which sum to 1, and the file-safe names used in file names and seeds."""

    models: tuple[LoadedModel[Generator], ...]
    shares: tuple[Fraction, ...]
    names: tuple[str, ...]

    def sampler(
        self, counts: Mapping[str, int], *, real: Dataset | None, batch_size: int, seed: int, format: str = "png"
    ) -> Sampler:
        """Return a sampler of `counts` images of each label. Raises: DataError, as `Sampler`."""
        plan = make_plan(counts, names=self.names, shares=self.shares, batch_size=batch_size, seed=seed)
        return Sampler(self.models, replace(plan, suffix=FORMATS[format]), real=real)

    def describe(self) -> dict[str, Any]:
        """Return what determines each model's images, by name.

        Settings under `requests.` are left out: they do not change the images, so a resumed run may change them.
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


def alone(model: LoadedModel[Generator], *, name: str = "") -> Mixture:
    """Return a mixture of one loaded model; `name` replaces the model's own in file names and seeds."""
    names = tuple(distinct([file_safe((replace(model, name=name) if name else model).sampling_name)]))
    return Mixture(models=(model,), shares=(Fraction(1),), names=names)


def split_strength(text: str) -> tuple[str, float | None]:
    """Split "GEN@STRENGTH" into the generator's name and its strength, which is None where none is given.

    >>> split_strength("ddpm-var-busi@v2@0.3"), split_strength("ddpm-var-busi@v2")
    (('ddpm-var-busi@v2', 0.3), ('ddpm-var-busi@v2', None))

    Raises:
        ConfigError: a strength that is not above 0 and at most 1.
    """
    match = _STRENGTH.fullmatch(text)
    # The path of an existing folder is a name even if it ends in a number; "folder:PATH" is an arm of experiments.
    if match is None or Path(text.removeprefix("folder:")).is_dir():
        return text, None
    name, strength = match["name"], float(match["strength"])
    if not 0.0 < strength <= 1.0:
        raise ConfigError(
            f"the strength in '{text}' must be above 0 and at most 1",
            f"write {name}@0.3 to vary real images a little, {name} to sample from noise; a version is @v2",
        )
    return name, strength


def with_strength(text: str, spec: GeneratorSpec, overrides: Mapping[str, Any], plugins: Plugins) -> dict[str, Any]:
    """Return the settings of a generator with the strength that `text`, "GEN@STRENGTH" or "GEN", asks for.

    Raises:
        ConfigError: as `split_strength`; the generator takes no strength; `overrides` set another one.
    """
    name, strength = split_strength(text)
    if strength is None:
        return dict(overrides)
    if not spec.varies_images:
        able = ", ".join(sorted(other.name for other in plugins.generators.values() if other.varies_images))
        raise ConfigError(f"'{name}' takes no strength", f"write {name}; these vary real images by a strength: {able}")
    if (other := overrides.get(_SETTING, strength)) != strength:
        raise ConfigError(
            f"'{text}' and {_SETTING} = {settings.shown(other)} ask for different strengths", "give one of them"
        )
    return {**overrides, _SETTING: strength}


def parse_mixture(given: Sequence[str]) -> list[tuple[str, Fraction]]:
    """Parse "GEN" and "GEN=SHARE" arguments to generators and shares, which are positive and sum to exactly 1.

    A generator may be "NAME@STRENGTH", as in `split_strength`.

    Raises:
        ConfigError: shares that do not sum to 1 within 1e-6, a missing share, a repeated generator.
    """
    if not given:
        raise ConfigError("no generator is given", "name one with --gen; `medzoo list` shows them")
    shares: dict[str, Fraction] = {}
    seen = set()
    for text in given:
        name, equals, share = text.rpartition("=")
        if not equals or Path(text).is_dir():  # the path of an existing folder is a name even if it contains '='
            if len(given) == 1:
                return [(text, Fraction(1))]
            raise ConfigError(f"a mixture needs a share for every generator, '{text}' has none", _EXAMPLE)
        if (asked := split_strength(name)) in seen:
            raise ConfigError(f"the generator '{name}' is given twice", "add up its shares")
        seen.add(asked)
        try:
            shares[name] = Fraction(share)
        except (ValueError, ZeroDivisionError):
            raise ConfigError(f"the share in '{text}' must be a number, not '{share}'", _EXAMPLE) from None
        if shares[name] <= 0:
            raise ConfigError(f"the share in '{text}' must be more than 0", _EXAMPLE)
    total = sum(shares.values(), Fraction(0))
    if abs(total - 1) > Fraction(1, 10**6):
        raise ConfigError(f"the shares of a mixture must sum to 1, these sum to {float(total):g}", _EXAMPLE)
    return [(name, share / total) for name, share in shares.items()]


def load_mixture(
    given: Sequence[str],
    source: Source,
    *,
    data: Path | None,
    always_open: bool,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    multi_label: bool = False,
    reading: Reading = Reading(),
) -> tuple[Mixture, Dataset | None]:
    """Load the models that the GEN arguments mean, and the real images, if the first one varies any or `always_open`.

    Generators without weights make images like the first model's, or like the real ones if there is no such model. With
    `multi_label`, real images may have several labels; generators without weights take each set of labels as a class.
    Raises: UnknownName, ConfigError, HubError, DataError.
    """
    shares = dict(parse_mixture(given))
    bases = {name: split_strength(name)[0] for name in shares}
    for base in bases.values():
        check_source(base, source.mirror)
    found = {name: resolve(base, source.registry, source.plugins) for name, base in bases.items()}
    overrides: dict[str, dict[str, Any]] = {name: {} for name in shares}
    for key, value in source.overrides.items():
        # A generator's own settings; an unknown key goes to all, where it raises.
        for name in [name for name in shares if key in settings.keys(found[name].spec.config)] or shares:
            overrides[name][key] = value
    overrides = {name: with_strength(name, found[name].spec, own, source.plugins) for name, own in overrides.items()}
    bare = [name for name, one in found.items() if one.entry is None and one.folder is None]
    loaded = {name: _load(bases[name], source, overrides=overrides[name]) for name in shares if name not in bare}
    lead = next(iter(loaded.values()), None)
    real = None
    if always_open or lead is None or any(model.needs_init_images for model in loaded.values()):
        real = find_data(
            data, lead, classes=classes, skip_bad=skip_bad, masks=masks, multi_label=multi_label, reading=reading
        )
    elif data is not None:
        varies = isinstance(lead.spec, GeneratorSpec) and lead.spec.varies_images
        example = f", or give a strength below 1: {lead.name}@0.3" if varies else ""
        raise ConfigError(f"'{given[0]}' does not vary real images", f"leave --data out{example}")
    depths = {model.depth for model in loaded.values() if model.depth}
    if real is not None and real.highest is not None and depths:
        if len(depths) > 1:
            raise ConfigError(f"the models read images of {' and '.join(map(str, sorted(depths)))} bits", "use one")
        real = real.with_depth(*depths)
    for model in loaded.values():
        real = real and real.with_window(model.window, whose=f"'{model.name}'")
    for name in bare:
        if lead is not None:
            image = lead.image
            if real is not None and real.multi_label:
                image = ImageSpec(size=image.size, channels=image.channels, classes=label_sets(real).classes)
            model = _load(bases[name], source, image=image, overrides=overrides[name])
            loaded[name] = replace(model, crop=lead.crop)
        elif real is not None:
            spec = found[name].spec
            resolved = settings.resolve(spec.config, presets=spec.presets, overrides=overrides[name])
            asked = {key: value for key, value in resolved.flat().items() if resolved.origins[key] == "--set"}
            # Images like the real ones: their median shorter side, and color if any has it.
            formats = image_formats(real)
            size = asked.get("image.size", min(max(formats.side, 8), 1024))
            channels = asked.get("image.channels", 1 if formats.gray else 3)
            image = ImageSpec(size=size, channels=channels, classes=label_sets(real).classes)
            loaded[name] = _load(bases[name], source, image=image, overrides=overrides[name])
    models = tuple(loaded[name] for name in shares)
    names = tuple(distinct([file_safe(model.sampling_name) for model in models]))
    return Mixture(models=models, shares=tuple(shares.values()), names=names), real


def load_from(given: str, source: Source) -> LoadedModel[Generator]:
    """Load the model that a GEN argument, "NAME" or "NAME@STRENGTH", means, with the source's overrides."""
    name, strength = split_strength(given)
    if strength is None:
        return _load(name, source, overrides=source.overrides)
    spec = resolve(name, source.registry, source.plugins).spec
    return _load(name, source, overrides=with_strength(given, spec, source.overrides, source.plugins))


def _load(
    name: str, source: Source, *, image: ImageSpec | None = None, overrides: Mapping[str, Any]
) -> LoadedModel[Generator]:
    return load_by_name(
        name,
        image=image,
        registry=source.registry,
        plugins=source.plugins,
        device=device_here(source.device),
        overrides=overrides,
        source=source.mirror,
    )


def find_data(
    path: Path | None,
    lead: LoadedModel[Generator] | None,
    *,
    classes: Sequence[str] | None,
    skip_bad: bool,
    masks: str = "ignore",
    multi_label: bool = False,
    reading: Reading = Reading(),
) -> Dataset:
    """Open the real images: those at `path`, else ./datasets/train, else the demo dataset of the model `lead`.

    Raises: DataError if there are none, if they are multi-label and may not be, or if some are synthetic.
    """
    if path is None and DEFAULT_DATA.exists():
        path = DEFAULT_DATA
        logger.info(f"real images: ./{DEFAULT_DATA} (no --data given)")
    if path is not None:
        data = open_dataset(path, skip_bad=skip_bad, classes=classes, masks=masks, reading=reading)
        for part in (data, *data.held_out.values()):
            check_no_synthetic(part, use="which would count as real", hint="give the folder of the real images")
        for name, reason in (entry for part in (data, *data.held_out.values()) for entry in part.bad):
            logger.warning(f"left out {name}: {reason}")
    elif lead is not None and lead.demo_dataset == "phantom":
        data = phantom_dataset(PHANTOM_COUNTS, size=lead.image.size, seed=PHANTOM_SEED)
        logger.warning(
            "real images: none given and no ./datasets/train here, so simulated ultrasound stands in for them"
        )
    else:
        whose = f"'{lead.name}' has no demo dataset" if lead is not None else "these generators have none of their own"
        raise DataError(f"no real images: ./{DEFAULT_DATA} does not exist and {whose}", "give them with --data DIR")
    if data.multi_label and not multi_label:
        raise DataError(
            f"{data.path} is multi-label: an image may have several classes",
            "give a set with one label per image; `medzoo augment` takes several",
        )
    return data


def check_classes(mixture: Mixture, data: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError if a model does not know one of `labels`, or takes one label where images have several."""
    for model in mixture.models:
        trained = not isinstance(model.spec, GeneratorSpec) or model.spec.trainable
        if data.multi_label and trained and not model.image.multi_label:
            raise DataError(
                f"'{model.name}' makes images of one label each, but those of {data.path} may have several",
                f"train a multi-label generator on them: medzoo train latent-ddpm --data {data.path}",
            )
        sets = [label for label in labels if label not in model.image.classes]
        split = split_label if data.multi_label else lambda label: [label]
        unknown = sorted({name for label in sets for name in split(label)}.difference(model.image.classes))
        if not unknown:
            continue
        if all(label.isdecimal() for label in data.classes) and data.array is not None:
            hint = f"name the npz's classes in order, as in --classes {','.join(model.image.classes)}"
        else:
            hint = f"rename the class folders, or train on them: medzoo train {model.spec.name} --data {data.path}"
        raise DataError(
            f"'{model.name}' does not know the class{'es' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"it knows {', '.join(model.image.classes)}, the data has {', '.join(data.classes)}",
            hint,
        )


def lineage(mixture: Mixture, data: Dataset, *, allow_leak: bool) -> dict[str, Any]:
    """Return, by model, how many images it was trained on and how many of them are in the data and its held-out parts.

    Raises: DataError if a held-out image is among them, unless `allow_leak`.
    """
    found: dict[str, Any] = {}
    for model, name in zip(mixture.models, mixture.names, strict=True):
        if not model.check_lineage():
            found[name] = {"trained_on": None, "among_the_real": None, "held_out": dict.fromkeys(data.held_out)}
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
                    f"{data.path}, so no result measured on them would be valid",
                    "use a model trained on the training part only, or --allow-leak, which is recorded",
                )
        among = sum(digest in model.trained_on for digest in data.fingerprints())
        found[name] = {"trained_on": len(model.trained_on), "among_the_real": among, "held_out": seen}
    return found


def make_source(
    plugins: Plugins,
    *,
    device: str,
    overrides: Mapping[str, Any] | None = None,
    mirror: str | None = None,
    cluster: Cluster | None = None,
) -> Source:
    """Return a source of all installed and published models, run on `device` ("auto", "cpu", "cuda:0").

    On a `cluster`, "auto" is a GPU if its tasks have one, else the CPU, whatever this machine has.

    Raises: ConfigError, ResourceError for a device that cannot be used.
    """
    if cluster is not None and cluster.gpus_per_task:
        if device != "auto" and not device.startswith("cuda"):
            raise ConfigError(
                f"--gpus-per-task {cluster.gpus_per_task:g} asks for GPUs, and --device {device} uses none",
                "leave out one of them",
            )
        device = "cuda:0"  # the first of those that a task sees
    elif cluster is not None and device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device} on a Ray cluster needs GPUs", "ask for them with --gpus-per-task 1")
    else:
        device = pick_device(device if cluster is None else "cpu")
    return Source(
        plugins=plugins,
        registry=load_registry(plugins=plugins),
        device=device,
        overrides=dict(overrides or {}),
        mirror=mirror,
        cluster=cluster,
    )


def open_signer(given: tuple[Path, Path] | None, mixture: Mixture, *, format: str) -> ManifestSigner | None:
    """Return the signer of a certificate and a key, which has signed an image; None where none is given.

    Raises: ConfigError, as `ManifestSigner`, or for images that are not signed.
    """
    if given is None:
        return None
    if format != "png":
        raise ConfigError(f"--c2pa signs PNGs, not --format {format}", "leave one of them out")
    if remote := [name for name, model in zip(mixture.names, mixture.models, strict=True) if model.remote]:
        raise ConfigError(f"--c2pa does not sign images of a service, as '{remote[0]}' makes them", "leave it out")
    signer = ManifestSigner(*given)
    signer.sign(encode_png(np.zeros((1, 8, 8), np.uint8)), Mark(source_type=TRAINED))
    return signer
