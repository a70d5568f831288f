"""Distances between images and the variational bound of a diffusion step."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.errors import ResourceError
from medzoo.toolkit.nn.pretrained import build_lpips, read_weights
from medzoo.toolkit.settings import PerceptualSettings

VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"  # torchvision's vgg16-397923af.pth


def pixel_distance(prediction: Tensor, target: Tensor, *, kind: str, weights: Tensor | None = None) -> Tensor:
    """Return the mean distance over all elements, a scalar; `weights` (N,) multiply those of each row.

    `kind` is "mse", "l1" or "charbonnier" (sqrt(d^2 + 1e-6), Charbonnier 1994).
    """
    if kind == "mse":
        distance = functional.mse_loss(prediction, target, reduction="none")
    elif kind == "l1":
        distance = functional.l1_loss(prediction, target, reduction="none")
    else:
        distance = torch.sqrt((prediction - target) ** 2 + 1e-6)
    return distance.mean() if weights is None else (weights * distance.flatten(1).mean(dim=1)).mean()


def edge_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of the Laplacians of two image batches (N, C, H, W), per image: (N,)."""
    kernel = _laplacian(prediction.device)
    difference = (prediction - target).flatten(0, 1).unsqueeze(1)
    laplacian = functional.conv2d(difference, kernel.to(difference.dtype))
    return laplacian.abs().mean(dim=(1, 2, 3)).view(prediction.shape[0], -1).mean(dim=1)


@functools.cache
def _laplacian(device: torch.device) -> Tensor:
    """Return the kernel (1, 1, 3, 3); made once, as copying numbers to a GPU waits for its queued work."""
    with torch.inference_mode(False):  # gradients flow through it, whoever asks for it first
        return torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]], device=device)


def gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return the KL divergence in nats of N(mean1, e^log_variance1) from N(mean2, e^log_variance2), elementwise."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1.0
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def discretized_gaussian_nll(images: Tensor, *, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats, element by element, of 8-bit `images` in [-1, 1] under a Gaussian.

    Discretized as in Ho et al. 2020, eq. 13.
    """
    scale = torch.exp(-0.5 * log_variance) / math.sqrt(2.0)

    def below(edge: Tensor) -> Tensor:
        return 0.5 * (1.0 + torch.erf((edge - mean) * scale))

    upper = torch.where(images > 0.999, torch.ones_like(images), below(images + 1.0 / 255.0))
    lower = torch.where(images < -0.999, torch.zeros_like(images), below(images - 1.0 / 255.0))
    return -torch.log((upper - lower).clamp(min=1e-12))


class PerceptualDistance(nn.Module):
    """The distance of two image batches in the features of an ImageNet VGG16; frozen.

    `network` "vgg16" compares the activations after relu1_2, relu2_2 and relu3_3 (Johnson et al. 2016); "lpips" is the
    calibrated distance of Zhang et al. 2018 on the same backbone. `weights` is the path of torchvision's file.

    Raises:
        ResourceError: no file is given, or it cannot be read.
        IntegrityError: its SHA-256 is another.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, *, network: str, weights: str) -> None:
        super().__init__()
        state = _read_vgg16(weights)
        if network == "lpips":
            self.distance = build_lpips("vgg", state)
        else:
            from torchvision.models import vgg16

            with torch.device("meta"):  # no random weights, since they are replaced
                features = vgg16(weights=None, init_weights=False).features
            inner = {name.removeprefix("features."): value for name, value in state.items() if "features." in name}
            features.load_state_dict(inner, assign=True)
            self.stages = nn.ModuleList([features[:4], features[4:9], features[9:16]])
            self.register_buffer("shift", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
            self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)
        self.network = network
        self.requires_grad_(False).eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance per image (N,) of batches (N, 1 or 3, H, W) in [-1, 1]."""
        first, second = (images.expand(-1, 3, -1, -1) for images in (first, second))
        if self.network == "lpips":
            lpips_distance: Tensor = self.distance(first, second)
            return lpips_distance.flatten()
        shift, spread = self.shift.to(first.dtype), self.spread.to(first.dtype)
        one, other = (((images + 1) / 2 - shift) / spread for images in (first, second))
        total = first.new_zeros(first.shape[0])
        for stage in self.stages:
            one, other = stage(one), stage(other)
            total = total + (one - other).abs().mean(dim=(1, 2, 3))
        return total


def perceptual_distance(settings: PerceptualSettings, device: torch.device) -> PerceptualDistance | None:
    """Build the distance of the settings on `device`; None if its weight is 0. Raises: as `PerceptualDistance`."""
    if settings.perceptual_weight == 0:
        return None
    return PerceptualDistance(network=settings.perceptual_network, weights=settings.perceptual_weights_file).to(device)


def _read_vgg16(weights: str) -> dict[str, Tensor]:
    hint = (
        "`medzoo pull vgg16-imagenet` prints the file for loss.perceptual_weights_file; or set loss.perceptual_weight=0"
    )
    if not weights:
        raise ResourceError("the perceptual loss needs VGG16 ImageNet weights", hint)
    return read_weights(Path(weights), sha256=VGG16_SHA256, hint=hint)
