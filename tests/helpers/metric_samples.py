"""Image sets and networks' weights made up for the tests of metrics."""

from __future__ import annotations

import io
import math

import timm
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models

from medzoo import Sample
from medzoo.hub.registry import load_registry
from medzoo.hub.sources import package_folder
from medzoo.toolkit.nn.pretrained import read_weights


def images(count, *, side=48, channels=1, seed=0, light=0.0):
    """Blurred noise, uint8 (N, C, H, W), a little brighter by `light`."""
    noise = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    blurred = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2, count_include_pad=False)
    return ((blurred + light).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def sample_of(pixels, *, classes=3, **fields):
    """What a metric is given of uint8 images."""
    return Sample(size=len(pixels), pixels=pixels.float() / 255.0, labels=torch.arange(len(pixels)) % classes, **fields)


def features_of(vectors, **layers):
    """What a metric is given of features alone."""
    return Sample(size=len(vectors), features={"features": vectors, **layers})


def random_state(shapes, seed=0):
    """Weights of these shapes that keep the size of activations through layers of ReLUs (He et al. 2015)."""
    source = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in shapes.items():
        if value.ndim > 1:
            gain = math.sqrt(2.0 / math.prod(value.shape[1:]))
            state[name] = torch.randn(value.shape, generator=source) * gain
        elif name.endswith("running_var") or name.endswith("bn.weight"):
            state[name] = torch.ones(value.shape)
        else:
            state[name] = torch.zeros(value.shape, dtype=value.dtype)
    return state


class _Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, state):
        pass


def inception_state():
    """Random weights under the names of torch-fidelity's Inception."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.device("meta"):
        network = _Unloaded("inception", ["logits"], feature_extractor_weights_path=nothing)
    return random_state(network.state_dict())


def torchvision_state(name):
    """Random weights under torchvision's names of "vgg16" or "alexnet"."""
    with torch.device("meta"):
        network = getattr(models, name)(weights=None)
    return random_state(network.state_dict())


def lite0_state():
    """The weights of the asset `efficientnet-lite0-imagenet`, which come with the test tools."""
    entry = load_registry().asset("efficientnet-lite0-imagenet")
    path = package_folder(entry) / entry.files[0].name
    return read_weights(path, sha256=entry.files[0].sha256, hint=entry.fetch_command)


def dinov2_state():
    """Random weights under the names and shapes of the asset `dinov2-vits14`, made for images of 518 pixels."""
    with torch.device("meta"):
        network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    return random_state(network.state_dict())
