"""Models in memory: built fresh, saved as model.safetensors + config.json, and loaded back."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from medzoo import config as settings
from medzoo.downloads import to_stderr
from medzoo.errors import ConfigError, IntegrityError, PluginError, ResourceError
from medzoo.files import sha256_file, write_atomic, write_json_atomic
from medzoo.hub import fetch_model
from medzoo.protocols import Generator
from medzoo.registry import CONFIG, WEIGHTS, Registry, resolve
from medzoo.specs import GeneratorSpec, ImageSpec
from medzoo.toolkit.devices import global_draws_from

if TYPE_CHECKING:
    from medzoo.plugins import Plugins


# What every config.json states. The weights' hash stands there too, for a folder can be damaged as a download can.
_STATED = {"plugin": str, "weights_sha256": str, "config": dict, "image": dict, "data": dict}
_MEND = "pull the model again, or train it again"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A generator ready to sample, and what is known of it.

    `trained_on` holds the fingerprints of its training images (`Dataset.fingerprints`), `embedded` the name of the
    data set medzoo can make for it ("phantom", or "" for none).
    """

    name: str
    generator: Generator
    spec: GeneratorSpec
    image: ImageSpec
    config: settings.Resolved[Any]
    crop: str
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
    own = dict(generator.state_dict())
    given = start.generator.state_dict()
    same = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not same:
        raise ConfigError(f"no weights of '{start.name}' fit", "start from a model of the same generator and network")
    generator.load_state_dict({**own, **same})
    return f"{len(same)} of {len(own)}"


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
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in generator.state_dict().items()
    }
    write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    description = {
        "plugin": spec.name,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "config": config.flat(),
        "image": generator.image.to_dict(),
        "data": dict(data),
        **(facts or {}),
    }
    write_json_atomic(folder / CONFIG, description)


def read_description(folder: Path) -> dict[str, Any]:
    """What config.json of a model folder says.

    Raises:
        IntegrityError: it is missing, not JSON, or lacks what every model states, or states it as another type.
    """
    path = folder / CONFIG
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"cannot read {path}: {error}", _MEND) from error
    stated = description if isinstance(description, dict) else {}
    wrong = sorted(key for key, kind in _STATED.items() if not isinstance(stated.get(key), kind))
    if wrong:
        raise IntegrityError(f"{path} lacks {', '.join(wrong)}, or states it as another type", _MEND)
    if not isinstance(stated["data"].get("images", []), list):
        raise IntegrityError(f"{path}: data.images is no list of fingerprints", _MEND)
    return stated


def load_model(
    folder: Path, *, plugins: Plugins, device: str, overrides: Sequence[str] = (), name: str = ""
) -> LoadedModel:
    """The model in `folder` with its weights, on `device`; `overrides` change settings that keep the weights' shapes.

    Raises:
        IntegrityError: the files are damaged or do not fit each other.
        PluginError, UnknownName: its plugin is broken or not installed.
    """
    description = read_description(folder)
    spec = plugins.generator(description["plugin"])
    try:
        image = ImageSpec.from_dict(description["image"])
        saved = settings.build(spec.config, description["config"])
    except ConfigError as error:
        raise IntegrityError(f"{folder / CONFIG} describes no {spec.name} of this version: {error}", _MEND) from error
    resolved = _with_overrides(spec, saved, overrides)
    generator = build_generator(spec, resolved, image, device=device)
    digest = _load_weights(generator, folder / WEIGHTS, sha256=str(description["weights_sha256"]))
    data = description["data"]
    return LoadedModel(
        name=name or str(description.get("id", "")) or folder.resolve().name,
        generator=generator,
        spec=spec,
        image=image,
        config=resolved,
        crop=str(resolved.flat().get("image.crop", "none")),
        weights_sha256=digest,
        trained_on=frozenset(data.get("images", ())),
        embedded=str(data.get("embedded", "")),
    )


def _load_weights(generator: Generator, weights: Path, *, sha256: str) -> str:
    try:
        digest = sha256_file(weights)
        if digest != sha256:
            raise IntegrityError(f"{weights} is damaged: its sha256 is {digest}, {CONFIG} says {sha256}", _MEND)
        generator.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise IntegrityError(f"cannot load {weights}: {str(error).strip().splitlines()[0]}", _MEND) from error
    return digest


def load_gen(
    given: str,
    *,
    image: ImageSpec | None,
    registry: Registry,
    plugins: Plugins,
    device: str,
    overrides: Sequence[str] = (),
    source: str | None = None,
    notice: Callable[[str], None] | None = None,
) -> LoadedModel:
    """The model a GEN argument means: a registry id, a plugin's default model, a folder, or a weightless plugin.

    `image` says what a weightless plugin should make; without it, only models with weights are taken.
    """
    found = resolve(given, registry, plugins)
    if found.folder is not None:
        return load_model(found.folder, plugins=plugins, device=device, overrides=overrides)
    if found.row is not None:
        if found.row.notice:
            (notice or to_stderr)(found.row.notice)
        folder = fetch_model(found.row, source=source, notice=notice)
        return load_model(folder, plugins=plugins, device=device, overrides=overrides, name=found.row.id)
    if image is None:
        raise ConfigError(f"'{given}' has no weights", "`medzoo list` shows the models that have")
    return unloaded_model(found.spec, image=image, device=device, overrides=overrides)


def _with_overrides(spec: GeneratorSpec, saved: Any, overrides: Sequence[str]) -> settings.Resolved[Any]:
    base = settings.Resolved(value=saved, origins=dict.fromkeys(settings.keys(spec.config), "model"))
    changes = settings.parse_overrides(overrides)
    frozen = [key for key in changes if not key.startswith("sampling.") and key in base.origins]
    if frozen and spec.trainable:
        raise ConfigError(
            f"{', '.join(frozen)} cannot change in a trained model", "only sampling settings can, or train anew"
        )
    origins = {**base.origins, **dict.fromkeys(changes, "--set")}
    value = settings.build(spec.config, {**base.flat(), **changes}, origins=origins)
    return replace(base, value=value, origins=origins)
