"""Settings that models share, as dataclasses to nest in a plugin's own. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting

SAMPLERS = ("dpm-solver++", "sde-dpm-solver++", "ddim", "ddpm")
SPACINGS = ("uniform", "quadratic")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How files become the model's images."""

    size: int = setting(64, "side in pixels", low=8, high=1024)
    channels: int = setting(1, "1 grey, 3 colour", choices=(1, 3))
    crop: str = setting("none", "what is kept of a picture", choices=("none", "centre", "dark-border"))


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One training run: how long, how fast, how it is kept."""

    epochs: int = setting(100, "passes over the data", low=1)
    batch_size: int = setting(32, "images an optimiser step, over all processes and accumulation", low=1)
    accumulate: int = setting(1, "micro-batches a step", low=1)
    rate: float = setting(2e-4, "peak learning rate", low=0.0)
    warmup: int = setting(100, "steps of linear warm-up", low=0)
    schedule: str = setting("cosine", "rate after warm-up", choices=("cosine", "constant"))
    beta1: float = setting(0.9, "Adam: decay of the mean", low=0.0, high=1.0)
    beta2: float = setting(0.999, "Adam: decay of the square", low=0.0, high=1.0)
    weight_decay: float = setting(0.0, "decoupled weight decay (AdamW)", low=0.0)
    clip: float = setting(1.0, "largest gradient norm; 0 does not clip", low=0.0)
    ema: float = setting(0.9999, "decay of the averaged weights, reached by warm-up", low=0.0, high=1.0)
    precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)
    compile: bool = setting(False, "torch.compile: needs a C++ compiler and a minute or two, then trains faster")
    balanced: bool = setting(True, "draw classes equally often (inverse class frequency)")
    flip: bool = setting(True, "mirror half of the images left to right")
    jitter: float = setting(0.1, "colour jitter: largest relative change of brightness and contrast", low=0.0, high=1.0)
    workers: int = setting(0, "processes that read images ahead", low=0)
    checkpoint_every: int = setting(500, "steps between checkpoints", low=1)
    preview_every: int = setting(5, "epochs between sample grids", low=1)


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """The forward process and what the network predicts."""

    schedule: str = setting("cosine", "noise schedule", choices=("linear", "scaled_linear", "cosine"))
    steps: int = setting(1000, "steps of the forward process", low=2)
    prediction: str = setting("epsilon", "the network's target", choices=("epsilon", "v_prediction"))
    label_dropout: float = setting(0.1, "share of samples trained without their label", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class PerceptualSettings:
    """A loss in an ImageNet network's features, `losses.perceptual_distance`."""

    perceptual: float = setting(0.0, "weight of the perceptual term", low=0.0)
    perceptual_network: str = setting("vgg16", "features of the perceptual term", choices=("vgg16", "lpips"))
    perceptual_weights: str = setting("", "file of torchvision's VGG16 ImageNet weights (vgg16-397923af.pth)")


@dataclass(frozen=True, kw_only=True)
class LossSettings(PerceptualSettings):
    """The training objective; terms of weight 0 are not computed."""

    pixel: str = setting("mse", "distance on the network's target", choices=("charbonnier", "l1", "mse"))
    variational: float = setting(0.001, "weight of the variational bound (learned variance only)", low=0.0)
    edge: float = setting(0.0, "weight of the Laplacian edge term", low=0.0)


@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings(PerceptualSettings):
    """The training objective of an autoencoder; terms of weight 0 are not computed."""

    pixel: str = setting("l1", "distance of pixels in [-1, 1]", choices=("charbonnier", "l1", "mse"))
    ssim: float = setting(0.0, "weight of 1 - SSIM", low=0.0)
    perceptual_network: str = setting("lpips", "features of the perceptual term", choices=("vgg16", "lpips"))
    kl: float = setting(1e-4, "weight (beta) of the divergence from a standard normal, nats a pixel", low=0.0)
    kl_warmup: int = setting(0, "steps over which that weight rises from 0", low=0)
    adversarial: float = setting(0.0, "weight of the patch discriminator's term", low=0.0)
    adversarial_from: int = setting(500, "step from which there is a discriminator", low=0)
    adversary_rate: float = setting(2e-4, "its peak learning rate", low=0.0)
    adversary_widths: tuple[int, ...] = setting((32, 64, 128), "its channels, one stride-2 convolution each", low=1)


@dataclass(frozen=True, kw_only=True)
class LatentLossSettings(PerceptualSettings):
    """The training objective of a denoiser of latents; terms of weight 0 are not computed."""

    pixel: str = setting("mse", "distance on the network's target", choices=("charbonnier", "l1", "mse"))
    perceptual: float = setting(0.0, "weight of the perceptual term on decoded images", low=0.0)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How images are drawn."""

    sampler: str = setting("dpm-solver++", "algorithm", choices=SAMPLERS)
    steps: int = setting(20, "network evaluations an image", low=1)
    spacing: str = setting("uniform", "of the steps; quadratic spends more near the image", choices=SPACINGS)
    guidance: float = setting(1.0, "classifier-free guidance scale; 1 is none", low=0.0)
    precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class PixelDiffusionSettings:
    """What every diffusion model on pixels has; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class LatentDiffusionSettings:
    """What every diffusion model on an autoencoder's latents has; a plugin adds `autoencoder` and `network`."""

    image: ImageSettings = ImageSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    first_stage: TrainingSettings = TrainingSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LatentLossSettings = LatentLossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class UNetSettings:
    """A U-Net of diffusers; a plugin adds how it attends."""

    widths: tuple[int, ...] = setting((128, 128, 256, 256), "channels at each resolution", low=1)
    layers: int = setting(2, "residual blocks at each resolution", low=1)
    attention_from: int = setting(2, "first resolution (counted from 0) with attention", low=0)
    groups: int = setting(32, "groups of the group normalisation", low=1)
    dropout: float = setting(0.0, "dropout in residual blocks", low=0.0, high=1.0)
    patch: int = setting(1, "pixels a side folded into channels before the network (2 quarters its work)", low=1)


@dataclass(frozen=True, kw_only=True)
class TokenUNetSettings(UNetSettings):
    """A conditional U-Net of diffusers and the label tokens it attends to."""

    heads: int = setting(8, "attention heads", low=1)
    tokens: int = setting(8, "label tokens", low=1)
    token_width: int = setting(256, "width of a label token", low=1)
    token_hidden: int = setting(512, "hidden width of the label embedding", low=1)
