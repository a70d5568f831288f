"""What a folder of any kind of model holds: model.safetensors, and config.json that describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from medzoo import config as settings
from medzoo.errors import ConfigError, IntegrityError
from medzoo.hub.registry import CONFIG, WEIGHTS
from medzoo.protocols import Classifier, Generator
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec
from medzoo.storage.files import sha256_file, write_atomic, write_json_atomic

# What every config.json states. The weights' hash stands there too, for a folder can be damaged as a download can.
_STATED = {"plugin": str, "weights_sha256": str, "config": dict, "image": dict, "data": dict}
# Of a library's error: what failed, and the first tensors that did.
_LINES = 3
_MEND = "pull the model again, or train it again"


def write_model(
    folder: Path,
    model: Generator | Classifier,
    *,
    plugin: str,
    config: settings.Resolved[Any],
    data: Mapping[str, Any],
    dtype: torch.dtype,
    facts: Mapping[str, Any],
) -> None:
    """Nothing; `folder` then holds the weights in `dtype`, and config.json, to which `facts` are added as they are."""
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    description = {
        "plugin": plugin,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "config": config.flat(),
        "image": model.image.to_dict(),
        "data": dict(data),
        **facts,
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


def described(
    spec: GeneratorSpec | ClassifierSpec, description: Mapping[str, Any], folder: Path
) -> tuple[ImageSpec, settings.Resolved[Any]]:
    """The images and the settings a description states. Raises: IntegrityError where this version knows none such."""
    try:
        image = ImageSpec.from_dict(description["image"])
        saved = settings.build(spec.config, description["config"])
    except ConfigError as error:
        raise IntegrityError(f"{folder / CONFIG} describes no {spec.name} of this version: {error}", _MEND) from error
    return image, settings.Resolved(value=saved, origins=dict.fromkeys(settings.keys(spec.config), "model"))


def overridden(
    saved: settings.Resolved[Any], overrides: Sequence[str], *, changeable: str = ""
) -> settings.Resolved[Any]:
    """The settings of a saved model with overrides, of which each must be one of the `changeable` ("sampling") ones.

    Raises:
        ConfigError: one is another, which the weights depend on; `changeable` "" takes any.
    """
    changes = settings.parse_overrides(overrides)
    frozen = [key for key in changes if not key.startswith(f"{changeable}.") and key in saved.origins]
    if frozen and changeable:
        raise ConfigError(
            f"{', '.join(frozen)} cannot change in a trained model", f"only {changeable} settings can, or train anew"
        )
    origins = {**saved.origins, **dict.fromkeys(changes, "--set")}
    value = settings.build(type(saved.value), {**saved.flat(), **changes}, origins=origins)
    return replace(saved, value=value, origins=origins)


def load_weights(model: Generator | Classifier, weights: Path, *, sha256: str) -> str:
    """The weights' SHA-256, once the model has taken them. Raises: IntegrityError if they are damaged or do not fit."""
    try:
        digest = sha256_file(weights)
        if digest != sha256:
            raise IntegrityError(f"{weights} is damaged: its sha256 is {digest}, {CONFIG} says {sha256}", _MEND)
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        told = " ".join(line.strip() for line in str(error).strip().splitlines()[:_LINES])
        raise IntegrityError(f"cannot load {weights}: {told}", f"{_MEND}; has its plugin changed since?") from error
    return digest


def take_weights(model: Generator | Classifier, start: Generator | Classifier, *, name: str) -> str:
    """How many tensors, as "n of m", `model` took over from `start`: those of the same name and shape.

    Raises:
        ConfigError: there are none.
    """
    own = dict(model.state_dict())
    given = start.state_dict()
    same = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not same:
        raise ConfigError(f"no weights of '{name}' fit", "start from a model of the same plugin and network")
    model.load_state_dict({**own, **same})
    return f"{len(same)} of {len(own)}"


def number_of_weights(model: Generator | Classifier) -> int:
    """How many numbers the weights hold."""
    return sum(tensor.numel() for tensor in model.state_dict().values())
