"""Published weights that a model starts from, read by diffusers from the Hub or a folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from medzoo.errors import ConfigError, HubError


def load_autoencoder(autoencoder: Any, source: str) -> None:
    """Fill diffusers' `autoencoder` with the weights of `source`, a Hub id (cached by huggingface_hub) or a folder.

    Safetensors only. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub.

    Raises:
        HubError: it cannot be had.
        ConfigError: it is an autoencoder of another shape.
    """
    from diffusers import AutoencoderKL

    try:
        with warnings.catch_warnings():
            # diffusers still names an argument that huggingface_hub no longer has
            warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
            published: Any = AutoencoderKL.from_pretrained(source, use_safetensors=True)
    except OSError as error:  # diffusers' one answer to whatever is missing, on disk or on the Hub
        reason = str(error).strip().splitlines()[0]
        mend = (
            f"{source} should hold config.json and diffusion_pytorch_model.safetensors"
            if Path(source).exists()
            else f"download {source} where there is a network, and give its folder as autoencoder.pretrained"
        )
        raise HubError(f"the autoencoder '{source}' cannot be had: {reason}", mend) from error
    _refuse_other_shape(autoencoder, published, source)
    autoencoder.load_state_dict(published.state_dict())


def _refuse_other_shape(own: nn.Module, published: nn.Module, source: str) -> None:
    mine, theirs = ({name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (own, published))
    if mine == theirs:
        return
    config: Any = published.config
    raise ConfigError(
        f"the autoencoder '{source}' has another shape than the settings say",
        f"set autoencoder.latent_channels={config.latent_channels}, autoencoder.layers={config.layers_per_block}, "
        f"autoencoder.widths={list(config.block_out_channels)}, autoencoder.groups={config.norm_num_groups}, "
        f"autoencoder.attention={str(config.mid_block_add_attention).lower()}, autoencoder.patch=1",
    )
