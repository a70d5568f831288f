"""The private provider: an open-weights pipeline of diffusers, which sends nothing anywhere."""

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
    """Varies pictures by the pipeline of a Hub id or folder, one at a time, so that none depends on its company."""

    def __init__(self, settings: DiffusersSettings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._pipeline: Any = None
        self._loading = threading.Lock()

    @property
    def service(self) -> Service | None:
        """None: the images stay here."""
        return None

    def connect(self) -> None:
        """Load the pipeline. Raises: ConfigError if it varies no images; HubError if it cannot be had."""
        with self._loading:
            if self._pipeline is None:
                self._pipeline = load_pipeline(self._settings, self._device)

    def vary(self, picture: bytes, prompt: str, *, seed: int, idempotency_key: str) -> bytes:
        """A PNG of the pipeline's size, drawn from `seed`."""
        self.connect()
        side = self._settings.size
        with Image.open(io.BytesIO(picture)) as opened:
            source = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        offered = {
            "image": source,
            "prompt": prompt,
            "height": side,
            "width": side,
            "strength": self._settings.strength,
            "num_inference_steps": self._settings.num_inference_steps,
            "guidance_scale": self._settings.guidance_scale,
            "generator": generator("api-variation", seed),
        }
        taken = {name: offered[name] for name in _parameters(self._pipeline) & offered.keys()}
        (made,) = self._pipeline(**taken).images
        buffer = io.BytesIO()
        made.save(buffer, format="PNG")
        return buffer.getvalue()


def load_pipeline(settings: DiffusersSettings, device: str) -> Any:
    """The pipeline on `device`, of the class that its model_index.json names or of that class's image-to-image sister.

    Safetensors only, and only classes of diffusers itself.
    Raises: ConfigError, HubError.
    """
    if not settings.model:
        raise ConfigError(
            "no pipeline is named to vary images with", "give a folder or Hub id: --set diffusers.model=FOLDER"
        )
    if find_spec("transformers") is None:
        raise ConfigError("provider = diffusers needs transformers", "pip install 'medzoo[variation]'")
    import diffusers

    dtype = _DTYPES[resolve_precision(settings.mixed_precision, torch.device(device))]
    try:
        index = diffusers.DiffusionPipeline.load_config(settings.model, revision=settings.revision)
        pipeline: Any = _class_for(str(index.get("_class_name"))).from_pretrained(
            settings.model, revision=settings.revision, use_safetensors=True, dtype=dtype
        )
    except OSError as error:  # diffusers' one answer to whatever is missing, on disk or on the Hub
        reason = str(error).strip().splitlines()[0]
        raise HubError(
            f"the pipeline '{settings.model}' cannot be had: {reason}",
            "it should hold model_index.json and safetensors weights; pickled weights are not read",
        ) from error
    except ValueError as error:  # no class of diffusers makes an image of an image by these weights
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the pipeline '{settings.model}' makes no image of another: {reason}",
            "take one that varies images, such as StableDiffusionImageVariationPipeline, or has an image-to-image form",
        ) from error
    if "strength" in _parameters(pipeline) and int(settings.num_inference_steps * settings.strength) < 1:
        raise ConfigError(
            f"diffusers.num_inference_steps = {settings.num_inference_steps} at diffusers.strength = "
            f"{settings.strength:g} leaves no step to take",
            "raise one of them",
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _class_for(name: str) -> Any:
    """The class `name` if it makes one image of another, else the one that finds its image-to-image sister.

    Raises: ValueError if diffusers has no such class.
    """
    import diffusers

    kind = getattr(diffusers, name, None)
    if kind is None:
        raise ValueError(f"diffusers has no {name}")
    if {"image", "generator"} <= _parameters(kind) and "mask_image" not in _parameters(kind):
        return kind
    return diffusers.AutoPipelineForImage2Image


def _parameters(pipeline: Any) -> Set[str]:
    """The names of what a pipeline takes when called."""
    return inspect.signature(pipeline.__call__).parameters.keys()
