"""The folder of a saved model, generator or classifier: model.safetensors, and config.json that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from medzoo import config as settings
from medzoo.errors import ConfigError, IntegrityError
from medzoo.hub.registry import CLASSIFIER, CONFIG, WEIGHTS
from medzoo.protocols import Classifier, Generator
from medzoo.specs import ClassifierSpec, ImageSpec, ModelSpec
from medzoo.storage.files import read_json, sha256_file, write_atomic, write_json_atomic

# What every config.json states. The weights' hash is there too, because a folder can be damaged as a download can.
_REQUIRED = {"plugin": str, "weights_sha256": str, "config": dict, "image": dict, "data": dict}
# Of a library's error: what failed, and the first tensors that did.
_LINES = 3
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
    """Write the weights in `dtype` and config.json to `folder`.

    `data` says what the model was trained on: name, fingerprint, counts and the fingerprints of the images. `facts` are
    added to config.json as they are.
    """
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    description = {
        "plugin": spec.name,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "config": config.flat(),
        "image": model.image.to_dict(),
        "data": dict(data),
        # A folder that states no kind holds a generator.
        **({"kind": CLASSIFIER} if isinstance(spec, ClassifierSpec) else {}),
        **(facts or {}),
    }
    write_json_atomic(folder / CONFIG, description)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of a model folder's config.json.

    Raises:
        IntegrityError: the file is missing, is not JSON, or lacks a required value.
    """
    path = folder / CONFIG
    try:
        description = read_json(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"cannot read {path}: {error}", _HINT) from error
    if not isinstance(description, dict):
        description = {}
    wrong = sorted(key for key, kind in _REQUIRED.items() if not isinstance(description.get(key), kind))
    if wrong:
        raise IntegrityError(f"{path}: {', '.join(wrong)} missing or of the wrong type", _HINT)
    if not isinstance(description["data"].get("images", []), list):
        raise IntegrityError(f"{path}: data.images is not a list of fingerprints", _HINT)
    return description


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
        IntegrityError: the file's SHA-256 is not `sha256`, or its tensors do not fit.
    """
    try:
        digest = sha256_file(weights)
        if digest != sha256:
            raise IntegrityError(f"{weights} is damaged: its sha256 is {digest}, {CONFIG} says {sha256}", _HINT)
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        summary = " ".join(line.strip() for line in str(error).strip().splitlines()[:_LINES])
        raise IntegrityError(
            f"cannot load {weights}: {summary}", f"{_HINT}; its plugin may have changed since"
        ) from error
