"""Latents of a whole data set: encoded once, kept by content, standardized."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from medzoo.protocols import LabeledImages
from medzoo.toolkit.training.batches import pixels


class Latents:
    """Latents with the labels of their images, as `toolkit.training.train` takes data: float32, used as they are."""

    def __init__(self, values: Tensor, *, labels: np.ndarray, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.labels = labels
        self._values = values.cpu().float().numpy()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> np.ndarray:
        """Latent `index`: float32 (C, H, W) or (D,)."""
        values: np.ndarray = self._values[index]
        return values


class Standardizer(nn.Module):
    """Latents to mean 0 and deviation 1 and back, by channel (N, C, H, W) or by dimension (N, D).

    `limit` is the largest standardized value that was measured: what lies beyond it is no latent of a real image.
    """

    mean: Tensor
    deviation: Tensor
    limit: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        kept = (1, shape[0], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(kept))
        self.register_buffer("deviation", torch.ones(kept))
        self.register_buffer("limit", torch.tensor(4.0))

    def measure(self, latents: Tensor) -> None:
        """Take the statistics of `latents` (N, ...)."""
        others = [axis for axis in range(latents.ndim) if axis != 1]
        self.mean.copy_(latents.mean(dim=others, keepdim=True))
        self.deviation.copy_(latents.std(dim=others, keepdim=True, correction=0).clamp(min=1e-6))
        self.limit.copy_(self(latents.to(self.mean.device)).abs().max())

    def forward(self, latents: Tensor) -> Tensor:
        """Standardized latents."""
        return (latents - self.mean) / self.deviation

    def restore(self, standardized: Tensor) -> Tensor:
        """Latents as the autoencoder knows them."""
        return standardized * self.deviation + self.mean


def encode_all(
    data: LabeledImages, encode: Callable[[Tensor], Tensor], *, mirrored: bool, batch_size: int, device: torch.device
) -> Tensor:
    """Latents float32 of every image, on the CPU; with `mirrored`, those of the mirrored images follow.

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
    """64 hex digits that change with any image of `data`, any weight of `network` and any of `details`."""
    digest = hashlib.sha256(repr(details).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for index in range(len(data)):
        digest.update(data[index].tobytes())
    return digest.hexdigest()
