"""Networks of timm as bodies of classifiers, and their published weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.assets import at_hand, fetch_command, read_asset
from medzoo.errors import ConfigError, HubError, UnknownName
from medzoo.seeds import global_draws_from
from medzoo.toolkit.classification import ImageClassifier, Start
from medzoo.toolkit.nn.pretrained import LITE0_DEVIATION, LITE0_MEAN, lite0_weights, read_weights
from medzoo_classifiers.settings import (
    BackboneSettings,
    FrozenConfig,
    FrozenSettings,
    SwinSettings,
    TimmConfig,
    TimmSettings,
)

_PATCHES = 32
"""Networks with a fixed input size need a multiple of this: their patches, halved at each stage."""
_LITE0 = "tf_efficientnet_lite0"

ASSETS = {
    "resnet18": ("resnet18-imagenet", "80c49dee3da4822c009c5a7fe591e9223c5a2cfcf95a4067ca4dfb5a7b89c612"),
    "resnet50": ("resnet50-imagenet", "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb"),
    "convnext_tiny": ("convnext-tiny-imagenet", "a1aefa409b513cf209b085424eb3efffe4e4a9f511491bc2c12ea35209e6bb95"),
    "swin_tiny_patch4_window7_224": (
        "swin-tiny-imagenet", "fb01861f793143135fa0d6cd97b1631e4b33eaa3ee162bbea9e62de1c76ebac1",
    ),
    "vit_tiny_patch16_224": ("vit-tiny-imagenet", "fecf81b492bd13ee7a5297cb74d1d417aac8bf7e1b7d96aed89c4691984587ed"),
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-imagenet", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "vit_small_patch14_dinov2": (
        "dinov2-vits14", "04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081",
    ),
}  # fmt: skip
"""The asset of medzoo's registry with a network's ImageNet weights, and the SHA-256 of its file."""


class TimmBody(nn.Module):
    """A network of timm with a new last layer, trained as a whole."""

    def __init__(self, settings: TimmSettings, image: ImageSpec) -> None:
        super().__init__()
        self.backbone: Any = create_network(settings, image, classes=len(image.classes), dropout=settings.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits (N, K)."""
        logits: Tensor = self.backbone(images)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features before the last layer, (N, D)."""
        features: Tensor = self.backbone.forward_head(self.backbone.forward_features(images), pre_logits=True)
        return features


class FrozenBody(nn.Module):
    """Two new dense layers on a frozen network of timm (study C).

    The backbone stays in evaluation mode, so that batch normalization keeps the published statistics too. The dense
    layers are initialized Xavier-normal (Glorot & Bengio 2010) with biases of 0.
    """

    def __init__(self, settings: FrozenSettings, image: ImageSpec) -> None:
        super().__init__()
        self.backbone: Any = create_network(settings, image, classes=0, dropout=0.0)
        self.backbone.requires_grad_(False)
        self.dense = nn.Sequential(nn.Linear(self.backbone.num_features, settings.hidden_dim), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(settings.hidden_dim, len(image.classes)))
        for layer in (*self.dense, *self.head):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def train(self, mode: bool = True) -> FrozenBody:
        """Set the mode of the dense layers."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits (N, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the output of the first dense layer, (N, D)."""
        with torch.no_grad():
            pooled = self.backbone(images)
        features: Tensor = self.dense(pooled)
        return features


def classifier(config: TimmConfig | FrozenConfig, image: ImageSpec, body: TimmBody | FrozenBody) -> ImageClassifier:
    """Return the classifier over `body`; `fit` loads published weights into it if the settings ask for them."""
    start = partial(starting_weights, body, config.network, image)
    return ImageClassifier(config, image, body, side=side_of(config.network, image), start=start)


