"""U-Nets of diffusers with label tokens and pixel folding, and the sides their resolutions take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.errors import ConfigError
from medzoo.toolkit.nn.conditioning import LabelEmbedding
from medzoo.toolkit.settings import TokenUNetSettings, UNetSettings


class TokenUNet(nn.Module):
    """A U-Net that attends to label tokens, on images or latents of side `size`.

    It returns `outputs` values per channel: 2 if the variance is learned. It can be given `conditions` numbers beside
    the timestep, which are 0 where they are not given.
    """

    def __init__(
        self,
        network: TokenUNetSettings,
        *,
        size: int,
        channels: int,
        classes: int,
        outputs: int = 1,
        conditions: int | None = None,
    ) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        self.patch = network.patch_size
        self.outputs = outputs
        folded = channels * network.patch_size**2
        self.embedding = LabelEmbedding(
            classes=classes,
            width=network.cross_attention_dim,
            hidden=network.label_hidden_dim,
            tokens=network.num_label_tokens,
        )
        self.unet: Any = UNet2DConditionModel(
            **unet_arguments(network, size=size, attention="CrossAttnDownBlock2D"),
            in_channels=folded,
            out_channels=outputs * folded,
            attention_head_dim=network.num_attention_heads,
            cross_attention_dim=network.cross_attention_dim,
            time_cond_proj_dim=conditions,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return (N, outputs * C, H, W) for noisy data (N, C, H, W), timesteps (N,) and labels, (N,) or multi-hot.

        `conditions` are (N, conditions).
        """
        folded = functional.pixel_unshuffle(noisy, self.patch)
        tokens = self.embedding(labels)
        output: Tensor = self.unet(
            folded, timesteps, encoder_hidden_states=tokens, timestep_cond=conditions, return_dict=False
        )[0]
        parts = output.chunk(self.outputs, dim=1)
        return torch.cat([functional.pixel_shuffle(part, self.patch) for part in parts], dim=1)


def unet_arguments(network: UNetSettings, *, size: int, attention: str) -> dict[str, Any]:
    """Return the shared arguments of diffusers' U-Nets; levels from `attention_from` on are `attention` blocks.

    Raises:
        ConfigError: as `bottleneck_size`.
    """
    widths, patch = network.block_out_channels, network.patch_size
    bottleneck_size(size, widths=widths, groups=network.norm_num_groups, patch=patch, part="network")
    down = [attention if level >= network.attention_from else "DownBlock2D" for level in range(len(widths))]
    return {
        "sample_size": size // patch,
        "block_out_channels": widths,
        "layers_per_block": network.layers_per_block,
        "down_block_types": tuple(down),
        "up_block_types": tuple(block.replace("Down", "Up") for block in reversed(down)),
        "norm_num_groups": network.norm_num_groups,
        "dropout": network.dropout,
    }


def bottleneck_size(side: int, *, widths: Sequence[int], groups: int, patch: int, part: str) -> int:
    """Return the side at the last resolution, for inputs of `side` pixels folded by `patch` (pixel unshuffle).

    `widths` are the channels at each resolution; `part` names the settings in errors ("network", "autoencoder").

    Raises:
        ConfigError: no widths, a width not divisible by the groups, or a side not divisible by the downsampling.
    """
    if not widths:
        raise ConfigError(
            f"{part}.block_out_channels is empty",
            f"give one width a resolution, as in {part}.block_out_channels=[64,128]",
        )
    if uneven := [width for width in widths if width % groups]:
        raise ConfigError(
            f"{part}.block_out_channels {uneven} are not divisible by {groups} groups", f"set {part}.norm_num_groups"
        )
    multiple: int = patch * 2 ** (len(widths) - 1)
    if side % multiple:
        raise ConfigError(
            f"a side of {side} is not divisible by {multiple}",
            f"{len(widths)} resolutions and {part}.patch_size={patch} need a multiple of {multiple}: change "
            f"image.size, {part}.block_out_channels or {part}.patch_size",
        )
    return side // multiple
