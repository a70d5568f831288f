"""LPIPS (Zhang et al. 2018) on given weights, without a download."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def build_lpips(net: str, state: Mapping[str, Tensor]) -> Any:
    """Build LPIPS ("vgg" or "alex") on the backbone `state`, named as in torchvision; frozen.

    Called with two batches of images (N, 3, H, W) in [-1, 1], it returns distances (N, 1, 1, 1).
    The global random state is unchanged.
    """
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # lpips builds its backbone through an argument that torchvision has renamed
        warnings.filterwarnings("ignore", message="The parameter 'pretrained'|Arguments other than a weight enum")
        distance = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    # Parameter "slice2.5.weight" of its backbone is torchvision's "features.5.weight".
    backbone = {name: state[f"features.{name.partition('.')[2]}"] for name in distance.net.state_dict()}
    distance.net.load_state_dict(backbone)
    return distance.requires_grad_(False).eval()
