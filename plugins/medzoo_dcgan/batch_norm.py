"""Batch-norm statistics for sampling, so that no image depends on its batch (Brock et al. 2019).

The running statistics of training belong to the weights at each step, not to their average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from medzoo.protocols import LabeledImages
from medzoo.seeds import generator
from medzoo.toolkit.training.batches import epoch_order

if TYPE_CHECKING:
    from medzoo_dcgan.settings import DCGANConfig

BATCHES = 16

Network = TypeVar("Network", bound=nn.Module)


def batch_norm_batches(
    data: LabeledImages, config: DCGANConfig, *, seed: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Return batches of noise (N, latent) and labels (N,), as large and as balanced as those of training."""
    count = BATCHES * config.training.batch_size
    labels = torch.from_numpy(data.labels)
    labels = labels[epoch_order(labels, count=count, balanced=config.training.class_balanced, seed=seed, epoch=0)]
    latents = torch.randn(count, config.network.latent_dim, generator=generator(seed, "standing statistics"))
    return list(zip(latents.to(device).chunk(BATCHES), labels.to(device).chunk(BATCHES), strict=True))


def set_batch_norm_statistics(network: Network, batches: Sequence[tuple[Tensor, Tensor]]) -> Network:
    """Set the running statistics of `network` to the means over `batches`, and return it."""
    update_bn(({"latents": latents, "labels": labels} for latents, labels in batches), _Unpacked(network))
    return network


class _Unpacked(nn.Module):
    """A network called with the single argument that `update_bn` passes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        images: Tensor = self.network(batch["latents"], batch["labels"])
        return images
