"""DCGAN: a generative adversarial network of convolutions (Goodfellow et al. 2014, Radford et al. 2016; study C)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from medzoo import Generator, GeneratorSpec, ImageSpec, hookimpl
from medzoo.config import setting
from medzoo.toolkit.settings import PRECISIONS, ImageSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The generator's network."""

    conditional: bool = setting(True, "images of the class asked for; false takes data of one class only")
    latent: int = setting(64, "numbers of random noise an image is made from", low=1)
    label_width: int = setting(16, "width of the class embedding beside the noise", low=1)
    width: int = setting(32, "channels at the highest resolution, doubled at each lower one", low=1)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings:
    """The discriminator and what keeps it from learning a small set by heart."""

    width: int = setting(32, "channels at the highest resolution, doubled at each lower one", low=1)
    norm: str = setting("batch", "batch or spectral normalisation", choices=("batch", "spectral"))
    rate: float = setting(2e-4, "its peak learning rate", low=0.0)
    color: float = setting(0.0, "differentiable augmentation: strength of colour changes (1 is common)", low=0.0)
    translation: float = setting(0.0, "the same: largest shift, share of the side (0.125)", low=0.0, high=0.5)
    cutout: float = setting(0.0, "the same: side of a blanked square, share of the side (0.5)", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How images are drawn."""

    precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    """Settings of `dcgan`."""

    image: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    loss: str = setting("non-saturating", "the game both play", choices=("non-saturating", "hinge"))
    collapse: float = setting(
        0.5, "warn below this share of the real images' pairwise distance; 0 never warns", low=0.0, high=1.0
    )
    training: TrainingSettings = TrainingSettings(
        rate=2e-4, beta1=0.5, warmup=0, schedule="constant", clip=0.0, ema=0.999
    )
    sampling: SamplingSettings = SamplingSettings()


def build(config: DCGANConfig, image: ImageSpec, device: str) -> Generator:
    """A DCGAN with fresh weights on `device`."""
    from medzoo_dcgan.model import DCGAN

    return DCGAN(config, image).to(device)


@hookimpl
def register_generators() -> list[GeneratorSpec]:
    """Offer `dcgan`."""
    return [
        GeneratorSpec(
            contract=2,
            name="dcgan",
            summary="class-conditional adversarial network of convolutions; one pass an image",
            config=DCGANConfig,
            presets=files(__name__) / "presets",
            build=build,
        )
    ]
