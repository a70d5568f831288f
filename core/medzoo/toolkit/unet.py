"""diffusers' U-Nets as medzoo's models use them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.errors import ConfigError
from medzoo.toolkit.conditioning import LabelEmbedding
from medzoo.toolkit.settings import TokenUNetSettings, UNetSettings


class TokenUNet(nn.Module):
    """A U-Net that attends to the label's tokens, over squares of `size` (pixels, or places of a latent).

    It gives `outputs` values a channel: 2 where the variance is learned.
    """

    def __init__(self, network: TokenUNetSettings, *, size: int, channels: int, classes: int, outputs: int = 1) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        self.patch = network.patch
        self.outputs = outputs
        folded = channels * network.patch**2
        self.embedding = LabelEmbedding(
            classes=classes, width=network.token_width, hidden=network.token_hidden, tokens=network.tokens
        )
        self.unet: Any = UNet2DConditionModel(
            **unet_arguments(network, size=size, attention="CrossAttnDownBlock2D"),
            in_channels=folded,
            out_channels=outputs * folded,
            attention_head_dim=network.heads,
            cross_attention_dim=network.token_width,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Outputs (N, outputs * C, H, W) for noisy data (N, C, H, W), timesteps (N,) and labels, (N,) or multi-hot."""
        folded = functional.pixel_unshuffle(noisy, self.patch)
        tokens = self.embedding(labels)
        output: Tensor = self.unet(folded, timesteps, encoder_hidden_states=tokens, return_dict=False)[0]
        parts = output.chunk(self.outputs, dim=1)
        return torch.cat([functional.pixel_shuffle(part, self.patch) for part in parts], dim=1)


def unet_arguments(network: UNetSettings, *, size: int, attention: str) -> dict[str, Any]:
    """What diffusers' U-Nets have in common as arguments; levels from `attention_from` on are `attention` blocks.

    Raises:
        ConfigError: no resolutions, a side that does not halve once a level, or a width that does not divide into the
            groups.
    """
    if not network.widths:
        raise ConfigError("network.widths is empty", "give one width a resolution, as in network.widths=[64,128]")
    multiple = network.patch * 2 ** (len(network.widths) - 1)
    if size % multiple:
        raise ConfigError(
            f"the network's squares of {size} do not divide by {multiple}",
            f"{len(network.widths)} resolutions and patch {network.patch} need a multiple of {multiple}: "
            "change image.size or network.widths",
        )
    uneven = [width for width in network.widths if width % network.groups]
    if uneven:
        raise ConfigError(f"network.widths {uneven} do not divide into {network.groups} groups", "set network.groups")
    down = [attention if level >= network.attention_from else "DownBlock2D" for level in range(len(network.widths))]
    return {
        "sample_size": size // network.patch,
        "block_out_channels": network.widths,
        "layers_per_block": network.layers,
        "down_block_types": tuple(down),
        "up_block_types": tuple(block.replace("Down", "Up") for block in reversed(down)),
        "norm_num_groups": network.groups,
        "dropout": network.dropout,
    }
