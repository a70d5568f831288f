"""`ddpm-var`: a U-Net attending to label tokens, with two outputs per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medzoo import ImageSpec
from medzoo.toolkit.diffusion.pixel import PixelDiffusion
from medzoo.toolkit.export import Export, with_token_unet
from medzoo.toolkit.nn.attention import recorded_attention
from medzoo.toolkit.nn.unet import TokenUNet
from medzoo.toolkit.training.augmentation import GEOMETRY_CHANGES

if TYPE_CHECKING:
    from medzoo_ddpm_var.settings import DDPMVarConfig


class DDPMVar(PixelDiffusion):
    """A `PixelDiffusion` over a `TokenUNet`, with attention maps (`protocols.AttentionMaps`)."""

    network: TokenUNet

    @torch.inference_mode()
    def label_tokens(self, labels: Tensor) -> Tensor:
        """Return the tokens that the U-Net attends to, (N, tokens, width)."""
        tokens: Tensor = self.network.embedding(labels.to(self.device))
        return tokens

    def attention_maps(self, seeds: Sequence[int], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of `sample`, and the attention of each position to each token."""
        unet = self.sampling_network().unet
        return recorded_attention(unet, lambda: self.draw(seeds, labels), count=len(seeds))

    def export(self) -> Export:
        """Return what `medzoo export` writes, with the U-Net as diffusers knows it."""
        return with_token_unet(super().export(), self.network, self.image)


def build_model(config: DDPMVarConfig, image: ImageSpec, device: str) -> DDPMVar:
    """Build a `DDPMVar` with fresh weights."""
    probability = config.augmentation.probability
    network = TokenUNet(
        config.network,
        size=image.size,
        channels=image.channels,
        classes=len(image.classes),
        outputs=2,
        conditions=GEOMETRY_CHANGES if probability else None,
    )
    return DDPMVar(network, config, image=image, learned_variance=True, augmentation_probability=probability).to(device)
