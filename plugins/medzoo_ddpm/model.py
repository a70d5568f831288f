"""The network of `ddpm`: diffusers' U-Net with a class embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from medzoo import ImageSpec
from medzoo.toolkit.diffusion.pixel import PixelDiffusion
from medzoo.toolkit.export import Export, frozen
from medzoo.toolkit.nn.unet import unet_arguments

if TYPE_CHECKING:
    from medzoo_ddpm.settings import DDPMConfig


class ClassUNet(nn.Module):
    """A U-Net with a class embedding added to the time embedding; the last class is the null label."""

    def __init__(self, config: DDPMConfig, image: ImageSpec) -> None:
        super().__init__()
        network = config.network
        self.patch = network.patch_size
        channels = image.channels * network.patch_size**2
        self.unet = UNet2DModel(
            **unet_arguments(network, size=image.size, attention="AttnDownBlock2D"),
            in_channels=channels,
            out_channels=channels,
            attention_head_dim=network.attention_head_dim,
            num_class_embeds=len(image.classes) + 1,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Return predictions (N, C, H, W) for noisy images (N, C, H, W), timesteps (N,) and labels (N,)."""
        folded = functional.pixel_unshuffle(noisy, self.patch)
        output: Tensor = self.unet(folded, timesteps, class_labels=labels, return_dict=False)[0]
        return functional.pixel_shuffle(output, self.patch)


class DDPM(PixelDiffusion):
    """A `PixelDiffusion` over a `ClassUNet`, whose labels are one vector each (`protocols.LabelTokens`)."""

    network: ClassUNet

    @torch.inference_mode()
    def label_tokens(self, labels: Tensor) -> Tensor:
        """Return the class embeddings, added to the time embedding, (N, 1, width)."""
        return self.network.unet.class_embedding(labels.to(self.device)).unsqueeze(1)

    def export(self) -> Export:
        """Return what `medzoo export` writes, with the U-Net as diffusers knows it."""
        found = super().export()
        rest = {name: part for name, part in found.components.items() if name != "denoiser"}
        return replace(
            found,
            components={"unet": frozen(self.network.unet), **rest},
            pipeline={**found.pipeline, "patch_size": self.network.patch},
        )


def build_model(config: DDPMConfig, image: ImageSpec, device: str) -> DDPM:
    """Build a `DDPM` with fresh weights."""
    return DDPM(ClassUNet(config, image), config, image=image, learned_variance=False).to(device)
