"""The generator: its provider, and images to and from encoded files in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.errors import ConfigError
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.toolkit.remote import Service
from medzoo.toolkit.validation import check_init_images
from medzoo_api_variation.diffusers_provider import DiffusersProvider
from medzoo_api_variation.openai_provider import OpenAIProvider
from medzoo_api_variation.providers import Provider

if TYPE_CHECKING:
    from medzoo_api_variation.settings import ApiVariationConfig


class ApiVariation(nn.Module):
    """A RemoteGenerator without weights of its own: image i is the provider's variation of `init_images[i]`."""

    def __init__(self, config: ApiVariationConfig, image: ImageSpec, device: str) -> None:
        super().__init__()
        self.config = config
        self.image = image
        self.provider: Provider
        if config.provider == "openai":
            self.provider = OpenAIProvider(config.openai, config.requests, prompt=config.prompt)
        else:
            self.provider = DiffusersProvider(config.diffusers, device)

    @property
    def service(self) -> Service | None:
        """Return the API; None if a pipeline runs on this machine."""
        return self.provider.service

    def connect(self) -> None:
        """Prepare for requests. Raises: ConfigError."""
        self.provider.connect()

    def request(self, image: bytes, label: str, *, seed: int, idempotency_key: str) -> bytes:
        """Send one request to the API and return the bytes of an image file. Raises: as `RemoteGenerator.request`."""
        return self.provider.vary(image, self._prompt(label), seed=seed, idempotency_key=idempotency_key)

    def fit(
        self,
        data: LabeledImages,
        *,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Do nothing: there are no weights to train."""

    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Generate one variation per seed with the local pipeline, float32 (N, C, H, W) in [0, 1].

        Raises:
            DataError: no init_images, or not one label and one init_image per seed.
            ConfigError: the provider is an API, whose requests must be allowed and counted.
            HubError: the pipeline cannot be loaded.
        """
        if self.service is not None:
            raise ConfigError(
                f"'api-variation' asks {self.service.host}, and keeps every image it pays for in a folder",
                "give --out; medzoo sample and medzoo augment ask, count and record",
            )
        init_images = check_init_images(self.image, seeds, labels, init_images)
        rows = zip(init_images, labels.tolist(), seeds, strict=True)
        return torch.stack([self._vary(source, self.image.classes[label], seed) for source, label, seed in rows])

    def _vary(self, source: Tensor, label: str, seed: int) -> Tensor:
        """Return the variation of one image, float32 (C, H, W)."""
        answer = self.provider.vary(_to_png(source), self._prompt(label), seed=seed, idempotency_key="")
        with Image.open(io.BytesIO(answer)) as opened:
            square = (self.image.size, self.image.size)
            made = opened.convert("L" if self.image.channels == 1 else "RGB").resize(square, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(made, dtype=np.float32)) / 255.0
        return pixels.unsqueeze(0) if self.image.channels == 1 else pixels.permute(2, 0, 1).contiguous()

    def _prompt(self, label: str) -> str:
        return self.config.prompt.replace("{label}", label)


def _to_png(image: Tensor) -> bytes:
    """Encode float pixels (C, H, W) in [0, 1] as an RGB PNG."""
    pixels = (image.expand(3, -1, -1) * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()
