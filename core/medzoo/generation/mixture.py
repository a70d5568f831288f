"""Mixtures of generators (`a=0.8`, `b=0.2`): parse and load them, and check them against the real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from medzoo import config as settings
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.generation.plan import distinct, file_safe, make_plan
from medzoo.generation.real_images import natural_image
from medzoo.generation.sampler import Sampler
from medzoo.hub.registry import Registry, load_registry, resolve
from medzoo.hub.repositories import check_source
from medzoo.models.devices import pick_device
from medzoo.models.loading import LoadedModel, load_by_name
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Generator
from medzoo.specs import ImageSpec

_EXAMPLE = "for instance --gen ddpm-busi=0.8 --gen ddpm-var-busi=0.2"


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
    """Models, their shares, which sum to 1, and the file-safe names used in file names and seeds."""

    models: tuple[LoadedModel[Generator], ...]
    shares: tuple[Fraction, ...]
    names: tuple[str, ...]

    def sampler(self, counts: Mapping[str, int], *, real: Dataset | None, batch_size: int, seed: int) -> Sampler:
        """Return a sampler of `counts` images of each label. Raises: DataError, as `Sampler`."""
        plan = make_plan(counts, names=self.names, shares=self.shares, batch_size=batch_size, seed=seed)
        return Sampler(self.models, plan, real=real)

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
    return Mixture(models=(model,), shares=(Fraction(1),), names=tuple(distinct([file_safe(name or model.name)])))


def parse_mixture(given: Sequence[str]) -> list[tuple[str, Fraction]]:
    """Parse "GEN" and "GEN=SHARE" arguments to names and shares, which are positive and sum to exactly 1.

    Raises:
        ConfigError: shares that do not sum to 1 within 1e-6, a missing share, or a repeated name.
    """
    if not given:
        raise ConfigError("no generator is given", "name one with --gen; `medzoo list` shows them")
    if len(given) == 1 and _split(given[0])[1] is None:
        return [(given[0], Fraction(1))]
    names, shares = [], []
    for text in given:
        name, share = _split(text)
        if share is None:
            raise ConfigError(f"a mixture needs a share for every generator, '{text}' has none", _EXAMPLE)
        if name in names:
            raise ConfigError(f"the generator '{name}' is given twice", "add up its shares")
        names.append(name)
        shares.append(_share(share, text))
    total = sum(shares, Fraction(0))
    if abs(total - 1) > Fraction(1, 10**6):
        raise ConfigError(f"the shares of a mixture must sum to 1, these sum to {float(total):g}", _EXAMPLE)
    return [(name, share / total) for name, share in zip(names, shares, strict=True)]


def _split(text: str) -> tuple[str, str | None]:
    """Split "NAME=SHARE" at the last '='; the path of an existing folder is a name even if it contains one."""
    name, equals, share = text.rpartition("=")
    if not equals or Path(text).is_dir():
        return text, None
    return name, share


def _share(share: str, text: str) -> Fraction:
    try:
        value = Fraction(share)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"the share in '{text}' must be a number, not '{share}'", _EXAMPLE) from None
    if value <= 0:
        raise ConfigError(f"the share in '{text}' must be more than 0", _EXAMPLE)
    return value


def load_mixture(
    given: Sequence[str], source: Source, *, open_real: Callable[[LoadedModel[Generator] | None], Dataset | None]
) -> tuple[Mixture, Dataset | None]:
    """Load the models that the GEN arguments mean, and the real images, which `open_real` finds for the first model.

    Generators without weights make images like the first model's, or like the real ones if there is no such model.
    Raises: UnknownName, ConfigError, HubError, DataError.
    """
    shares = dict(parse_mixture(given))
    for name in shares:
        check_source(name, source.mirror)
    overrides = _overrides_by_generator(list(shares), source)
    found = {name: resolve(name, source.registry, source.plugins) for name in shares}
    bare = [name for name, one in found.items() if one.entry is None and one.folder is None]
    loaded = {name: load_from(name, source, overrides=overrides[name]) for name in shares if name not in bare}
    lead = next(iter(loaded.values()), None)
    real = open_real(lead)
    loaded |= {name: _load_parameter_free(name, lead, real, source, overrides[name]) for name in bare}
    models = tuple(loaded[name] for name in shares)
    names = tuple(distinct([file_safe(model.name) for model in models]))
    return Mixture(models=models, shares=tuple(shares.values()), names=names), real


def _overrides_by_generator(given: Sequence[str], source: Source) -> dict[str, dict[str, Any]]:
    """Return each generator's part of the overrides; an unknown key goes to all, where it raises."""
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
    """Load the model that a GEN argument means, with `overrides` in place of the source's."""
    return load_by_name(
        given,
        image=image,
        registry=source.registry,
        plugins=source.plugins,
        device=source.device,
        overrides=source.overrides if overrides is None else overrides,
        source=source.mirror,
    )


def _load_parameter_free(
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


def check_classes(mixture: Mixture, data: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError if a model does not know one of `labels`."""
    for model in mixture.models:
        unknown = [label for label in labels if label not in model.image.classes]
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
    plugins: Plugins, *, device: str, overrides: Mapping[str, Any] | None = None, mirror: str | None = None
) -> Source:
    """Return a source of all installed and published models, run on `device` ("auto", "cpu", "cuda:0").

    Raises: ConfigError, ResourceError for a device that cannot be used.
    """
    return Source(
        plugins=plugins,
        registry=load_registry(plugins=plugins),
        device=pick_device(device),
        overrides=dict(overrides or {}),
        mirror=mirror,
    )