def side_of(settings: BackboneSettings, image: ImageSpec) -> int:
    """Return the side the network sees: `network.input_size`, or the image's, raised to the smallest it can pool.

    Raises:
        ConfigError: the network cannot be built for `network.input_size`.
    """
    fixed = published_config(settings).fixed_input_size
    patches = 14 if "patch14" in settings.name else _PATCHES
    if settings.input_size == 0:
        side = max(settings.least_side, image.size)
        return -(-side // patches) * patches if fixed else side
    if fixed and settings.input_size % patches:
        raise ConfigError(
            f"network.input_size = {settings.input_size}: {settings.name} needs a multiple of {patches}",
            f"set it to {max(1, round(settings.input_size / patches)) * patches}, or to 0",
        )
    return settings.input_size


def starting_weights(body: TimmBody | FrozenBody, settings: TimmSettings, image: ImageSpec) -> Start:
    """Load the initial weights of `body` and return their source: random, or ImageNet's except for the last layer.

    Raises: as `load_published`.
    """
    if settings.weights == "scratch":
        return Start(source="scratch")
    start = load_published(body.backbone, settings, image)
    return start if settings.normalization == "weights" else replace(start, mean=None, deviation=None)


def load_published(backbone: Any, settings: BackboneSettings, image: ImageSpec) -> Start:
    """Load published weights into `backbone`, except for its last layer; return their source and pixel statistics.

    They are those of `network.weights_file`, of medzoo's asset if it is on this machine, or else timm's on the Hub.
    For one channel, the filters of the three channels are summed; for another size, position embeddings are resampled.

    Raises:
        HubError: the weights cannot be downloaded.
        IntegrityError, ResourceError: the file has another SHA-256, or cannot be read.
        ConfigError: the shapes of the weights differ from the settings'.
    """
    config = published_config(settings)
    asset = ASSETS.get(settings.name, ("", ""))[0]
    source, state = config.hf_hub_id or settings.name, None
    mean, deviation = config.mean, config.std
    if settings.weights_file:
        source, state = f"{source}, from a file", _from_file(settings)
    elif asset and at_hand(asset):
        source, state = asset, read_asset(asset)
    if state is not None and settings.name == _LITE0 and "_conv_stem.weight" in state:
        state, mean, deviation = lite0_weights(state), (LITE0_MEAN,) * 3, (LITE0_DEVIATION,) * 3
    overlay = None if state is None else {"state_dict": state}
    # timm initializes all weights at random before it loads the published ones
    with global_draws_from(0, torch.device("cpu")):
        published = _published(settings, image, overlay)
    heads = (config.classifier,) if isinstance(config.classifier, str) else config.classifier
    last = tuple(f"{head}." for head in heads if head)
    kept = {name: value for name, value in published.state_dict().items() if not (last and name.startswith(last))}
    own = {name: value for name, value in backbone.state_dict().items() if last and name.startswith(last)}
    backbone.load_state_dict(kept | own)
    return Start(
        source=source,
        license=config.license or "",
        mean=_channels(mean, image),
        deviation=_channels(deviation, image),
    )


def _published(settings: BackboneSettings, image: ImageSpec, overlay: dict[str, Any] | None) -> Any:
    try:
        # Only with the published number of classes does timm require every weight.
        classes = published_config(settings).num_classes
        return create_network(settings, image, classes=classes, dropout=0.0, pretrained=True, overlay=overlay)
    except OSError as error:  # huggingface_hub raises it if the Hub is unreachable or has no such file
        known = ASSETS.get(settings.name)
        fetch = fetch_command(known[0]) if known else ""
        how = f"{fetch}; or fetch" if fetch else "fetch"
        raise HubError(
            f"the ImageNet weights of {settings.name} cannot be loaded: {str(error).strip().splitlines()[0]}",
            f"{how} their file where there is a network and give it as network.weights_file"
            f"{'' if known else ', with its network.weights_sha256'}, or set network.weights=scratch",
        ) from error
    except RuntimeError as error:  # timm raises it if no weights are published, torch on other shapes
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{settings.name} cannot start from ImageNet weights: {reason}", "set network.weights=scratch"
        ) from error


def _from_file(settings: BackboneSettings) -> dict[str, Tensor]:
    asset, sha256 = ASSETS.get(settings.name, ("", ""))
    expected = settings.weights_sha256 or sha256
    if not expected:
        raise ConfigError(f"no SHA-256 is known for the weights of {settings.name}", "set network.weights_sha256")
    hint = f"`medzoo pull {asset}` prints the file" if asset else "give timm's model.safetensors of this network"
    return read_weights(Path(settings.weights_file), sha256=expected, hint=hint)


def create_network(
    settings: BackboneSettings,
    image: ImageSpec,
    *,
    classes: int,
    dropout: float,
    pretrained: bool = False,
    overlay: dict[str, Any] | None = None,
) -> Any:
    """Build the network with random or published weights."""
    shape: dict[str, Any] = {}
    if published_config(settings).fixed_input_size:
        shape["img_size"] = side_of(settings, image)
    if isinstance(settings, SwinSettings):
        heads = tuple(settings.embed_dim * 2**stage // 32 for stage in range(len(settings.depths)))
        shape |= {"embed_dim": settings.embed_dim, "depths": settings.depths, "num_heads": heads}
    return timm.create_model(
        settings.name,
        pretrained=pretrained,
        pretrained_cfg_overlay=overlay,
        num_classes=classes,
        in_chans=image.channels,
        drop_rate=dropout,
        **shape,
    )


def published_config(settings: BackboneSettings) -> Any:
    """Return timm's metadata of the network's published weights. Raises: UnknownName."""
    config = timm.get_pretrained_cfg(settings.name) if timm.is_model(settings.name) else None
    if config is None:
        raise UnknownName("network of timm", settings.name, timm.list_models())
    return config


def _channels(values: tuple[float, ...], image: ImageSpec) -> list[float]:
    """Return per-channel statistics for the image's channels: averaged if their number differs."""
    return list(values) if image.channels == len(values) else [sum(values) / len(values)] * image.channels
