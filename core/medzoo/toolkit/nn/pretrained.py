"""Published weights for models and losses."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

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
    _check_shapes(autoencoder, published, source)
    autoencoder.load_state_dict(published.state_dict())


def _check_shapes(own: nn.Module, published: nn.Module, source: str) -> None:
    mine, theirs = ({name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (own, published))
    if mine == theirs:
        return
    config: Any = published.config
    raise ConfigError(
        f"the autoencoder '{source}' has another shape than the settings say",
        f"set autoencoder.latent_channels={config.latent_channels}, "
        f"autoencoder.layers_per_block={config.layers_per_block}, "
        f"autoencoder.block_out_channels={list(config.block_out_channels)}, "
        f"autoencoder.norm_num_groups={config.norm_num_groups}, "
        f"autoencoder.mid_block_add_attention={str(config.mid_block_add_attention).lower()}, autoencoder.patch_size=1",
    )
