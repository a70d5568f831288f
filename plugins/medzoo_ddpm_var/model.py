"""The network of `ddpm-var`: diffusers' conditional U-Net attending to label tokens, with two outputs a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from medzoo import ImageSpec
from medzoo.toolkit.conditioning import LabelEmbedding
from medzoo.toolkit.pixel_diffusion import PixelDiffusion, unet_arguments

if TYPE_CHECKING:
    from medzoo_ddpm_var import DDPMVarConfig


class TokenUNet(nn.Module):
    """A U-Net that attends to the label's tokens and gives the prediction and the variance's place in its range."""

    def __init__(self, config: DDPMVarConfig, image: ImageSpec) -> None:
        super().__init__()
        network = config.network
        self.patch = network.patch
        channels = image.channels * network.patch**2
        self.embedding = LabelEmbedding(
            classes=len(image.classes),
            width=network.token_width,
            hidden=network.token_hidden,
            tokens=network.tokens,
        )
        self.unet = UNet2DConditionModel(
            **unet_arguments(network, image, attention="CrossAttnDownBlock2D"),
            in_channels=channels,
            out_channels=2 * channels,
            attention_head_dim=network.heads,
            cross_attention_dim=network.token_width,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Prediction and variance (N, 2C, H, W) for noisy images (N, C, H, W), timesteps (N,) and labels (N,)."""
        folded = functional.pixel_unshuffle(noisy, self.patch)
        tokens = self.embedding(labels)
        output: Tensor = self.unet(folded, timesteps, encoder_hidden_states=tokens, return_dict=False)[0]
        prediction, variance = output.chunk(2, dim=1)
        return torch.cat([functional.pixel_shuffle(part, self.patch) for part in (prediction, variance)], dim=1)


def build_model(config: DDPMVarConfig, image: ImageSpec, device: str) -> PixelDiffusion:
    """A `PixelDiffusion` over a `TokenUNet`, with learned variance."""
    return PixelDiffusion(TokenUNet(config, image), config, image=image, learned_variance=True).to(device)
