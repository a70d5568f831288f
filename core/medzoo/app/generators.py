"""The generators that images can be asked of: published ones, trained ones in the served folder, weightless ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.app.paths import inside, walk
from medzoo.config import keys
from medzoo.errors import ConfigError
from medzoo.hub.entries import CONFIG, GENERATOR, WEIGHTS
from medzoo.hub.registry import Registry, is_model_folder, load_registry
from medzoo.hub.repositories import is_reference
from medzoo.hub.sources import AT_HAND, locate
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.storage.files import read_json

logger = logging.getLogger(__name__)

STEPS, GUIDANCE = "sampling.num_inference_steps", "sampling.guidance_scale"
ANY_IMAGE = "own-image"
"""The class that stands for those of a generator without weights, which makes images like the real ones it is given."""

_READ = (CONFIG, WEIGHTS, "fingerprints.json")


@dataclass(frozen=True, kw_only=True)
class DrawableModel:
    """A generator whose files are on this machine, and what it can be asked for; `steps` and `guidance` are its own.

    `name` is what `--gen` takes in the served folder. `needs_images`: it only varies real images.
    """

    name: str
    classes: tuple[str, ...]
    multi_label: bool = False
    steps: int | None = None
    guidance: float | None = None
    varies_images: bool = False
    needs_images: bool = False


def drawable_models(root: Path) -> dict[str, DrawableModel]:
    """Return the generators at hand, by name: published, then trained ones below `root`, then those without weights.

    None of them sends images anywhere.
    """
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    found = [*_published(registry, plugins), *_trained(root, registry, plugins), *_weightless(plugins)]
    return {model.name: model for model in found}


def find_generator(root: Path, name: str | None) -> DrawableModel:
    """Return a generator at hand. Raises: ConfigError if there is none of this name, as its folder may be removed."""
    models = drawable_models(root)
    if not name or name not in models:
        raise ConfigError(f"there is no generator '{name or ''}' any more", "choose another one")
    return models[name]


def _published(registry: Registry, plugins: Plugins) -> Iterator[DrawableModel]:
    for entry in registry.entries:
        state, folder = locate(entry)
        spec = plugins.generators.get(entry.plugin)
        if entry.kind != GENERATOR or spec is None or state not in AT_HAND or folder is None:
            continue
        try:
            stated = _stated(read_json(folder / CONFIG))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning(f"{folder / CONFIG} cannot be read: {error}")
            stated = {}
        yield DrawableModel(name=entry.name, classes=entry.classes, varies_images=spec.varies_images, **stated)


def _trained(root: Path, registry: Registry, plugins: Plugins) -> Iterator[DrawableModel]:
    """Yield the trained generators below `root`; those with a link that leads out, and foreign files, are left out."""
    for folder in walk(root):
        if folder == root or not is_model_folder(folder):
            continue
        path = folder.relative_to(root).as_posix()
        try:
            for name in _READ:
                inside(root, f"{path}/{name}")
            content = read_json(folder / CONFIG)
            spec = plugins.generators.get(content["plugin"])
            classes = tuple(map(str, content["image"]["classes"]))
            stated = _stated(content)
            if spec is None or not spec.trainable or not classes or content.get("kind", GENERATOR) != GENERATOR:
                continue
        except (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        # A name of the registry, or one that begins as an option or a repository does, is not taken for a folder.
        taken = path in registry.models or path in plugins.generators or path.startswith("-") or is_reference(path)
        name = f"./{path}" if taken else path
        yield DrawableModel(name=name, classes=classes, varies_images=spec.varies_images, **stated)


def _weightless(plugins: Plugins) -> Iterator[DrawableModel]:
    """Yield the generators without weights, but for those that may ask a service for images."""
    for name, spec in plugins.generators.items():
        if not spec.trainable and not any(key.startswith("requests.") for key in keys(spec.config)):
            yield DrawableModel(name=name, classes=(ANY_IMAGE,), needs_images=spec.needs_init_images)


def _stated(content: Any) -> dict[str, Any]:
    """Return what config.json states of how a model is asked."""
    steps, guidance = content["config"].get(STEPS), content["config"].get(GUIDANCE)
    return {
        "multi_label": content["image"].get("multi_label") is True,
        "steps": steps if isinstance(steps, int) else None,
        "guidance": float(guidance) if isinstance(guidance, int | float) else None,
    }
