"""Latents of a whole data set: encoded once, cached by content, standardized."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from medzoo.protocols import LabeledImages
from medzoo.toolkit.training.batches import pixels


class Latents:
    """Latents with the labels of their images, as data for `training.loop.train`: float32, not augmented."""

    def __init__(self, values: Tensor, *, labels: np.ndarray, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.labels = labels
        self._values = values.cpu().float().numpy()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return latent `index`, float32 (C, H, W) or (D,)."""
        values: np.ndarray = self._values[index]
        return values


class Standardizer(nn.Module):
    """Standardizes latents to mean 0 and standard deviation 1, per channel (N, C, H, W) or dimension (N, D).

    `limit` is the largest absolute standardized value of the fitted latents: no real image's latent lies beyond it.
    """

    mean: Tensor
    deviation: Tensor
    limit: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = (1, shape[0], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("limit", torch.tensor(4.0))

    def fit(self, latents: Tensor) -> None:
        """Set the statistics to those of `latents` (N, ...)."""
        others = [axis for axis in range(latents.ndim) if axis != 1]
        self.mean.copy_(latents.mean(dim=others, keepdim=True))
        self.deviation.copy_(latents.std(dim=others, keepdim=True, correction=0).clamp(min=1e-6))
        self.limit.copy_(self(latents.to(self.mean.device)).abs().max())

    def forward(self, latents: Tensor) -> Tensor:
        """Standardize latents (N, ...)."""
        return (latents - self.mean) / self.deviation

    def inverse(self, standardized: Tensor) -> Tensor:
        """Undo `forward`."""
        return standardized * self.deviation + self.mean


def encode_all(
    data: LabeledImages, encode: Callable[[Tensor], Tensor], *, mirrored: bool, batch_size: int, device: torch.device
) -> Tensor:
    """Encode every image of `data`: float32 latents on the CPU; with `mirrored`, those of the mirrored images follow.

    `encode` takes images float32 (N, C, H, W) in [0, 1].
    """
    found: list[list[Tensor]] = [[], []]
    for start in range(0, len(data), batch_size):
        chosen = range(start, min(start + batch_size, len(data)))
        images = pixels(data, chosen).to(device)
        for way, side in zip(found, (images, images.flip(-1)) if mirrored else (images,), strict=False):
            way.append(encode(side).float().cpu())
    return torch.cat([*found[0], *found[1]])


def content_key(data: LabeledImages, network: nn.Module, *details: object) -> str:
    """Return a SHA-256 of the images of `data`, the weights of `network` and `details`, as a cache key."""
    digest = hashlib.sha256(repr(details).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for index in range(len(data)):
        digest.update(data[index].tobytes())
    return digest.hexdigest()
