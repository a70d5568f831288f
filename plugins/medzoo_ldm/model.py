"""The networks of `ldm`: diffusers' AutoencoderKL, and a U-Net on its latents attending to label tokens."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from medzoo import ImageSpec
from medzoo.toolkit.diffusion.latent import LatentDiffusion
from medzoo.toolkit.export import Export, Network, ToImages, frozen, with_token_unet
from medzoo.toolkit.nn.attention import recorded_attention
from medzoo.toolkit.nn.pretrained import load_autoencoder
from medzoo.toolkit.nn.unet import TokenUNet, bottleneck_size

if TYPE_CHECKING:
    from medzoo_ldm.settings import AutoencoderSettings, LDMConfig


class KLAutoencoder(nn.Module):
    """An AutoencoderKL with optional pixel folding; pretrained ones repeat gray images to three channels."""

    def __init__(self, settings: AutoencoderSettings, image: ImageSpec) -> None:
        super().__init__()
        side = bottleneck_size(
            image.size,
            widths=settings.block_out_channels,
            groups=settings.norm_num_groups,
            patch=settings.patch_size,
            part="autoencoder",
        )
        self.patch = settings.patch_size
        self.channels = image.channels
        self.colors = 3 if settings.pretrained else image.channels
        self.latent_shape = (settings.latent_channels, side, side)
        levels = len(settings.block_out_channels)
        self.vae = AutoencoderKL(
            in_channels=self.colors * settings.patch_size**2,
            out_channels=self.colors * settings.patch_size**2,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            latent_channels=settings.latent_channels,
            norm_num_groups=settings.norm_num_groups,
            mid_block_add_attention=settings.mid_block_add_attention,
            sample_size=image.size // settings.patch_size,
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (N, latent channels, h, w) each, of images (N, C, H, W) in [-1, 1]."""
        colored = images.expand(-1, self.colors, -1, -1)
        posterior = self.vae.encode(functional.pixel_unshuffle(colored, self.patch)).latent_dist
        return posterior.mean, posterior.logvar

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (N, C, H, W), approximately in [-1, 1]."""
        images = functional.pixel_shuffle(self.vae.decode(latents).sample, self.patch)
        return images if self.colors == self.channels else images.mean(dim=1, keepdim=True)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reconstruction of a latent drawn with `noise`, and the posterior's mean and log-variance."""
        mean, log_variance = self.encode(images)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


class LDM(LatentDiffusion):
    """A `LatentDiffusion` over a `TokenUNet`, with attention maps (`protocols.AttentionMaps`)."""

    network: TokenUNet

    @torch.inference_mode()
    def label_tokens(self, labels: Tensor) -> Tensor:
        """Return the tokens that the U-Net attends to, (N, tokens, width)."""
        tokens: Tensor = self.network.embedding(labels.to(self.device))
        return tokens

    def attention_maps(self, seeds: Sequence[int], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of `sample`, and the attention of each latent position to each token."""
        unet = self.sampling_networks()[0].unet
        return recorded_attention(unet, lambda: self.draw(seeds, labels), count=len(seeds))

    def export(self) -> Export:
        """Return what `medzoo export` writes, with the U-Net and the autoencoder as diffusers knows them."""
        found = with_token_unet(super().export(), self.network, self.image)
        image, standardise, sampling = self.image, self.standardise, self.settings.sampling
        to_images = Network(
            module=ToImages(image.size, sampling.spectrum_gain, pattern=sampling.remove_pattern).eval(),
            inputs={"made": torch.zeros(2, image.channels, image.size, image.size)},
            output="images",
        )
        return replace(
            found,
            components={**found.components, "vae": frozen(self.autoencoder.vae), "decoder": to_images},
            pipeline={
                **found.pipeline,
                "vae_patch_size": self.autoencoder.patch,
                "latents_mean": standardise.mean.flatten().tolist(),
                "latents_std": standardise.deviation.flatten().tolist(),
            },
        )


def build_model(config: LDMConfig, image: ImageSpec, device: str) -> LDM:
    """Build an `LDM` over a `KLAutoencoder`, with fresh weights."""
    autoencoder = KLAutoencoder(config.autoencoder, image)
    channels, side, _ = autoencoder.latent_shape
    network = TokenUNet(config.network, size=side, channels=channels, classes=len(image.classes))
    source = config.autoencoder.pretrained
    pretrain = functools.partial(load_autoencoder, autoencoder.vae, source) if source else None
    return LDM(autoencoder, network, config, image=image, pretrain=pretrain).to(device)
