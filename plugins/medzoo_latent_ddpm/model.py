"""The networks of `latent-ddpm`: a variational autoencoder to a vector, and a residual MLP that denoises vectors."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.errors import ConfigError
from medzoo.toolkit.conditioning import embed_labels
from medzoo.toolkit.latent_diffusion import LatentDiffusion

if TYPE_CHECKING:
    from medzoo_latent_ddpm import AutoencoderSettings, LatentDDPMConfig, NetworkSettings

# Variances beyond these are no different in effect, and their exponentials would leave the range of a float.
_LOG_VARIANCES = (-30.0, 20.0)


class VectorAutoencoder(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014) of residual blocks, between images and vectors.

    Raises:
        ConfigError: an image that does not halve once a width, or a width that does not divide into the groups.
    """

    def __init__(self, settings: AutoencoderSettings, image: ImageSpec) -> None:
        super().__init__()
        side = _lowest_side(settings, image)
        widths, groups = settings.widths, settings.groups
        folded = image.channels * settings.patch**2
        self.latent_shape = (settings.latent,)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(settings.patch),
            nn.Conv2d(folded, widths[0], 3, padding=1),
            *(_ImageBlock(widths[0], widths[0], groups) for _ in range(settings.encoder_layers)),
            *(
                _ImageBlock(before if first else width, width, groups, down=first)
                for before, width in itertools.pairwise(widths)
                for first in (layer == 0 for layer in range(settings.encoder_layers))
            ),
            nn.GroupNorm(groups, widths[-1], eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(widths[-1], settings.neck, 3, padding=1),
            nn.Flatten(),
            nn.Linear(settings.neck * side**2, 2 * settings.latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(settings.latent, settings.neck * side**2),
            nn.Unflatten(1, (settings.neck, side, side)),
            nn.Conv2d(settings.neck, widths[-1], 3, padding=1),
            *(
                _ImageBlock(before, width if last else before, groups, up=last)
                for before, width in itertools.pairwise(reversed(widths))
                for last in (layer == settings.decoder_layers - 1 for layer in range(settings.decoder_layers))
            ),
            *(_ImageBlock(widths[0], widths[0], groups) for _ in range(settings.decoder_layers)),
            nn.GroupNorm(groups, widths[0], eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(widths[0], folded, 3, padding=1),
            nn.PixelShuffle(settings.patch),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, (N, latent) each, of images (N, C, H, W) in [-1, 1]."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], a little beyond at times."""
        images: Tensor = self.decoder(latents)
        return images

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction from a latent drawn with `noise`, and the posterior's mean and logarithm of the variance."""
        mean, log_variance = self.encode(images)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


class VectorDenoiser(nn.Module):
    """A residual MLP whose layer normalisation is scaled and shifted by time and labels (Peebles & Xie 2023, adaLN)."""

    def __init__(self, settings: NetworkSettings, *, latent: int, classes: int) -> None:
        super().__init__()
        self.waves = Timesteps(settings.embedding, flip_sin_to_cos=True, downscale_freq_shift=0.0)
        self.time = TimestepEmbedding(settings.embedding, settings.embedding)
        self.labels = nn.Embedding(classes + 1, settings.embedding)
        self.enter = nn.Linear(latent, settings.width)
        self.blocks = nn.ModuleList(_VectorBlock(settings) for _ in range(settings.blocks))
        self.norm = _modulated_norm(settings)
        self.leave = nn.Linear(settings.width, latent)

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Outputs (N, D) for noisy vectors (N, D), timesteps (N,) and labels, (N,) or multi-hot (N, classes)."""
        time: Tensor = self.time(self.waves(timesteps).to(noisy.dtype))
        given = time + embed_labels(self.labels, labels)
        stream = self.enter(noisy).unsqueeze(1)  # diffusers' blocks take sequences: a vector is one token
        for block in self.blocks:
            stream = block(stream, given)
        output: Tensor = self.leave(self.norm(stream, given).squeeze(1))
        return output


class _ImageBlock(ResnetBlock2D):
    """A residual block of diffusers that is given no time, and may double or halve the side."""

    def __init__(self, before: int, after: int, groups: int, *, up: bool = False, down: bool = False) -> None:
        super().__init__(in_channels=before, out_channels=after, temb_channels=None, groups=groups, up=up, down=down)

    def forward(self, images: Tensor) -> Tensor:
        """What the block makes of `images` (N, C, H, W)."""
        made: Tensor = super().forward(images, None)
        return made


class _VectorBlock(nn.Module):
    """Adds to a stream (N, 1, width) what an MLP makes of it, given an embedding (N, embedding)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm = _modulated_norm(settings)
        self.mlp = FeedForward(
            settings.width, mult=settings.expansion, activation_fn="gelu-approximate", dropout=settings.dropout
        )

    def forward(self, stream: Tensor, given: Tensor) -> Tensor:
        added: Tensor = self.mlp(self.norm(stream, given))
        return stream + added


def build_model(config: LatentDDPMConfig, image: ImageSpec, device: str) -> LatentDiffusion:
    """A `LatentDiffusion` over a `VectorAutoencoder` and a `VectorDenoiser`."""
    autoencoder = VectorAutoencoder(config.autoencoder, image)
    network = VectorDenoiser(config.network, latent=config.autoencoder.latent, classes=len(image.classes))
    return LatentDiffusion(autoencoder, network, config, image=image).to(device)


def _modulated_norm(settings: NetworkSettings) -> AdaLayerNormContinuous:
    return AdaLayerNormContinuous(settings.width, settings.embedding, elementwise_affine=False)


def _lowest_side(settings: AutoencoderSettings, image: ImageSpec) -> int:
    """Places a side where the image becomes a vector."""
    if not settings.widths:
        raise ConfigError(
            "autoencoder.widths is empty", "give one width a resolution, as in autoencoder.widths=[32,64]"
        )
    uneven = [width for width in settings.widths if width % settings.groups]
    if uneven:
        raise ConfigError(
            f"autoencoder.widths {uneven} do not divide into {settings.groups} groups", "set autoencoder.groups"
        )
    multiple = settings.patch * 2 ** (len(settings.widths) - 1)
    if image.size % multiple:
        raise ConfigError(
            f"image.size = {image.size} does not divide by {multiple}",
            f"{len(settings.widths)} resolutions and patch {settings.patch} need a multiple of {multiple}: "
            "change image.size or autoencoder.widths",
        )
    return image.size // multiple
