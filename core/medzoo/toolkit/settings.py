"""Settings that models share: dataclasses to nest in a plugin's own. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from medzoo.config import setting
from medzoo.errors import ConfigError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step", "warm-restarts")
SAMPLERS = ("dpm-solver++", "sde-dpm-solver++", "ddim", "ddpm")
SPACINGS = ("uniform", "quadratic", "karras", "exponential", "beta")
PREDICTIONS = ("epsilon", "v_prediction", "edm")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SNR_GAMMA = "min-SNR weighting: signal-to-noise ratio above which timesteps count less, such as 5; 0 is off"
REMOVE_PATTERN = "side of squares whose common pattern of pixels is subtracted, as patches leave one; 1 is off"
SPECTRUM_GAIN = "factors of the images' amplitudes by spatial frequency, as fit_spectrum_gain returns them; [] is off"


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """The model's images, and how files become them."""

    size: int = setting(64, "side in pixels", min=8, max=1024)
    channels: int = setting(1, "1 for grayscale, 3 for color", choices=(1, 3))
    depth: int = setting(
        0,
        "bits used of files that store more than 8: 0 follows the data",
        choices=(0, 8, 10, 12, 14, 15, 16),
    )
    window: str = setting(
        "", "gray window of DICOM and NIfTI files: file, percentile, CENTER,WIDTH or one of CT; empty follows the data"
    )
    crop: str = setting(
        "none",
        "what is kept of a file's image: all, squeezed to a square; its center; all but a dark border; all, padded",
        choices=("none", "center", "dark-border", "pad"),
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One training run: its length, optimizer, augmentation and checkpoints."""

    epochs: int = setting(100, "passes over the training images", min=1)
    batch_size: int = setting(32, "images per optimizer step, over all processes and accumulation steps", min=1)
    gradient_accumulation_steps: int = setting(1, "micro-batches per optimizer step", min=1)
    learning_rate: float = setting(2e-4, "peak learning rate", min=0.0)
    warmup_steps: int = setting(100, "optimizer steps of linear warm-up", min=0)
    lr_scheduler: str = setting("cosine", "learning rate after warm-up", choices=("cosine", "constant"))
    beta1: float = setting(0.9, "Adam: decay of the mean", min=0.0, max=1.0)
    beta2: float = setting(0.999, "Adam: decay of the square", min=0.0, max=1.0)
    weight_decay: float = setting(0.0, "decoupled weight decay (AdamW)", min=0.0)
    max_grad_norm: float = setting(1.0, "gradient norm to clip at; 0 does not clip", min=0.0)
    ema_decay: float = setting(
        0.9999, "decay of the averaged (EMA) weights, reached by warm-up; 0 does not average", min=0.0, max=1.0
    )
    mixed_precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)
    compile: bool = setting(False, "torch.compile: trains faster after a minute or two; needs a C++ compiler")
    class_balanced: bool = setting(True, "sample classes equally often (by inverse class frequency)")
    horizontal_flip: bool = setting(True, "flip half of the images left to right")
    color_jitter: float = setting(0.1, "largest relative change of brightness and contrast", min=0.0, max=1.0)
    num_workers: int = setting(0, "processes that load images; 0 loads them in this one", min=0)
    checkpointing_steps: int = setting(500, "steps between checkpoints", min=1)
    validation_epochs: int = setting(5, "epochs between sample grids", min=1)


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """The forward process and what the network predicts."""

    beta_schedule: str = setting("cosine", "noise schedule", choices=("linear", "scaled_linear", "cosine"))
    num_train_timesteps: int = setting(1000, "steps of the forward process", min=2, max=10_000)
    prediction_type: str = setting(
        "epsilon", "what the network predicts; edm preconditions it by sigma_data", choices=PREDICTIONS
    )
    sigma_data: float = setting(0.5, "edm: standard deviation of the data (images in [-1, 1])", above=0.0, max=10.0)
    timestep_sampling: str = setting(
        "uniform", "timesteps trained on; lognormal: by their noise level, as EDM", choices=("uniform", "lognormal")
    )
    noise_mean: float = setting(-1.2, "lognormal: mean of ln(sigma / alpha)", min=-10.0, max=10.0)
    noise_std: float = setting(1.2, "lognormal: standard deviation of ln(sigma / alpha)", above=0.0, max=10.0)
    label_dropout: float = setting(0.1, "share of images trained without their label, for guidance", min=0.0, max=1.0)


@dataclass(frozen=True, kw_only=True)
class PerceptualSettings:
    """A loss on an ImageNet network's features, `losses.perceptual_distance`."""

    perceptual_weight: float = setting(0.0, "weight of the perceptual term", min=0.0)
    perceptual_network: str = setting("vgg16", "network of the perceptual term", choices=("vgg16", "lpips"))
    perceptual_weights_file: str = setting("", "file of torchvision's VGG16 ImageNet weights (vgg16-397923af.pth)")


@dataclass(frozen=True, kw_only=True)
class LossSettings(PerceptualSettings):
    """The training objective; terms of weight 0 are not computed."""

    pixel: str = setting("mse", "distance on the network's target", choices=("charbonnier", "l1", "mse"))
    snr_gamma: float = setting(0.0, SNR_GAMMA, min=0.0)
    vlb_weight: float = setting(0.001, "weight of the variational bound (learned variance only)", min=0.0)
    edge_weight: float = setting(0.0, "weight of the Laplacian edge term", min=0.0)


@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings(PerceptualSettings):
    """The training objective of an autoencoder; terms of weight 0 are not computed."""

    pixel: str = setting("l1", "distance of pixels in [-1, 1]", choices=("charbonnier", "l1", "mse"))
    ssim_weight: float = setting(0.0, "weight of 1 - SSIM", min=0.0)
    perceptual_network: str = setting("lpips", "network of the perceptual term", choices=("vgg16", "lpips"))
    kl_weight: float = setting(1e-4, "weight (beta) of the divergence from a standard normal, nats per pixel", min=0.0)
    kl_warmup_steps: int = setting(0, "steps over which kl_weight rises from 0", min=0)
    adversarial_weight: float = setting(0.0, "weight of the patch discriminator's term", min=0.0)
    discriminator_start_step: int = setting(500, "step at which the discriminator joins in", min=0)
    discriminator_learning_rate: float = setting(2e-4, "peak learning rate of the discriminator", min=0.0)
    discriminator_channels: tuple[int, ...] = setting((32, 64, 128), "channels of its stride-2 convolutions", min=1)


@dataclass(frozen=True, kw_only=True)
class LatentLossSettings(PerceptualSettings):
    """The training objective of a denoiser of latents; terms of weight 0 are not computed."""

    pixel: str = setting("mse", "distance on the network's target", choices=("charbonnier", "l1", "mse"))
    snr_gamma: float = setting(0.0, SNR_GAMMA, min=0.0)
    perceptual_weight: float = setting(0.0, "weight of the perceptual term on decoded images", min=0.0)


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Sampling of images."""

    scheduler: str = setting("dpm-solver++", "algorithm", choices=SAMPLERS)
    num_inference_steps: int = setting(20, "denoising steps per image", min=1, max=10_000)
    timestep_spacing: str = setting(
        "uniform",
        "spacing of the steps; quadratic takes more near the image, as do karras and exponential; beta at both ends",
        choices=SPACINGS,
    )
    guidance_scale: float = setting(1.0, "classifier-free guidance; 1 is off", min=0.0)
    guidance_interval: tuple[float, ...] = setting(
        (), "noise levels between which guidance applies, as in [0.3, 5]; [] is all, 1 as much noise as signal", min=0.0
    )
    strength: float = setting(
        1.0, "share of the noise schedule gone through; below 1, from a real image", above=0.0, max=1.0
    )
    remove_pattern: int = setting(1, REMOVE_PATTERN, min=1)
    spectrum_gain: tuple[float, ...] = setting((), SPECTRUM_GAIN, min=0.0, max=10.0)
    mixed_precision: str = setting("auto", "auto is bf16 where the hardware has it", choices=PRECISIONS)

    def __post_init__(self) -> None:
        interval = self.guidance_interval
        if interval and (len(interval) != 2 or interval[0] >= interval[1]):
            raise ConfigError(
                f"sampling.guidance_interval = {list(interval)}: two noise levels are needed, the lower one first",
                "as in [0.3, 5]; [] guides at every noise level",
            )


@dataclass(frozen=True, kw_only=True)
class PixelDiffusionSettings:
    """The settings of a diffusion model on pixels; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class LatentDiffusionSettings:
    """The settings of a diffusion model on an autoencoder's latents; a plugin adds `autoencoder` and `network`."""

    image: ImageSettings = ImageSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    first_stage: TrainingSettings = TrainingSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    loss: LatentLossSettings = LatentLossSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class UNetSettings:
    """A U-Net of diffusers; a plugin adds its attention."""

    block_out_channels: tuple[int, ...] = setting((128, 128, 256, 256), "channels at each resolution", min=1)
    layers_per_block: int = setting(2, "residual blocks at each resolution", min=1, max=64)
    attention_from: int = setting(2, "first resolution (counted from 0) with attention", min=0)
    norm_num_groups: int = setting(32, "groups of the group normalization", min=1)
    dropout: float = setting(0.0, "dropout in residual blocks", min=0.0, max=1.0)
    patch_size: int = setting(1, "side of the squares of pixels folded into channels (2 quarters the work)", min=1)


@dataclass(frozen=True, kw_only=True)
class TokenUNetSettings(UNetSettings):
    """A conditional U-Net of diffusers and the label tokens it attends to."""

    num_attention_heads: int = setting(8, "attention heads", min=1)
    num_label_tokens: int = setting(8, "label tokens", min=1)
    cross_attention_dim: int = setting(256, "width of a label token", min=1)
    label_hidden_dim: int = setting(512, "hidden width of the label embedding", min=1)


@dataclass(frozen=True, kw_only=True)
class RecipeSettings(TrainingSettings):
    """One training run of a classifier: its length, optimizer, learning rate, and choice of weights."""

    epochs: int = setting(50, "passes over the training images", min=1)
    learning_rate: float = setting(1e-3, "peak learning rate", min=0.0)
    warmup_steps: int = setting(0, "optimizer steps of linear warm-up", min=0)
    lr_scheduler: str = setting("cosine", "learning rate after warm-up", choices=SCHEDULES)
    beta1: float = setting(0.9, "Adam's decay of the mean; SGD's momentum", min=0.0, max=1.0)
    weight_decay: float = setting(0.0, "L2 penalty (SGD, Adam), or decoupled decay (AdamW)", min=0.0)
    max_grad_norm: float = setting(0.0, "gradient norm to clip at; 0 does not clip", min=0.0)
    ema_decay: float = setting(0.0, "decay of the averaged (EMA) weights; 0 does not average", min=0.0, max=1.0)
    class_balanced: bool = setting(False, "sample classes equally often (by inverse class frequency)")
    color_jitter: float = setting(0.0, "largest relative change of brightness and contrast", min=0.0, max=1.0)
    validation_epochs: int = setting(1, "epochs between evaluations on the validation images", min=1)
    max_steps: int = setting(0, "optimizer steps in place of epochs; 0 uses epochs", min=0)
    optimizer: str = setting("adamw", "algorithm", choices=OPTIMIZERS)
    lr_step_epochs: int = setting(7, "step: epochs between decays (StepLR step_size)", min=1)
    lr_gamma: float = setting(0.1, "step: factor of each decay (StepLR gamma)", min=0.0, max=1.0)
    lr_restart_epochs: int = setting(10, "warm-restarts: epochs of the first cosine (T_0)", min=1)
    lr_restart_mult: int = setting(2, "warm-restarts: factor by which each next one is longer (T_mult)", min=1)
    early_stopping_patience: int = setting(
        0, "evaluations without a lower validation loss before training stops; 0 never stops early", min=0
    )
    load_best_model_at_end: bool = setting(True, "keep the weights of the lowest validation loss; false keeps the last")
    freeze_backbone: bool = setting(False, "train the last layer alone (linear probing)")


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Random changes of each training image, beside `training.horizontal_flip` and `training.color_jitter`."""

    vertical_flip: bool = setting(False, "flip half of the images upside down")
    rotation: float = setting(0.0, "largest rotation, degrees", min=0.0, max=180.0)
    translation: float = setting(0.0, "largest shift, share of the side", min=0.0, max=1.0)
    scale: float = setting(0.0, "largest relative change of size", min=0.0, max=0.9)
    randaugment_num_ops: int = setting(0, "RandAugment: operations per image (N); 0 is off", min=0)
    randaugment_magnitude: int = setting(9, "RandAugment: magnitude (M)", min=0, max=30)
    mixup_alpha: float = setting(0.0, "mixup: alpha of the Beta distribution; 0 is off", min=0.0)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The loss: cross-entropy, or binary cross-entropy for several labels per image."""

    label_smoothing: float = setting(0.0, "label smoothing", min=0.0, max=0.99)
    class_weighted: bool = setting(False, "weight classes by their inverse frequency (multi-label: the positives)")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """The settings of a classifier; a plugin adds its `network`."""

    image: ImageSettings = ImageSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: RecipeSettings = RecipeSettings()
