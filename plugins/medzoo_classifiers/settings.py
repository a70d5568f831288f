"""The settings of each kind of classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medzoo.config import setting
from medzoo.errors import ConfigError
from medzoo.toolkit.settings import ClassifierSettings, ImageSettings

_SWIN = "swin_tiny_patch4_window7_224"
_VIT = "vit_tiny_patch16_224"
_LITE0, _TEST_LITE0 = "tf_efficientnet_lite0", "test_efficientnet"


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
class BackboneSettings:
    """A network of timm and its weights."""

    least_side: ClassVar[int] = 64
    """The side it sees images at where they are smaller and `input_size` is 0."""

    name: str = setting("resnet34", "timm's name of it, as in timm.list_models()")
    weights: str = setting("scratch", "initial weights", choices=("scratch", "imagenet"))
    weights_file: str = setting(
        "", 'file of its ImageNet weights; "" takes medzoo\'s asset if it is on this machine, or asks the Hub'
    )
    weights_sha256: str = setting("", 'SHA-256 of that file; "" is the one of medzoo\'s asset for this network')
    input_size: int = setting(
        0, "side in pixels that images are resized to; 0 is that of the image, at least 64", min=0, max=4096
    )

    def __post_init__(self) -> None:
        if self.weights_file and self.weights != "imagenet":
            raise ConfigError("network.weights_file is for network.weights=imagenet", "set both, or none")


@dataclass(frozen=True, kw_only=True)
class TimmSettings(BackboneSettings):
    """A network of timm that is trained."""

    normalization: str = setting(
        "data",
        "pixels are standardized by the statistics of the training data or of the weights",
        choices=("data", "weights"),
    )
    dropout: float = setting(0.0, "before the last layer", min=0.0, max=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
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
class Lite0Settings(TimmSettings):
    """The network of `efficientnet_lite0`."""

    name: str = setting(_LITE0, "timm's name of it; test_efficientnet is for tests", choices=(_LITE0, _TEST_LITE0))


@dataclass(frozen=True, kw_only=True)
class Lite0Config(ClassifierSettings):
    """Settings of `efficientnet_lite0`."""

    network: Lite0Settings = Lite0Settings()


@dataclass(frozen=True, kw_only=True)
class FrozenSettings(TimmSettings):
    """The network of `resnet50-frozen`."""

    name: str = setting("resnet50", "timm's name of it; test_resnet is for tests", choices=("resnet50", "test_resnet"))
    hidden_dim: int = setting(256, "width of the first of the two new dense layers", min=1)


@dataclass(frozen=True, kw_only=True)
class FrozenConfig(ClassifierSettings):
    """Settings of `resnet50-frozen`."""

    network: FrozenSettings = FrozenSettings()


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(BackboneSettings):
    """The frozen network of `frozen`, whose features are classified."""

    least_side: ClassVar[int] = 160
    name: str = setting(_LITE0, "timm's name of it, as in timm.list_models()")
    weights: str = setting(
        "imagenet", "its weights; scratch, random ones, is for tests", choices=("scratch", "imagenet")
    )
    input_size: int = setting(
        0, "side in pixels that images are resized to; 0 is that of the image, at least 160", min=0, max=4096
    )
    extractor: str = setting("", 'an extractor (medzoo plugin list) in its place, such as dinov2; "" is the network')
    mirrored: bool = setting(True, "the mirror image of each training image counts as another one")


@dataclass(frozen=True, kw_only=True)
class RegressionSettings:
    """The logistic regression on the features."""

    C: tuple[float, ...] = setting(
        (0.002,),
        "inverse strength of the L2 penalty (scikit-learn's C); of several, that of the lowest validation loss",
        min=1e-9,
    )
    max_iter: int = setting(500, "L-BFGS iterations at most", min=1)


@dataclass(frozen=True, kw_only=True)
class RegressionObjective:
    """Which images count more."""

    class_weighted: bool = setting(False, "weight classes by their inverse frequency (multi-label: the positives)")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Settings of `frozen`."""

    image: ImageSettings = ImageSettings()
    network: FeatureSettings = FeatureSettings()
    regression: RegressionSettings = RegressionSettings()
    objective: RegressionObjective = RegressionObjective()
