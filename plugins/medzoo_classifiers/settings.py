"""The settings of each kind of classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.errors import ConfigError
from medzoo.toolkit.recipes import ClassifierSettings


@dataclass(frozen=True, kw_only=True)
class CNNSettings:
    """The network of `cnn`."""

    widths: tuple[int, ...] = setting((64, 96, 160), "channels of the convolutions", low=1)
    kernel: int = setting(3, "side of their kernels, pixels", choices=(3, 5, 7))
    grid: int = setting(2, "what is left of each side before the dense layers; 1 is global pooling", low=1)
    dense: tuple[int, ...] = setting((256, 128), "widths of the two dense layers before the last", low=1)
    dropout: float = setting(0.3, "before each dense layer", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if len(self.dense) != 2:
            raise ConfigError(f"network.dense = {list(self.dense)}: two widths are needed", "as in [256, 128]")


@dataclass(frozen=True, kw_only=True)
class CNNConfig(ClassifierSettings):
    """Settings of `cnn`."""

    network: CNNSettings = CNNSettings()
