"""Settings of `ddpm-var`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.toolkit.settings import PixelDiffusionSettings, TokenUNetSettings


@dataclass(frozen=True, kw_only=True)
class DDPMVarConfig(PixelDiffusionSettings):
    """Settings of `ddpm-var`."""

    network: TokenUNetSettings = TokenUNetSettings()
