"""Noise, samplers and classifier-free guidance over any denoising network, and the base of diffusion models.

A `Denoiser` turns noisy images and a timestep into an estimate of the clean images. The schedulers of diffusers do the
stepping with `prediction_type="sample"`, so one estimate, clipped to the data range, serves all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from medzoo.errors import ConfigError
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import FastSampling, sampling_layout, to_device
from medzoo.toolkit.nn.conditioning import drop_labels, null_label
from medzoo.toolkit.settings import (
    DiffusionSettings,
    LatentDiffusionSettings,
    PixelDiffusionSettings,
    SamplingSettings,
)
from medzoo.toolkit.spectrum import apply_spectrum_gain, remove_pattern
from medzoo.toolkit.validation import check_init_images, check_sample_request

S = TypeVar("S", PixelDiffusionSettings, LatentDiffusionSettings)

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (N, C, ...), timesteps (N,), labels) -> output (N, C, ...), or (N, 2C, ...) with a learned variance."""


Denoiser = Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
"""(noisy, timestep) -> clean images (N, C, ...) within their limit and, if learned, the variance output in [-1, 1]."""

SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 1e-4, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}

_KARRAS_LEVELS = (0.002, 80.0)  # Karras et al. 2022, table 1


def signal_and_noise(settings: DiffusionSettings) -> tuple[Tensor, Tensor]:
    """Return (alpha, sigma), float32 (steps,) each: noisy = alpha * clean + sigma * noise, alpha^2 + sigma^2 = 1."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(
        num_train_timesteps=settings.num_train_timesteps, **SCHEDULES[settings.beta_schedule]
    )
    signal: Tensor = scheduler.alphas_cumprod
    return signal.sqrt(), (1.0 - signal).sqrt()


@dataclass(frozen=True)
class Noised:
    """Clean data with noise: the network's arguments (`inputs`, `steps`, `labels`) and its `target`.

    noisy = alpha * clean + sigma * noise, the scales shaped to broadcast.
    """

    noisy: Tensor
    inputs: Tensor
    steps: Tensor
    labels: Tensor
    target: Tensor
    alpha: Tensor
    sigma: Tensor


class ForwardProcess:
    """Adds noise for training: random timesteps, labels dropped at random (Ho et al. 2020, algorithm 1)."""

    def __init__(self, settings: DiffusionSettings, *, null: Tensor, device: torch.device) -> None:
        self.settings = settings
        self.null = null.to(device)
        alpha, sigma = signal_and_noise(settings)
        self.log_noise_levels = (sigma / alpha).log()
        self.alpha, self.sigma = alpha.to(device), sigma.to(device)

    def __call__(self, clean: Tensor, labels: Tensor, random: torch.Generator) -> Noised:
        """Add noise to `clean` (N, C, ...); every random draw comes from `random`."""
        steps = to_device(self.timesteps(clean.shape[0], random), clean.device)
        noise = to_device(torch.randn(clean.shape, generator=random), clean.device)
        labels = drop_labels(labels, share=self.settings.label_dropout, null=self.null, generator=random)
        shape = (-1, *(1 for _ in clean.shape[1:]))
        alpha, sigma = self.alpha[steps].view(shape), self.sigma[steps].view(shape)
        noisy = alpha * clean + sigma * noise
        if self.settings.prediction_type == "epsilon":
            target = noise
        elif self.settings.prediction_type == "v_prediction":
            target = alpha * noise - sigma * clean
        else:
            spread = self.settings.sigma_data
            target = (spread * alpha * noise - sigma / spread * clean) / noisy_deviation(alpha, sigma, spread)
        inputs = network_input(noisy, alpha=alpha, sigma=sigma, settings=self.settings)
        return Noised(noisy, inputs, steps, labels, target, alpha, sigma)

    def timesteps(self, count: int, random: torch.Generator) -> Tensor:
        """Draw timesteps, int64 (count,): uniformly, or by a normal distribution of the log noise level."""
        settings = self.settings
        if settings.timestep_sampling == "uniform":
            return torch.randint(0, settings.num_train_timesteps, (count,), generator=random)
        drawn = settings.noise_mean + settings.noise_std * torch.randn(count, generator=random)
        steps: Tensor = torch.searchsorted(self.log_noise_levels, drawn)
        return steps.clamp(max=settings.num_train_timesteps - 1)

    def loss_weights(self, steps: Tensor, gamma: float) -> Tensor | None:
        """Return min-SNR weights (N,) of timesteps (N,) (Hang et al. 2023, section 3.4); None with a `gamma` of 0.

        The loss on clean data is weighted by min(SNR, gamma), so that on noise by min(SNR, gamma) / SNR.
        """
        if gamma == 0:
            return None
        alpha, sigma = self.alpha[steps], self.sigma[steps]
        ratio = (alpha / sigma).square()
        capped = ratio.clamp(max=gamma)
        if self.settings.prediction_type == "epsilon":
            return capped / ratio
        # the target's error is the clean estimate's, divided by this
        spread = 1.0 if self.settings.prediction_type == "v_prediction" else self.settings.sigma_data
        of_clean: Tensor = sigma * spread / noisy_deviation(alpha, sigma, spread)
        return capped * of_clean.square()


def noisy_deviation(alpha: Tensor | float, sigma: Tensor | float, sigma_data: float) -> Any:
    """Return the standard deviation of noisy data whose clean data has `sigma_data`."""
    return (sigma**2 + (sigma_data * alpha) ** 2) ** 0.5


def network_input(
    noisy: Tensor, *, alpha: Tensor | float, sigma: Tensor | float, settings: DiffusionSettings
) -> Tensor:
    """Return what the network is given for `noisy`: with "edm", scaled to unit variance (Karras et al. 2022, c_in)."""
    if settings.prediction_type != "edm":
        return noisy
    scaled: Tensor = noisy / noisy_deviation(alpha, sigma, settings.sigma_data)
    return scaled


def seeded_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return a generator on the CPU for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> tuple[Tensor, list[torch.Generator]]:
    """Return standard normal noise `(N, *shape)` on the CPU, and the generators to draw more from.

    Row i depends on `seeds[i]` only.
    """
    generators = seeded_generators(seeds)
    return torch.stack([torch.randn(shape, generator=source) for source in generators]), generators


def noise_ahead(
    generators: Sequence[torch.Generator], shape: tuple[int, ...], *, draws: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield standard normal noise `(N, *shape)` on `device`, `draws` times; row i comes from `generators[i]`.

    Those are the CPU's, so an image's noise is the same on every device. It is drawn ahead, while the device computes:
    for a GPU by several threads, as one alone is slower than the GPU (bench/RESULTS.md).
    """
    from joblib import cpu_count

    count = len(generators)
    threads = min(count, 16, cpu_count()) if device.type == "cuda" else 1

    @torch.inference_mode()  # each thread has its own
    def fill(noise: Tensor, first: int) -> None:
        for row in range(first, count, threads):
            torch.randn(shape, generator=generators[row], out=noise[row])

    def start(pool: ThreadPoolExecutor) -> tuple[Tensor, list[Future[None]]]:
        noise = torch.empty(count, *shape, pin_memory=device.type == "cuda")
        return noise, [pool.submit(fill, noise, first) for first in range(threads)]

    with ThreadPoolExecutor(threads) as pool:
        coming = [start(pool)] if draws else []
        for drawn in range(draws):
            noise, parts = coming.pop()
            for part in parts:
                part.result()
            if drawn + 1 < draws:
                coming.append(start(pool))
            yield to_device(noise, device)


