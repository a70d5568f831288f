"""Settings of `latent-ddpm`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import LatentDiffusionSettings


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """A convolutional encoder to a vector and a decoder; each width after the first halves the resolution."""

    latent_dim: int = setting(256, "dimensions of the vector", min=1)
    block_out_channels: tuple[int, ...] = setting((64, 128, 256, 256), "channels at each resolution", min=1)
    encoder_layers_per_block: int = setting(1, "residual blocks at each resolution of the encoder", min=1, max=64)
    decoder_layers_per_block: int = setting(1, "residual blocks at each resolution of the decoder", min=1, max=64)
    bottleneck_channels: int = setting(32, "channels of the lowest resolution before it is flattened", min=1)
    norm_num_groups: int = setting(16, "groups of the group normalization", min=1)
    patch_size: int = setting(1, "side of the squares of pixels folded into channels (2 quarters the work)", min=1)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The residual MLP that denoises the vectors."""

    hidden_dim: int = setting(512, "width of the residual stream", min=1)
    num_blocks: int = setting(4, "residual blocks", min=1, max=64)
    mlp_ratio: int = setting(2, "hidden width of a block, as a multiple of hidden_dim", min=1)
    embedding_dim: int = setting(256, "dimensions of the embeddings of time and labels", min=2)
    dropout: float = setting(0.0, "dropout in residual blocks", min=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class LatentDDPMConfig(LatentDiffusionSettings):
    """Settings of `latent-ddpm`."""

    autoencoder: AutoencoderSettings = AutoencoderSettings()
    network: NetworkSettings = NetworkSettings()
