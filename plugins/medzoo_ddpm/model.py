"""The network of `ddpm`: diffusers' U-Net with a class embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from medzoo import ImageSpec
from medzoo.toolkit.pixel_diffusion import PixelDiffusion, check_widths

if TYPE_CHECKING:
    from medzoo_ddpm import DDPMConfig


class ClassUNet(nn.Module):
    """A U-Net whose time embedding carries the class; class `classes` means "no label"."""

    def __init__(self, config: DDPMConfig, image: ImageSpec) -> None:
        super().__init__()
        network = config.network
        check_widths(network.widths, size=image.size, patch=network.patch, groups=network.groups)
        attends = [level >= network.attention_from for level in range(len(network.widths))]
        self.patch = network.patch
        channels = image.channels * network.patch**2
        self.unet = UNet2DModel(
            sample_size=image.size // network.patch,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=network.widths,
            layers_per_block=network.layers,
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
            attention_head_dim=network.head_width,
            norm_num_groups=network.groups,
            dropout=network.dropout,
            num_class_embeds=len(image.classes) + 1,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Prediction (N, C, H, W) for noisy images (N, C, H, W), timesteps (N,) and labels (N,)."""
        folded = functional.pixel_unshuffle(noisy, self.patch)
        output: Tensor = self.unet(folded, timesteps, class_labels=labels, return_dict=False)[0]
        return functional.pixel_shuffle(output, self.patch)


def build_model(config: DDPMConfig, image: ImageSpec, device: str) -> PixelDiffusion:
    """A `PixelDiffusion` over a `ClassUNet`."""
    return PixelDiffusion(
        ClassUNet(config, image),
        image=image,
        diffusion=config.diffusion,
        loss=config.loss,
        training=config.training,
        sampling=config.sampling,
        learned_variance=False,
    ).to(device)
