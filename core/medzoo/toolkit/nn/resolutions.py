"""Sizes of a convolutional network's resolutions: each after the first has half the side."""

from __future__ import annotations

from collections.abc import Sequence

from medzoo.errors import ConfigError


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