def is_guided(interval: Sequence[float], noise_level: float) -> bool:
    """Return whether guidance applies at a noise level, sigma / alpha: everywhere without an `interval`."""
    return not interval or interval[0] < noise_level <= interval[1]


class GuidedDenoiser:
    """A `Denoiser` over a network with labels, (N,) or multi-hot; clean data is clipped to [-`limit`, `limit`].

    `null` is the null label of one image (`conditioning.null_label`); `guidance` 1 is off.
    Guidance pushes the prediction away from the unlabeled one by `guidance` (Ho & Salimans 2022, eq. 6, where its
    scale is 1 + w); labeled and unlabeled halves share one forward pass. With an `interval`, it does so at noise levels
    (sigma / alpha) above its first value and up to its second (Kynkaanniemi et al. 2024, eq. 4); at the others only the
    labeled half is computed.
    """

    def __init__(
        self,
        network: Network,
        labels: Tensor,
        *,
        null: Tensor,
        guidance: float,
        settings: DiffusionSettings,
        interval: Sequence[float] = (),
        limit: float = 1.0,
    ) -> None:
        self.network = network
        self.labels = labels
        self.both_labels = torch.cat([labels, null.expand_as(labels)]) if guidance != 1.0 else labels
        self.guidance = guidance
        self.interval = interval
        self.settings = settings
        self.limit = limit
        self.alpha, self.sigma = signal_and_noise(settings)

    def __call__(self, noisy: Tensor, timestep: int) -> tuple[Tensor, Tensor | None]:
        """Return clean data (N, C, ...), float32, clipped, and the variance output of the labeled half."""
        alpha, sigma = self.alpha[timestep].item(), self.sigma[timestep].item()
        guided = self.guidance != 1.0 and is_guided(self.interval, sigma / alpha)
        given = network_input(noisy, alpha=alpha, sigma=sigma, settings=self.settings)
        inputs = torch.cat([given, given]) if guided else given
        steps = torch.full((inputs.shape[0],), timestep, device=noisy.device)
        output = self.network(inputs, steps, self.both_labels if guided else self.labels)
        channels = noisy.shape[1]
        variance = output[: noisy.shape[0], channels:].float() if output.shape[1] > channels else None
        predicted = output[:, :channels].float()
        if guided:
            labeled, unlabeled = predicted.chunk(2)
            predicted = unlabeled + self.guidance * (labeled - unlabeled)
        clean = to_clean(predicted, noisy, alpha=alpha, sigma=sigma, settings=self.settings)
        return clean.clamp(-self.limit, self.limit), variance


