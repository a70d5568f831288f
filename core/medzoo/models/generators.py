"""Models in memory: built fresh, saved as model.safetensors + config.json, and loaded back."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medzoo import config as settings
from medzoo.errors import ConfigError, PluginError, ResourceError
from medzoo.hub.registry import GENERATOR, WEIGHTS, Registry, check_kind, resolve
from medzoo.hub.sources import fetch_model
from medzoo.models.folder import (
    described,
    load_weights,
    overridden,
    read_description,
    take_weights,
    write_model,
)
from medzoo.protocols import Generator
from medzoo.seeds import global_draws_from
from medzoo.specs import GeneratorSpec, ImageSpec

if TYPE_CHECKING:
    from medzoo.plugins.lookup import Plugins

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A generator ready to sample, and what is known of it.

    `folder` is the one it was loaded from, `trained_on` holds the fingerprints of its training images
    (`Dataset.fingerprints`), `embedded` the name of the data set medzoo can make for it ("phantom", or "" for none).
    """

    name: str
    generator: Generator
    spec: GeneratorSpec
    image: ImageSpec
    config: settings.Resolved[Any]
    crop: str
    folder: Path | None = None
    weights_sha256: str | None = None
    trained_on: frozenset[str] = frozenset()
    embedded: str = ""


def pick_device(device: str) -> str:
    """The torch device meant by "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ConfigError: no such kind of device.
        ResourceError: a device this machine does not have.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"unknown device '{device}'", "use auto, cpu, cuda, cuda:N or mps")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not present or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise ResourceError(f"this machine has no device {device}", "`medzoo doctor` shows its devices; --device cpu")
    return f"cuda:{index or 0}" if kind == "cuda" else kind


def hardware(device: str) -> str:
    """The name of the processor or GPU behind a torch device, with the threads a CPU uses."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{named[0] if named else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def build_generator(
    spec: GeneratorSpec, resolved: settings.Resolved[Any], image: ImageSpec, *, device: str, seed: int = 0
) -> Generator:
    """A generator with fresh weights drawn from `seed`, whatever the global random state, which stays as it is."""
    with global_draws_from(seed, torch.device(device)):
        generator = spec.build(resolved.value, image, device)
    if not isinstance(generator, Generator):
        raise PluginError(f"{spec.name} built no Generator", f"run `medzoo plugin check {spec.name}`")
    return generator


def start_from(generator: Generator, start: LoadedModel) -> str:
    """How many tensors, as "n of m", `generator` took over from `start`: those of the same name and shape.

    Raises:
        ConfigError: there are none.
    """
    return take_weights(generator, start.generator, name=start.name)


def unloaded_model(
    spec: GeneratorSpec, *, image: ImageSpec, device: str, preset: str = "default", overrides: Sequence[str] = ()
) -> LoadedModel:
    """A generator that needs no weights, such as `classic`, for images like `image`."""
    resolved = settings.resolve(spec.config, presets=spec.presets, preset=preset, overrides=overrides)
    generator = build_generator(spec, resolved, image, device=device)
    crop = str(resolved.flat().get("image.crop", "none"))
    return LoadedModel(name=spec.name, generator=generator, spec=spec, image=image, config=resolved, crop=crop)


def save_model(
    folder: Path,
    generator: Generator,
    *,
    spec: GeneratorSpec,
    config: settings.Resolved[Any],
    data: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Nothing; `folder` then holds the model: its weights in `dtype`, and config.json.

    `data` says what it was trained on: name, fingerprint, counts and the fingerprints of the images. `facts` are
    added to config.json as they are.
    """
    write_model(folder, generator, plugin=spec.name, config=config, data=data, dtype=dtype, facts=facts or {})


def load_model(
    folder: Path, *, plugins: Plugins, device: str, overrides: Sequence[str] = (), name: str = ""
) -> LoadedModel:
    """The model in `folder` with its weights, on `device`; `overrides` change settings that keep the weights' shapes.

    Raises:
        IntegrityError: the files are damaged or do not fit each other.
        PluginError, UnknownName: its plugin is broken or not installed.
    """
    description = read_description(folder)
    check_kind(str(folder), str(description.get("kind", GENERATOR)), expected=GENERATOR)
    spec = plugins.generator(description["plugin"])
    image, saved = described(spec, description, folder)
    resolved = overridden(saved, overrides, changeable="sampling" if spec.trainable else "")
    generator = build_generator(spec, resolved, image, device=device)
    digest = load_weights(generator, folder / WEIGHTS, sha256=str(description["weights_sha256"]))
    data = description["data"]
    return LoadedModel(
        name=name or str(description.get("id", "")) or folder.resolve().name,
        generator=generator,
        spec=spec,
        image=image,
        config=resolved,
        crop=str(resolved.flat().get("image.crop", "none")),
        folder=folder,
        weights_sha256=digest,
        trained_on=frozenset(data.get("images", ())),
        embedded=str(data.get("embedded", "")),
    )


def load_gen(
    given: str,
    *,
    image: ImageSpec | None,
    registry: Registry,
    plugins: Plugins,
    device: str,
    overrides: Sequence[str] = (),
    source: str | None = None,
) -> LoadedModel:
    """The model a GEN argument means: a registry id, a plugin's default model, a folder, or a weightless plugin.

    `image` says what a weightless plugin should make; without it, only models with weights are taken.
    """
    found = resolve(given, registry, plugins)
    if found.folder is not None:
        return load_model(found.folder, plugins=plugins, device=device, overrides=overrides)
    if found.entry is not None:
        if found.entry.notice:
            logger.warning(found.entry.notice)
        folder = fetch_model(found.entry, source=source)
        return load_model(folder, plugins=plugins, device=device, overrides=overrides, name=found.entry.id)
    if image is None:
        raise ConfigError(f"'{given}' has no weights", "`medzoo list` shows the models that have")
    return unloaded_model(found.spec, image=image, device=device, overrides=overrides)
