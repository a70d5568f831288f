"""The two networks of Radford et al. 2016, class-conditional.

The generator concatenates a class embedding to its noise (Mirza & Osindero 2014); the discriminator projects its
features on one (Miyato & Koyama 2018, eq. 3). Kernels of width 4 are divisible by the stride 2, which avoids
checkerboard artifacts (Odena et al. 2016).
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
    """Maps noise and class to an image: one transposed convolution per resolution, batch norm, ReLU, tanh."""

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
        """Return images (N, C, H, W) in [-1, 1] for noise (N, latent) and labels (N,)."""
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        images: Tensor = self.layers(latents[:, :, None, None])
        return images.tanh()


class DiscriminatorNetwork(nn.Module):
    """Maps image and class to a logit, high for real: one strided convolution per resolution, norm, leaky ReLU.

    `norm` is batch normalization, or spectral normalization of the weights (Miyato et al. 2018).
    """

    def __init__(self, settings: DiscriminatorSettings, image: ImageSpec, *, conditional: bool) -> None:
        super().__init__()
        batch_norm = settings.norm == "batch"
        normed: Callable[[nn.Module], nn.Module] = _unchanged if batch_norm else spectral_norm
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
        """Return logits (N,) of images (N, C, H, W) in [-1, 1] and labels (N,)."""
        features = self.layers(images)
        logits: Tensor = self.head(features).flatten()
        if self.projection is not None:
            logits = logits + (self.projection(labels) * features.sum(dim=(2, 3))).sum(dim=1)
        return logits


def resolutions(size: int) -> int:
    """Return how often 4 pixels are doubled to give `size`.

    Raises:
        ConfigError: `size` is not a power of two, or below 16.
    """
    levels = size.bit_length() - 3
    if size < 16 or size != 4 << levels:
        raise ConfigError(f"image.size = {size} is not a power of two above 8", "set image.size to 16, 32, 64 or 128")
    return levels


@torch.no_grad()
def init_weights(module: nn.Module) -> None:
    """Initialize weights from N(0, 0.02^2), batch-norm scales from N(1, 0.02^2), biases with 0.

    Radford et al. 2016, section 3; the scales as in their code.
    """
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            nn.init.zeros_(module.bias)


def _unchanged(module: nn.Module) -> nn.Module:
    return module