def to_clean(
    predicted: Tensor, noisy: Tensor, *, alpha: Tensor | float, sigma: Tensor | float, settings: DiffusionSettings
) -> Tensor:
    """Return clean data (N, C, ...) for the network's prediction.

    `settings.prediction_type` is "epsilon", the noise; "v_prediction", v = alpha * noise - sigma * clean (Salimans & Ho
    2022); or "edm", v for data of another standard deviation than 1,
    `settings.sigma_data` (Karras et al. 2022, table 1). With a sigma_data of 1, it is v.
    """
    if settings.prediction_type == "epsilon":
        return (noisy - sigma * predicted) / alpha
    if settings.prediction_type == "v_prediction":
        return alpha * noisy - sigma * predicted
    spread = settings.sigma_data
    deviation = noisy_deviation(alpha, sigma, spread)
    clean: Tensor = (spread / deviation) ** 2 * alpha * noisy - sigma * spread / deviation * predicted
    return clean


def sample_clean(
    denoiser: Denoiser,
    seeds: Sequence[int],
    shape: tuple[int, ...],
    *,
    sampling: SamplingSettings,
    diffusion: DiffusionSettings,
    learned_variance: bool,
    device: torch.device,
    source: Tensor | None = None,
) -> Tensor:
    """Sample clean data `(N, *shape)`, float32, within `denoiser`'s limit; row i depends on `seeds[i]` and its label.

    `source`, clean data `(N, *shape)` on `device`, is varied (SDEdit, Meng et al. 2022): row i gets noise from
    `seeds[i]`, that of the timestep at `sampling.strength` of the schedule, and is denoised from there, in that share
    of the steps. So the cost falls with the strength. At strength 1, and without `source`, sampling starts from noise.

    The sampler is "dpm-solver++" (multistep, Lu et al. 2022, algorithm 2), "sde-dpm-solver++" (its stochastic variant,
    which corrects a small network's errors), "ddim" (Song et al. 2021, eta 0) or "ddpm" (ancestral, Ho et al.
    2020, algorithm 2; with the learned variance of Nichol & Dhariwal 2021 if there is one).
    """
    ancestral = sampling.scheduler == "ddpm"
    strength = 1.0 if source is None else sampling.strength
    scheduler = make_scheduler(sampling, diffusion, learned_variance=learned_variance, strength=strength)
    *timesteps, last = scheduler.timesteps.tolist()
    generators = seeded_generators(seeds)
    draws = 1 + (len(timesteps) if sampling.scheduler == "sde-dpm-solver++" else 0)
    noise = noise_ahead(generators, shape, draws=draws, device=device)
    noisy = next(noise)
    if source is not None and strength < 1.0:
        # The schedulers' own scales at that timestep: another share of noise would be read as another timestep's.
        alpha, sigma = (scale[(timesteps or [last])[0]].item() for scale in signal_and_noise(diffusion))
        noisy = alpha * source + sigma * noisy
    if noisy.ndim == 4:
        noisy = noisy.contiguous(memory_format=sampling_layout(device))
    for timestep in timesteps:
        clean, variance = denoiser(noisy, timestep)
        output = clean if not ancestral or variance is None else torch.cat([clean, variance], dim=1)
        given = {"generator": generators} if ancestral else {"variance_noise": next(noise, None)}
        noisy = scheduler.step(output, timestep, noisy, **given, return_dict=False)[0]
    # the last step of each sampler ends on the clean estimate; diffusers' ancestral one may add noise to it
    return denoiser(noisy, last)[0]


