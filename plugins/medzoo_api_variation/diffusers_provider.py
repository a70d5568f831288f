"""The local provider: an open-weights pipeline of diffusers, which uploads nothing."""

from __future__ import annotations

import inspect
import io
import threading
from collections.abc import Set
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from medzoo.errors import ConfigError, HubError
from medzoo.seeds import generator
from medzoo.toolkit.devices import resolve_precision
from medzoo.toolkit.remote import Service

if TYPE_CHECKING:
    from medzoo_api_variation.settings import DiffusersSettings

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class DiffusersProvider:
    """Varies images with a pipeline from a Hub id or folder, one at a time, so that none depends on its batch."""

    def __init__(self, settings: DiffusersSettings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._pipeline: Any = None
        self._loading = threading.Lock()

    @property
    def service(self) -> Service | None:
        """Return None: the images stay on this machine."""
        return None

    def connect(self) -> None:
        """Load the pipeline. Raises: ConfigError if it is not image-to-image; HubError if it cannot be loaded."""
        with self._loading:
            if self._pipeline is None:
                self._pipeline = load_pipeline(self._settings, self._device)

    def vary(self, image: bytes, prompt: str, *, seed: int, idempotency_key: str) -> bytes:
        """Return a PNG of the pipeline's size, generated from `seed`."""
        self.connect()
        side = self._settings.size
        with Image.open(io.BytesIO(image)) as opened:
            source = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        supported = {
            "image": source,
            "prompt": prompt,
            "height": side,
            "width": side,
            "strength": self._settings.strength,
            "num_inference_steps": self._settings.num_inference_steps,
            "guidance_scale": self._settings.guidance_scale,
            "generator": generator("api-variation", seed),
        }
        arguments = {name: supported[name] for name in _parameters(self._pipeline) & supported.keys()}
        (variation,) = self._pipeline(**arguments).images
        buffer = io.BytesIO()
        variation.save(buffer, format="PNG")
        return buffer.getvalue()


def load_pipeline(settings: DiffusersSettings, device: str) -> Any:
    """Load the pipeline on `device`: its model_index.json's class, or the image-to-image counterpart of it.

    Safetensors only, and only classes of diffusers itself.

    Raises:
        ConfigError: no model is given, transformers is missing, or the pipeline is not image-to-image.
        HubError: the pipeline cannot be loaded.
    """
    if not settings.model:
        raise ConfigError("diffusers.model is not set", "give a folder or Hub id: --set diffusers.model=FOLDER")
    if find_spec("transformers") is None:
        raise ConfigError("provider = diffusers needs transformers", "pip install 'medzoo[variation]'")
    import diffusers

    dtype = _DTYPES[resolve_precision(settings.mixed_precision, torch.device(device))]
    try:
        index = diffusers.DiffusionPipeline.load_config(settings.model, revision=settings.revision)
        pipeline: Any = _class_for(str(index.get("_class_name"))).from_pretrained(
            settings.model, revision=settings.revision, use_safetensors=True, dtype=dtype
        )
    except OSError as error:  # diffusers raises it for anything missing, on disk or on the Hub
        reason = str(error).strip().splitlines()[0]
        raise HubError(
            f"the pipeline '{settings.model}' cannot be loaded: {reason}",
            "it should hold model_index.json and safetensors weights; pickled weights are not read",
        ) from error
    except ValueError as error:  # diffusers has no image-to-image class for these weights
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the pipeline '{settings.model}' is not image-to-image: {reason}",
            "take one that varies images, such as StableDiffusionImageVariationPipeline, or has an image-to-image form",
        ) from error
    if "strength" in _parameters(pipeline) and int(settings.num_inference_steps * settings.strength) < 1:
        raise ConfigError(
            f"diffusers.num_inference_steps = {settings.num_inference_steps} at diffusers.strength = "
            f"{settings.strength:g} leaves no denoising step",
            "raise one of them",
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _class_for(name: str) -> Any:
    """Return the class `name` if it is image-to-image, else the class that finds its image-to-image counterpart.

    Raises:
        ValueError: diffusers has no such class.
    """
    import diffusers

    kind = getattr(diffusers, name, None)
    if kind is None:
        raise ValueError(f"diffusers has no {name}")
    if {"image", "generator"} <= _parameters(kind) and "mask_image" not in _parameters(kind):
        return kind
    return diffusers.AutoPipelineForImage2Image


def _parameters(pipeline: Any) -> Set[str]:
    """Return the names of the arguments of a pipeline's call."""
    return inspect.signature(pipeline.__call__).parameters.keys()
