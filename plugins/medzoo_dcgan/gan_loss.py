"""The losses of the two networks of a DCGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.toolkit.devices import to_device
from medzoo.toolkit.training.batches import Batch
from medzoo.toolkit.training.diffaugment import differentiable_augment

if TYPE_CHECKING:
    from medzoo_dcgan.settings import DCGANConfig


class GANLoss:
    """The losses of discriminator and generator, for the training loop; every draw comes from its `random`."""

    def __init__(self, config: DCGANConfig) -> None:
        self.config = config

    def discriminator_loss(
        self, discriminator: nn.Module, generator: nn.Module, batch: Batch, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss on real and on generated images (Goodfellow et al. 2014, eq. 1; hinge: Lim & Ye 2017)."""
        with torch.no_grad():
            fake = self._generate(generator, batch, random)
        # each kind is a batch of its own, so that batch norm never mixes the two
        on_real = discriminator(self._augment(batch.images * 2.0 - 1.0, random), batch.labels).float()
        on_fake = discriminator(self._augment(fake, random), batch.labels).float()
        if self.config.loss == "hinge":
            return {"real": (1.0 - on_real).relu().mean(), "fake": (1.0 + on_fake).relu().mean()}
        return {"real": functional.softplus(-on_real).mean(), "fake": functional.softplus(on_fake).mean()}

    def generator_loss(
        self, generator: nn.Module, discriminator: nn.Module, batch: Batch, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the loss, by its name in the settings (Goodfellow et al. 2014, section 3; hinge: Lim & Ye 2017)."""
        fake = self._augment(self._generate(generator, batch, random), random)
        logits = discriminator(fake, batch.labels).float()
        if self.config.loss == "hinge":
            return {"hinge": -logits.mean()}
        return {"non-saturating": functional.softplus(-logits).mean()}

    def _generate(self, generator: nn.Module, batch: Batch, random: torch.Generator) -> Tensor:
        latents = torch.randn(len(batch.labels), self.config.network.latent_dim, generator=random)
        images: Tensor = generator(to_device(latents, batch.images.device), batch.labels)
        return images.float()

    def _augment(self, images: Tensor, random: torch.Generator) -> Tensor:
        settings = self.config.discriminator
        changed = differentiable_augment(
            images, color=settings.color, translation=settings.translation, cutout=settings.cutout, random=random
        )
        return changed.contiguous(memory_format=torch.channels_last)
