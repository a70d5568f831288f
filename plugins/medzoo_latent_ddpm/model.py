"""The networks of `latent-ddpm`: a variational autoencoder to a vector, and a residual MLP that denoises vectors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.toolkit.diffusion.latent import LatentDiffusion
from medzoo.toolkit.nn.conditioning import embed_labels
from medzoo.toolkit.nn.unet import bottleneck_size

if TYPE_CHECKING:
    from medzoo_latent_ddpm.settings import AutoencoderSettings, LatentDDPMConfig, NetworkSettings

# The exponentials of log-variances beyond these would overflow or underflow.
_LOG_VARIANCES = (-30.0, 20.0)


class VectorAutoencoder(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014) with residual blocks and vectors as latents.

    Raises:
        ConfigError: as `resolutions.bottleneck_size`.
    """

    def __init__(self, settings: AutoencoderSettings, image: ImageSpec) -> None:
        super().__init__()
        widths, groups = settings.block_out_channels, settings.norm_num_groups
        side = bottleneck_size(image.size, widths=widths, groups=groups, patch=settings.patch_size, part="autoencoder")
        folded = image.channels * settings.patch_size**2
        self.latent_shape = (settings.latent_dim,)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(settings.patch_size),
            nn.Conv2d(folded, widths[0], 3, padding=1),
            *(
                _ImageBlock(above, below, groups, down=halves)
                for above, below, halves in _descent(widths, settings.encoder_layers_per_block)
            ),
            nn.GroupNorm(groups, widths[-1], eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(widths[-1], settings.bottleneck_channels, 3, padding=1),
            nn.Flatten(),
            nn.Linear(settings.bottleneck_channels * side**2, 2 * settings.latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(settings.latent_dim, settings.bottleneck_channels * side**2),
            nn.Unflatten(1, (settings.bottleneck_channels, side, side)),
            nn.Conv2d(settings.bottleneck_channels, widths[-1], 3, padding=1),
            *(
                _ImageBlock(below, above, groups, up=halves)
                for above, below, halves in reversed(_descent(widths, settings.decoder_layers_per_block))
            ),
            nn.GroupNorm(groups, widths[0], eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(widths[0], folded, 3, padding=1),
            nn.PixelShuffle(settings.patch_size),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (N, latent) each, of images (N, C, H, W) in [-1, 1]."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (N, C, H, W), approximately in [-1, 1]."""
        images: Tensor = self.decoder(latents)
        return images

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstruction of a latent drawn with `noise`, and the posterior's mean and log-variance."""
        mean, log_variance = self.encode(images)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


class VectorDenoiser(nn.Module):
    """A residual MLP whose layer normalization is scaled and shifted by time and labels (Peebles & Xie 2023, adaLN)."""

    def __init__(self, settings: NetworkSettings, *, latent: int, classes: int) -> None:
        super().__init__()
        self.waves = Timesteps(settings.embedding_dim, flip_sin_to_cos=True, downscale_freq_shift=0.0)
        self.time = TimestepEmbedding(settings.embedding_dim, settings.embedding_dim)
        self.labels = nn.Embedding(classes + 1, settings.embedding_dim)
        self.enter = nn.Linear(latent, settings.hidden_dim)
        self.blocks = nn.ModuleList(_VectorBlock(settings) for _ in range(settings.num_blocks))
        self.norm = _modulated_norm(settings)
        self.leave = nn.Linear(settings.hidden_dim, latent)

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Return (N, D) for noisy vectors (N, D), timesteps (N,) and labels, (N,) or multi-hot (N, classes)."""
        time: Tensor = self.time(self.waves(timesteps).to(noisy.dtype))
        given = time + embed_labels(self.labels, labels)
        stream = self.enter(noisy).unsqueeze(1)  # diffusers' blocks take sequences: a vector is one token
        for block in self.blocks:
            stream = block(stream, given)
        output: Tensor = self.leave(self.norm(stream, given).squeeze(1))
        return output


class _ImageBlock(ResnetBlock2D):
    """A residual block of diffusers without time embedding, optionally up- or downsampling by 2."""

    def __init__(self, before: int, after: int, groups: int, *, up: bool = False, down: bool = False) -> None:
        super().__init__(in_channels=before, out_channels=after, temb_channels=None, groups=groups, up=up, down=down)

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's output for `images` (N, C, H, W)."""
        made: Tensor = super().forward(images, None)
        return made


class _VectorBlock(nn.Module):
    """Adds an MLP's output to the residual stream (N, 1, width), conditioned on an embedding (N, embedding)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm = _modulated_norm(settings)
        self.mlp = FeedForward(
            settings.hidden_dim, mult=settings.mlp_ratio, activation_fn="gelu-approximate", dropout=settings.dropout
        )

    def forward(self, stream: Tensor, given: Tensor) -> Tensor:
        added: Tensor = self.mlp(self.norm(stream, given))
        return stream + added


class LatentDDPM(LatentDiffusion):
    """A `LatentDiffusion` over a `VectorDenoiser`, whose labels are one vector each (`protocols.LabelTokens`)."""

    network: VectorDenoiser

    @torch.inference_mode()
    def label_tokens(self, labels: Tensor) -> Tensor:
        """Return the label embeddings, added to the time embedding, (N, 1, width); summed for several labels."""
        return embed_labels(self.network.labels, labels.to(self.device)).unsqueeze(1)


def build_model(config: LatentDDPMConfig, image: ImageSpec, device: str) -> LatentDDPM:
    """Build a `LatentDDPM` over a `VectorAutoencoder`, with fresh weights."""
    autoencoder = VectorAutoencoder(config.autoencoder, image)
    network = VectorDenoiser(config.network, latent=config.autoencoder.latent_dim, classes=len(image.classes))
    return LatentDDPM(autoencoder, network, config, image=image).to(device)


def _modulated_norm(settings: NetworkSettings) -> AdaLayerNormContinuous:
    return AdaLayerNormContinuous(settings.hidden_dim, settings.embedding_dim, elementwise_affine=False)


def _descent(widths: Sequence[int], layers: int) -> list[tuple[int, int, bool]]:
    """Return each residual block's input channels, output channels, and whether it downsamples."""
    passed = [widths[0], *(width for width in widths for _ in range(layers))]
    return [
        (above, below, block > 0 and block % layers == 0)
        for block, (above, below) in enumerate(itertools.pairwise(passed))
    ]