class DiffusionModel(FastSampling, Generic[S]):
    """What diffusion models on pixels and on latents share: the null label, and sampling of clean data.

    Raises: ConfigError for a `sampling.remove_pattern` that does not divide the size of images.
    """

    def __init__(self, settings: S, image: ImageSpec) -> None:
        super().__init__()
        if image.size % (side := settings.sampling.remove_pattern):
            raise ConfigError(
                f"sampling.remove_pattern = {side}: squares of that side do not fill {image.size} pixels",
                "give network.patch_size, or 1 to remove nothing",
            )
        self.settings: S = settings
        self.image = image
        self.null = null_label(image)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.parameters()).device

    @property
    def no_label(self) -> Tensor | None:
        """Return the null label of classifier-free guidance; None if the network was trained without it."""
        return self.null if self.settings.diffusion.label_dropout > 0 else None

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Generate one image per seed, float32 (N, C, H, W) in [0, 1].

        With the setting sampling.strength below 1, image i is a variation of `init_images[i]`, of the same class; at 1,
        `init_images` are not used.

        Raises:
            DataError: as `check_sample_request`; below strength 1, as `check_init_images`.
        """
        if self.settings.sampling.strength < 1.0:
            init_images = check_init_images(self.image, seeds, labels, init_images)
            return self.draw(seeds, labels, init_images.to(self.device))
        return self.draw(seeds, labels)

    def draw(self, seeds: Sequence[int], labels: Tensor, init_images: Tensor | None = None) -> Tensor:
        """Return the images of `sample`: variations of `init_images`, or drawn from noise whatever the strength.

        A training previews the latter.
        """
        raise NotImplementedError

    def sample_clean(
        self,
        network: nn.Module,
        seeds: Sequence[int],
        labels: Tensor,
        shape: tuple[int, ...],
        *,
        limit: float = 1.0,
        learned_variance: bool = False,
        source: Tensor | None = None,
    ) -> Tensor:
        """Sample clean data `(N, *shape)` within [-`limit`, `limit`] with `network`, in its own precision.

        `source` `(N, *shape)` is what to vary, as in `sample_clean` above.

        Raises:
            DataError: as `check_sample_request`.
        """
        check_sample_request(self.image, seeds, labels)
        dtype = next(network.parameters()).dtype
        denoiser = GuidedDenoiser(
            lambda noisy, steps, targets: network(noisy.to(dtype), steps, targets),
            labels.to(self.device),
            null=self.null.to(self.device),
            guidance=self.settings.sampling.guidance_scale,
            interval=self.settings.sampling.guidance_interval,
            settings=self.settings.diffusion,
            limit=limit,
        )
        return sample_clean(
            denoiser,
            seeds,
            shape,
            sampling=self.settings.sampling,
            diffusion=self.settings.diffusion,
            learned_variance=learned_variance,
            device=self.device,
            source=source,
        )


def to_images(made: Tensor, sampling: SamplingSettings) -> Tensor:
    """Return images, float32 (N, C, H, W) in [0, 1], of images in [-1, 1], cut to that range.

    A pattern of `sampling.remove_pattern` is subtracted, and their spectrum corrected by `sampling.spectrum_gain`.
    """
    even = remove_pattern(made.float(), sampling.remove_pattern)
    cut = ((even + 1.0) / 2.0).clamp(0.0, 1.0).contiguous()
    return apply_spectrum_gain(cut, sampling.spectrum_gain)


def make_scheduler(
    sampling: SamplingSettings, diffusion: DiffusionSettings, *, learned_variance: bool, strength: float = 1.0
) -> Any:
    """Build the diffusers scheduler that takes clean estimates and visits its timesteps, the last one first.

    With a `strength` below 1, those are that share of the steps, spread over that share of the schedule.
    """
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    common: dict[str, Any] = {
        "num_train_timesteps": diffusion.num_train_timesteps,
        "prediction_type": "sample",
        **SCHEDULES[diffusion.beta_schedule],
    }
    scheduler: Any
    if sampling.scheduler == "ddpm":
        kind = "learned_range" if learned_variance else "fixed_small"
        scheduler = DDPMScheduler(**common, clip_sample=False, variance_type=kind)
    else:
        # DDIM is the first-order DPM-Solver++ (Lu et al. 2022); diffusers' own DDIMScheduler steps to other timesteps
        # than it visits where the numbers of steps do not divide
        order = 1 if sampling.scheduler == "ddim" else 2
        algorithm = "sde-dpmsolver++" if sampling.scheduler == "sde-dpm-solver++" else "dpmsolver++"
        scheduler = DPMSolverMultistepScheduler(
            **common, algorithm_type=algorithm, solver_order=order, final_sigmas_type="zero"
        )
    with warnings.catch_warnings():
        # diffusers turns a tensor into an array in a way that numpy 2 will drop; the numbers are right
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        steps, of = (
            max(1, round(strength * whole)) for whole in (sampling.num_inference_steps, diffusion.num_train_timesteps)
        )
        kept = scheduler.alphas_cumprod
        levels = ((1.0 - kept).sqrt() / kept.sqrt()).double().numpy()
        visited = visited_timesteps(steps, of=of, spacing=sampling.timestep_spacing, noise_levels=levels)
        scheduler.set_timesteps(timesteps=visited)
    return scheduler


def visited_timesteps(
    steps: int, *, of: int, spacing: str = "uniform", noise_levels: np.ndarray | None = None
) -> list[int]:
    """Return `steps` of the timesteps 0 to `of - 1`, descending from the noisiest (Lin et al. 2024).

    `spacing` is "uniform", diffusers' "trailing"; "quadratic" (Song et al. 2021, appendix D.2), which leaves less noise
    to the last step and so keeps fine grain; "beta" (Lee et al. 2024, alpha = beta = 0.6), denser at both ends; or even
    in the noise level, `noise_levels` (timesteps,) sigma / alpha: in its seventh root for "karras" (Karras et al. 2022,
    eq. 5), in its logarithm for "exponential" (Lu et al. 2022). These two stay within the levels that eq. 5 is used at:
    a cosine schedule ends at one of tens of thousands, on which the steps would be wasted.

    diffusers counts in floating point, and for one number of steps in twenty visits -1 as well; its noise levels of
    "karras" and the like are between those of the timesteps that the network is given.
    """
    steps = min(steps, of)
    if spacing in ("uniform", "quadratic"):
        power = 2 if spacing == "quadratic" else 1
        return [max(round(of * (place / steps) ** power), place) - 1 for place in range(steps, 0, -1)]
    shares = np.linspace(1.0, 0.0, steps)[::-1]  # of the way to the noisiest, from the image
    if spacing == "beta":
        from scipy.special import betaincinv

        places = betaincinv(0.6, 0.6, shares) * (of - 1)
    else:
        assert noise_levels is not None, "these spacings are of noise levels"
        known = noise_levels[:of]
        low, high = max(known[0], _KARRAS_LEVELS[0]), min(known[-1], _KARRAS_LEVELS[1])
        if spacing == "karras":
            levels = (low ** (1 / 7) + shares * (high ** (1 / 7) - low ** (1 / 7))) ** 7
        else:
            levels = low * (high / low) ** shares
        places = np.interp(np.log(levels), np.log(known), np.arange(of))
    ascending: list[int] = []
    for number, place in enumerate(places.round().astype(int).tolist()):
        least = ascending[-1] + 1 if ascending else 0
        ascending.append(min(max(place, least), of - steps + number))
    return ascending[::-1]
