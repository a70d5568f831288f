"""The resolutions of a convolutional network: one width each, every one after the first at half the side."""

from __future__ import annotations

from collections.abc import Sequence

from medzoo.errors import ConfigError


def bottleneck_size(side: int, *, widths: Sequence[int], groups: int, patch: int, part: str) -> int:
    """The side at the last resolution, from squares of `side` whose `patch` places a side are folded into channels.

    `part` names the settings ("network", "autoencoder").
    Raises:
        ConfigError: no widths, a width that does not divide into the groups, or a side that does not halve so often.
    """
    if not widths:
        raise ConfigError(
            f"{part}.block_out_channels is empty",
            f"give one width a resolution, as in {part}.block_out_channels=[64,128]",
        )
    if uneven := [width for width in widths if width % groups]:
        raise ConfigError(
            f"{part}.block_out_channels {uneven} do not divide into {groups} groups", f"set {part}.norm_num_groups"
        )
    multiple: int = patch * 2 ** (len(widths) - 1)
    if side % multiple:
        raise ConfigError(
            f"a side of {side} does not divide by {multiple}",
            f"{len(widths)} resolutions and {part}.patch_size={patch} need a multiple of {multiple}: change "
            f"image.size, {part}.block_out_channels or {part}.patch_size",
        )
    return side // multiple
