"""Published weights, and networks built on them: LPIPS, EfficientNet-Lite0, and the autoencoders of diffusers."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from medzoo.errors import ConfigError, HubError, IntegrityError, ResourceError


def read_weights(path: Path, *, sha256: str, hint: str) -> dict[str, Tensor]:
    """Read the tensors of a published file, by name, on the CPU, if the file has the given SHA-256.

    A .safetensors file is read as such, any other as torch's .pth with `weights_only`, from the same bytes that were
    hashed. `hint` is the hint of the errors.

    Raises:
        ResourceError: the file cannot be read.
        IntegrityError: its SHA-256 is another.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read the weights {path}: {error.strerror}", hint) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise IntegrityError(f"{path} has sha256 {digest[:12]}..., expected {sha256[:12]}...", hint)
    if path.suffix == ".safetensors":
        return load_safetensors(data)
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def build_lpips(net: str, state: Mapping[str, Tensor]) -> Any:
    """Build LPIPS (Zhang et al. 2018; "vgg" or "alex") on the backbone `state`, named as in torchvision; frozen.

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


LITE0_MEAN, LITE0_DEVIATION = 127 / 255, 128 / 255
"""The pixel statistics of `lite0_weights`' training, which standardized uint8 values as (x - 127) / 128."""

# How many blocks each stage of EfficientNet-Lite0 has; those of the first do not expand.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE0_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE0_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite0_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the asset `efficientnet-lite0-imagenet` to those of timm's `tf_efficientnet_lite0`.

    Raises:
        KeyError: they have other names.
    """
    places = [(stage, block) for stage, count in enumerate(_LITE0_STAGES) for block in range(count)]

    def renamed(name: str) -> str:
        part, _, rest = name.partition(".")
        if part != "_blocks":
            return f"{_LITE0_STEM[part]}.{rest}"
        number, layer, rest = rest.split(".", 2)
        stage, block = places[int(number)]
        return f"blocks.{stage}.{block}.{(_LITE0_BLOCK if stage else _LITE0_FIRST)[layer]}.{rest}"

    return {renamed(name): value for name, value in state.items()}


def load_autoencoder(autoencoder: Any, source: str) -> None:
    """Load into diffusers' `autoencoder` the weights of `source`, a Hub id (cached by huggingface_hub) or a folder.

    Safetensors only. huggingface_hub reads HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE.

    Raises:
        HubError: the weights cannot be loaded.
        ConfigError: the shapes of the weights differ from the settings'.
    """
    from diffusers import AutoencoderKL

    try:
        with warnings.catch_warnings():
            # diffusers still names an argument that huggingface_hub no longer has
            warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
            published: Any = AutoencoderKL.from_pretrained(source, use_safetensors=True)
    except OSError as error:  # diffusers raises it for anything missing, on disk or on the Hub
        reason = str(error).strip().splitlines()[0]
        hint = (
            f"{source} should hold config.json and diffusion_pytorch_model.safetensors"
            if Path(source).exists()
            else "fetch it where there is a network (`medzoo pull sd-vae-ft-mse` prints the folder of study A's), and "
            "give its folder as autoencoder.pretrained"
        )
        raise HubError(f"the autoencoder '{source}' cannot be loaded: {reason}", hint) from error
    mine, theirs = (
        {name: tuple(value.shape) for name, value in network.state_dict().items()}
        for network in (autoencoder, published)
    )
    if mine != theirs:
        config = published.config
        raise ConfigError(
            f"the autoencoder '{source}' has another shape than the settings say",
            f"set autoencoder.latent_channels={config.latent_channels}, "
            f"autoencoder.layers_per_block={config.layers_per_block}, "
            f"autoencoder.block_out_channels={list(config.block_out_channels)}, "
            f"autoencoder.norm_num_groups={config.norm_num_groups}, "
            f"autoencoder.mid_block_add_attention={str(config.mid_block_add_attention).lower()}, "
            "autoencoder.patch_size=1",
        )
    autoencoder.load_state_dict(published.state_dict())
