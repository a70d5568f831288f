"""The settings of each kind of classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.errors import ConfigError
from medzoo.toolkit.settings import ClassifierSettings

_SWIN = "swin_tiny_patch4_window7_224"
_VIT = "vit_tiny_patch16_224"


@dataclass(frozen=True, kw_only=True)
class CNNSettings:
    """The network of `cnn`."""

    block_out_channels: tuple[int, ...] = setting((32, 64, 128), "channels of the convolutions", min=1)
    kernel_size: int = setting(3, "side of their kernels, pixels", choices=(3, 5, 7))
    pool_size: int = setting(2, "side that features are pooled to before the dense layers; 1 is global pooling", min=1)
    hidden_dims: tuple[int, ...] = setting((256, 128), "widths of the two dense layers before the last", min=1)
    dropout: float = setting(0.3, "before each dense layer", min=0.0, max=1.0)

    def __post_init__(self) -> None:
        if len(self.hidden_dims) != 2:
            raise ConfigError(
                f"network.hidden_dims = {list(self.hidden_dims)}: two widths are needed", "as in [256, 128]"
            )


@dataclass(frozen=True, kw_only=True)
class CNNConfig(ClassifierSettings):
    """Settings of `cnn`."""

    network: CNNSettings = CNNSettings()


@dataclass(frozen=True, kw_only=True)
class TimmSettings:
    """A network of timm."""

    name: str = setting("resnet34", "timm's name of it, as in timm.list_models()")
    weights: str = setting("scratch", "initial weights", choices=("scratch", "imagenet"))
    weights_file: str = setting("", 'safetensors file of timm\'s ImageNet weights; "" asks the Hub')
    weights_sha256: str = setting("", 'SHA-256 of that file; "" is the one of medzoo\'s asset for this network')
    input_size: int = setting(
        0, "side in pixels that images are resized to; 0 is that of the image, at least 64", min=0, max=4096
    )
    normalization: str = setting(
        "data",
        "pixels are standardized by the statistics of the training data or of the weights",
        choices=("data", "weights"),
    )
    dropout: float = setting(0.0, "before the last layer", min=0.0, max=1.0)

    def __post_init__(self) -> None:
        if self.weights_file and self.weights != "imagenet":
            raise ConfigError("network.weights_file is for network.weights=imagenet", "set both, or none")
        if self.normalization == "weights" and self.weights != "imagenet":
            raise ConfigError("network.normalization=weights is for network.weights=imagenet", "set both, or none")


@dataclass(frozen=True, kw_only=True)
class TimmConfig(ClassifierSettings):
    """Settings of `timm`."""

    network: TimmSettings = TimmSettings()


@dataclass(frozen=True, kw_only=True)
class ResNet18Settings(TimmSettings):
    """The network of `resnet18`."""

    name: str = setting("resnet18", "timm's name of it; test_resnet is for tests", choices=("resnet18", "test_resnet"))


@dataclass(frozen=True, kw_only=True)
class ResNet18Config(ClassifierSettings):
    """Settings of `resnet18`."""

    network: ResNet18Settings = ResNet18Settings()


@dataclass(frozen=True, kw_only=True)
class SwinSettings(TimmSettings):
    """The network of `swin_tiny`."""

    name: str = setting(_SWIN, "timm's name of it", choices=(_SWIN,))
    embed_dim: int = setting(96, "channels of the first stage, doubled at each later one", min=32)
    depths: tuple[int, ...] = setting((2, 2, 6, 2), "at each stage", min=1, max=64)


@dataclass(frozen=True, kw_only=True)
class SwinConfig(ClassifierSettings):
    """Settings of `swin_tiny`."""

    network: SwinSettings = SwinSettings()


@dataclass(frozen=True, kw_only=True)
class ViTSettings(TimmSettings):
    """The network of `vit_tiny`."""

    name: str = setting(_VIT, "timm's name of it; test_vit is for tests", choices=(_VIT, "test_vit"))


@dataclass(frozen=True, kw_only=True)
class ViTConfig(ClassifierSettings):
    """Settings of `vit_tiny`."""

    network: ViTSettings = ViTSettings()


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSettings(TimmSettings):
    """The network of `convnext_tiny`."""

    name: str = setting(
        "convnext_tiny", "timm's name of it; test_convnext is for tests", choices=("convnext_tiny", "test_convnext")
    )


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig(ClassifierSettings):
    """Settings of `convnext_tiny`."""

    network: ConvNeXtSettings = ConvNeXtSettings()


@dataclass(frozen=True, kw_only=True)
class FrozenSettings(TimmSettings):
    """The network of `resnet50-frozen`."""

    name: str = setting("resnet50", "timm's name of it; test_resnet is for tests", choices=("resnet50", "test_resnet"))
    hidden_dim: int = setting(256, "width of the first of the two new dense layers", min=1)


@dataclass(frozen=True, kw_only=True)
class FrozenConfig(ClassifierSettings):
    """Settings of `resnet50-frozen`."""

    network: FrozenSettings = FrozenSettings()
