"""Settings of `ddpm-var`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import PixelDiffusionSettings, TokenUNetSettings


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """Changes of training images that condition the network, so that it does not draw them (Karras et al. 2022)."""

    probability: float = setting(
        0.0, "probability of each change: upside down, scale, rotation, stretch, shift; 0 is off", min=0.0, max=1.0
    )


@dataclass(frozen=True, kw_only=True)
class DDPMVarConfig(PixelDiffusionSettings):
    """Settings of `ddpm-var`."""

    network: TokenUNetSettings = TokenUNetSettings()
    augmentation: GeometrySettings = GeometrySettings()
