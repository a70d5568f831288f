"""Settings of `ldm`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import LatentDiffusionSettings, TokenUNetSettings


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """diffusers' AutoencoderKL: each width after the first halves the resolution."""

    pretrained: str = setting("", 'published weights: a Hub id or a folder of diffusers\' AutoencoderKL; "" trains one')
    latent_channels: int = setting(4, "channels of a latent", min=1)
    block_out_channels: tuple[int, ...] = setting((128, 256, 512, 512), "channels at each resolution", min=1)
    layers_per_block: int = setting(2, "residual blocks at each resolution", min=1, max=64)
    norm_num_groups: int = setting(32, "groups of the group normalization", min=1)
    mid_block_add_attention: bool = setting(True, "self-attention at the lowest resolution")
    patch_size: int = setting(1, "side of the squares of pixels folded into channels (2 quarters the work)", min=1)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(TokenUNetSettings):
    """The U-Net on latents; `patch` folds latents."""

    cross_attention_dim: int = setting(512, "width of a label token", min=1)


@dataclass(frozen=True, kw_only=True)
class LDMConfig(LatentDiffusionSettings):
    """Settings of `ldm`."""

    autoencoder: AutoencoderSettings = AutoencoderSettings()
    network: NetworkSettings = NetworkSettings()
