"""Settings of `dcgan`."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.toolkit.settings import PRECISIONS, SPECTRUM_GAIN, ImageSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The generator's network."""

    conditional: bool = setting(True, "class-conditional; false needs data of a single class")
    latent_dim: int = setting(64, "dimensions of the noise vector", min=1)
    label_embedding_dim: int = setting(16, "dimensions of the class embedding", min=1)
    base_channels: int = setting(32, "channels at the highest resolution, doubled at each lower one", min=1)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings:
    """The discriminator and its DiffAugment (Zhao et al. 2020), which reduces overfitting on small data sets."""

    base_channels: int = setting(32, "channels at the highest resolution, doubled at each lower one", min=1)
    norm: str = setting("batch", "batch or spectral normalization", choices=("batch", "spectral"))
    learning_rate: float = setting(2e-4, "peak learning rate", min=0.0)
    color: float = setting(0.0, "DiffAugment: strength of color changes (often 1)", min=0.0)
    translation: float = setting(
        0.0, "DiffAugment: largest shift, fraction of the side (often 0.125)", min=0.0, max=0.5
    )
    cutout: float = setting(0.0, "DiffAugment: side of a cutout, fraction of the side (often 0.5)", min=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Sampling of images."""

    spectrum_gain: tuple[float, ...] = setting((), SPECTRUM_GAIN, min=0.0, max=10.0)
    mixed_precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    """Settings of `dcgan`."""

    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    loss: str = setting("non-saturating", "adversarial loss", choices=("non-saturating", "hinge"))
    collapse_threshold: float = setting(
        0.5,
        "warn of collapse below this fraction of the pairwise distance of real images; 0: never",
        min=0.0,
        max=1.0,
    )
    training: TrainingSettings = TrainingSettings(
        learning_rate=2e-4, beta1=0.5, warmup_steps=0, lr_scheduler="constant", max_grad_norm=0.0, ema_decay=0.999
    )
    sampling: SamplingSettings = SamplingSettings()
