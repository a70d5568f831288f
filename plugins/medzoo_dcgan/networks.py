"""The two networks of Radford et al. 2016, class-conditional.

The generator reads the class beside its noise (Mirza & Osindero 2014); the discriminator compares it with what it sees
by a projection (Miyato & Koyama 2018, eq. 3). Kernels are 4 wide, which stride 2 divides: no checkerboards (Odena et
al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medzoo import ImageSpec
from medzoo.errors import ConfigError
from medzoo_dcgan.settings import DiscriminatorSettings, NetworkSettings


class GeneratorNetwork(nn.Module):
    """Noise and class to image: a transposed convolution a resolution, batch norm, ReLU, tanh."""

    def __init__(self, settings: NetworkSettings, image: ImageSpec) -> None:
        super().__init__()
        self.embedding = (
            nn.Embedding(len(image.classes), settings.label_embedding_dim) if settings.conditional else None
        )
        given = settings.latent_dim + (settings.label_embedding_dim if settings.conditional else 0)
        widths = [settings.base_channels << level for level in reversed(range(resolutions(image.size)))]
        layers = [nn.ConvTranspose2d(given, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], image.channels, 4, stride=2, padding=1))
        self.layers.apply(init_weights)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from noise (N, latent) and labels (N,)."""
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        images: Tensor = self.layers(latents[:, :, None, None])
        return images.tanh()


class DiscriminatorNetwork(nn.Module):
    """Image and class to a logit, high for real: a strided convolution a resolution, batch norm, leaky ReLU.

    `spectral` normalizes each layer's weights instead (Miyato et al. 2018).
    """

    def __init__(self, settings: DiscriminatorSettings, image: ImageSpec, *, conditional: bool) -> None:
        super().__init__()
        batch_norm = settings.norm == "batch"
        normed: Callable[[nn.Module], nn.Module] = _as_it_is if batch_norm else spectral_norm
        widths = [settings.base_channels << level for level in range(resolutions(image.size))]
        layers = [normed(nn.Conv2d(image.channels, widths[0], 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            layers.append(normed(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not batch_norm)))
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(0.2)] if batch_norm else [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = normed(nn.Conv2d(widths[-1], 1, 4))
        self.projection = normed(nn.Embedding(len(image.classes), widths[-1])) if conditional else None
        self.apply(init_weights)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (N,) of images (N, C, H, W) in [-1, 1] and labels (N,)."""
        seen = self.layers(images)
        logits: Tensor = self.head(seen).flatten()
        if self.projection is not None:
            logits = logits + (self.projection(labels) * seen.sum(dim=(2, 3))).sum(dim=1)
        return logits


def resolutions(size: int) -> int:
    """How often 4 pixels are doubled to give `size`.

    Raises:
        ConfigError: `size` is no power of two, or below 16.
    """
    levels = size.bit_length() - 3
    if size < 16 or size != 4 << levels:
        raise ConfigError(f"image.size = {size} is not 4 doubled a few times", "set image.size to 16, 32, 64 or 128")
    return levels


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """Nothing; `module` then has weights from N(0, 0.02^2), batch norm gains from N(1, 0.02^2), biases of 0.

    Radford et al. 2016, section 3; the gains as in their code.
    """
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _as_it_is(module: nn.Module) -> nn.Module:
    return module
