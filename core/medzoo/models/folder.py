"""The folder of a saved model, generator or classifier: model.safetensors, and config.json that describes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from medzoo import config as settings
from medzoo.errors import ConfigError, DataError, IntegrityError, ResourceError, is_out_of_memory
from medzoo.hub.registry import CLASSIFIER, CONFIG, WEIGHTS
from medzoo.protocols import Classifier, Generator
from medzoo.seeds import global_draws_from
from medzoo.specs import ClassifierSpec, ImageSpec, ModelSpec
from medzoo.storage.files import read_json, sha256_file, write_atomic, write_json_atomic

FINGERPRINTS = "fingerprints.json"
"""The file of a model's folder that says which images it was trained on; it is published on demand only."""

UNKNOWN_LINEAGE = "'{name}' does not say which images it was trained on: real images given here may be among them"
"""The warning about a model whose fingerprints are not published."""

# What every config.json states. The weights' hash is there too, because a folder can be damaged as a download can.
_REQUIRED = {"plugin": str, "weights_sha256": str, "config": dict, "image": dict, "data": dict}
# Of a library's error: what failed, and the first tensors that did.
_LINES = 3
# Numbers and tensors that a network may hold beside those that are saved, as tables of positions.
_UNSAVED, _UNSAVED_TENSORS = 10_000_000, 1_000
_HINT = "pull the model again, or train it again"


