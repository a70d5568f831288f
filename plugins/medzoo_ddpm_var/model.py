"""`ddpm-var`: a U-Net attending to label tokens, with two outputs a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medzoo import ImageSpec
from medzoo.toolkit.pixel_diffusion import PixelDiffusion
from medzoo.toolkit.unet import TokenUNet

if TYPE_CHECKING:
    from medzoo_ddpm_var import DDPMVarConfig


def build_model(config: DDPMVarConfig, image: ImageSpec, device: str) -> PixelDiffusion:
    """A `PixelDiffusion` over a `TokenUNet`, with learned variance."""
    network = TokenUNet(config.network, size=image.size, channels=image.channels, classes=len(image.classes), outputs=2)
    return PixelDiffusion(network, config, image=image, learned_variance=True).to(device)
