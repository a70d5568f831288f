"""Settings of `ddpm`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import PixelDiffusionSettings, UNetSettings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(UNetSettings):
    """The U-Net and its self-attention."""

    attention_head_dim: int = setting(8, "channels of an attention head", min=1)


@dataclass(frozen=True, kw_only=True)
class DDPMConfig(PixelDiffusionSettings):
    """Settings of `ddpm`; the defaults are a mid-sized model for 64 pixels."""

    network: NetworkSettings = NetworkSettings()