def save_model(
    folder: Path,
    model: Generator | Classifier,
    *,
    spec: ModelSpec[Any],
    config: settings.Resolved[Any],
    data: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights in `dtype`, config.json and fingerprints.json to `folder`.

    `data` says what the model was trained on: name, fingerprint, counts and the fingerprints of the images. The latter
    go into a file of their own, because whoever has an image could tell by them whether it was trained on. `facts` are
    added to config.json as they are.

    Raises:
        ResourceError: weights that are NaN; a full or read-only disk.
    """
    data = dict(data)
    fingerprints = {"images": data.pop("images", None)}
    if "validation" in data:
        data["validation"] = dict(data["validation"])
        fingerprints["validation"] = data["validation"].pop("images", None)
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    if name := _name_of_nan(tensors):
        raise ResourceError(
            f"training diverged: the weights {name} are NaN, so no model is written to {folder}",
            "train in another folder with a lower training.learning_rate",
        )
    write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    if stated := {key: known for key, known in fingerprints.items() if known is not None}:
        write_json_atomic(folder / FINGERPRINTS, stated)
    description = {
        "plugin": spec.name,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "config": config.flat(),
        "image": model.image.to_dict(),
        "data": data,
        # A folder that states no kind holds a generator.
        **({"kind": CLASSIFIER} if isinstance(spec, ClassifierSpec) else {}),
        **(facts or {}),
    }
    write_json_atomic(folder / CONFIG, description)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of a model folder's config.json, with the fingerprints of fingerprints.json under "data".

    Raises:
        IntegrityError: a file cannot be read or is not JSON, or config.json lacks a required value.
    """
    path = folder / CONFIG
    description = _read_object(path)
    wrong = sorted(key for key, kind in _REQUIRED.items() if not isinstance(description.get(key), kind))
    if wrong:
        raise IntegrityError(f"{path}: {', '.join(wrong)} missing or of the wrong type", _HINT)
    data = description["data"]
    if (folder / FINGERPRINTS).is_file():
        known = _read_object(folder / FINGERPRINTS)
        data.update({"images": known["images"]} if "images" in known else {})
        if "validation" in known:
            data["validation"] = {**data.get("validation", {}), "images": known["validation"]}
    for place in (data, data.get("validation", {})):
        if not isinstance(place, dict) or not isinstance(place.get("images", []), list):
            raise IntegrityError(f"{folder}: the training images' fingerprints are not lists", _HINT)
    return description


def training_images(description: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the fingerprints of the images that a model was trained on or its weights chosen by; None if unknown.

    `description` as from `read_description`.
    """
    data = description["data"]
    if "images" not in data:
        return None
    return frozenset(map(str, [*data["images"], *data.get("validation", {}).get("images", ())]))


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} for other JSON. Raises: IntegrityError if it is no JSON."""
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"cannot read {path}: {error}", _HINT) from error
    return found if isinstance(found, dict) else {}


def saved_settings(
    spec: ModelSpec[Any], description: Mapping[str, Any], folder: Path
) -> tuple[ImageSpec, settings.Resolved[Any]]:
    """Return the images and the settings that config.json states.

    Raises:
        IntegrityError: this version of the plugin does not have such settings.
    """
    try:
        image = ImageSpec.from_dict(description["image"])
        saved = settings.build(spec.config, settings.rename_saved(spec.config, description["config"]))
    except ConfigError as error:
        raise IntegrityError(f"{folder / CONFIG} does not fit this version of {spec.name}: {error}", _HINT) from error
    return image, settings.Resolved(value=saved, origins=dict.fromkeys(settings.keys(spec.config), "model"))


def override_saved(
    saved: settings.Resolved[Any], overrides: Mapping[str, Any] | None, *, changeable: str = ""
) -> settings.Resolved[Any]:
    """Return a saved model's settings with `overrides`, which may change the group `changeable` only ("sampling").

    An empty `changeable` allows any setting.

    Raises:
        ConfigError: an override changes a setting that the weights depend on.
    """
    changes = dict(overrides or {})
    frozen = [key for key in changes if not key.startswith(f"{changeable}.") and key in saved.origins]
    if frozen and changeable:
        raise ConfigError(
            f"{', '.join(frozen)} cannot change in a trained model",
            f"only {changeable} settings can; for others, train a new model",
        )
    origins = {**saved.origins, **dict.fromkeys(changes, "--set")}
    value = settings.build(type(saved.value), {**saved.flat(), **changes}, origins=origins)
    return replace(saved, value=value, origins=origins)


def load_weights(model: Generator | Classifier, weights: Path, *, sha256: str) -> None:
    """Load the file `weights` into `model`.

    Raises:
        DataError: weights that are NaN.
        IntegrityError: the file's SHA-256 is not `sha256`, or its tensors do not fit.
    """
    with _load_errors(weights):
        _check_digest(weights, sha256)
        tensors = load_file(weights)
        model.load_state_dict(tensors)
    if name := _name_of_nan(tensors):
        raise DataError(
            f"the weights {name} in {weights} are NaN: the model diverged in training",
            "train it again with a lower training.learning_rate",
        )


def check_size(
    spec: ModelSpec[Any], config: settings.Resolved[Any], image: ImageSpec, weights: Path, *, sha256: str
) -> None:
    """Check that the model that config.json describes is no larger than its weights, before memory is taken for it.

    It is built on torch's device "meta", where tensors have a shape and no content. A plugin that cannot build there is
    not checked.

    Raises:
        IntegrityError: the model needs more numbers than the file `weights` holds, or the file cannot be read.
    """
    with _load_errors(weights):
        try:
            with safe_open(weights, framework="pt") as file:
                sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
        except (OSError, SafetensorError):
            _check_digest(weights, sha256)  # a damaged file is called that
            raise
    held = sum(sizes)
    too_large = IntegrityError(
        f"{weights.with_name(CONFIG)} describes a larger model than the {held:,} numbers in {weights.name}", _HINT
    )
    numbers, tensors = 2 * held + _UNSAVED, 2 * len(sizes) + _UNSAVED_TENSORS

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        """Count a tensor that a network is given; some are not saved."""
        nonlocal numbers, tensors
        numbers, tensors = numbers - (tensor.numel() if tensor is not None else 0), tensors - 1
        if min(numbers, tensors) < 0:
            raise too_large

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with torch.device("meta"), global_draws_from(0, torch.device("cpu")):
            model = spec.build(config.value, image, "meta")
        if sum(tensor.numel() for tensor in model.state_dict().values()) > held:
            raise too_large
    except IntegrityError:
        raise
    except Exception as error:
        if "overflow" in str(error).lower():  # more numbers than can be counted
            raise too_large from error
    finally:
        for hook in hooks:
            hook.remove()


def _check_digest(weights: Path, sha256: str) -> None:
    digest = sha256_file(weights)
    if digest != sha256:
        raise IntegrityError(f"{weights} is damaged: its sha256 is {digest}, {CONFIG} says {sha256}", _HINT)


def _name_of_nan(tensors: Mapping[str, Tensor]) -> str:
    """Return the name of a tensor with a NaN, or "" if there is none."""
    return next(
        (name for name, value in tensors.items() if value.is_floating_point() and bool(value.isnan().any())), ""
    )


@contextmanager
def _load_errors(weights: Path) -> Iterator[None]:
    """Turn what fails while weights are loaded into an IntegrityError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        summary = " ".join(line.strip() for line in str(error).strip().splitlines()[:_LINES])
        raise IntegrityError(
            f"cannot load {weights}: {summary}", f"{_HINT}; its plugin may have changed since"
        ) from error
