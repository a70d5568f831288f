"""A diffusion model on pixels: training objective and sampling, over a network that a plugin provides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import reproducible_kernels
from medzoo.toolkit.diffusion.process import DiffusionModel, ForwardProcess, to_clean, to_images
from medzoo.toolkit.export import Export, ToImages, export_diffusion
from medzoo.toolkit.settings import PixelDiffusionSettings
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.augmentation import change_geometry
from medzoo.toolkit.training.batches import Batch
from medzoo.toolkit.training.loop import train
from medzoo.toolkit.validation import check_not_empty


class PixelDiffusion(DiffusionModel[PixelDiffusionSettings]):
    """A Generator over `network(noisy, timesteps, labels)`, whose label `len(image.classes)` means "no label".

    The network returns C channels or, if `learned_variance`, 2C: the prediction, then the interpolation of the
    log-variance between its two bounds (Nichol & Dhariwal 2021, eq. 15). The variance is trained by the variational
    term with the prediction's gradient stopped (eq. 16).

    With an `augmentation_probability`, training images are changed by `augmentation.change_geometry`, and the network
    gets the changes as a fourth argument in training: `network(noisy, timesteps, labels, changes)`.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: PixelDiffusionSettings,
        *,
        image: ImageSpec,
        learned_variance: bool,
        augmentation_probability: float = 0.0,
    ) -> None:
        super().__init__(settings, image)
        self.network = network
        self.learned_variance = learned_variance
        self.augmentation_probability = augmentation_probability

    def fit(
        self,
        data: LabeledImages,
        *,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Train the network, up to its averaged (EMA) weights.

        Raises:
            DataError: there are no images.
            ResourceError: as `training.loop.train`.
        """
        check_not_empty(data)
        self._fast.clear()
        train(
            self.network,
            Objective(self),
            data,
            self.settings.training,
            seed=seed,
            callback=callback,
            checkpoints=checkpoints,
            sample=self.draw,
            weights_changed=self._fast.clear,
        )

    def sampling_network(self) -> Any:
        """Return the frozen copy of the network that `sample` calls."""
        return self.fast(self.settings.sampling.mixed_precision, self.network)[0]

    @torch.inference_mode()
    @reproducible_kernels()
    def draw(self, seeds: Sequence[int], labels: Tensor, init_images: Tensor | None = None) -> Tensor:
        """Return images: variations of `init_images`, or drawn from noise."""
        shape = (self.image.channels, self.image.size, self.image.size)
        made = self.sample_clean(
            self.sampling_network(),
            seeds,
            labels,
            shape,
            learned_variance=self.learned_variance,
            source=None if init_images is None else init_images * 2.0 - 1.0,
        )
        return to_images(made, self.settings.sampling)

    def export(self) -> Export:
        """Return what `medzoo export` writes; a plugin may replace its components by those of diffusers."""
        size, sampling = self.image.size, self.settings.sampling
        return export_diffusion(
            self,
            self.network,
            (self.image.channels, size, size),
            decoder=ToImages(size, sampling.spectrum_gain, pattern=sampling.remove_pattern),
            learned_variance=self.learned_variance,
        )


class Objective:
    """The training loss of a `PixelDiffusion`, by terms."""

    def __init__(self, model: PixelDiffusion) -> None:
        self.model = model
        self.settings = model.settings.loss
        self.add_noise = ForwardProcess(model.settings.diffusion, null=model.null, device=model.device)
        self.posterior = posterior_coefficients(self.add_noise.alpha)
        self.perceptual = losses.perceptual_distance(self.settings, model.device)

    def __call__(self, network: nn.Module, batch: Batch, random: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted terms, scalars to be summed; every random draw comes from `random`."""
        diffusion, settings = self.model.settings.diffusion, self.settings
        images, changes = batch.images, None
        if probability := self.model.augmentation_probability:
            images, changes = change_geometry(images, probability, random)
        clean = images * 2.0 - 1.0
        given = self.add_noise(clean, batch.labels, random)
        inputs = given.inputs.contiguous(memory_format=torch.channels_last)
        conditions = () if changes is None else (changes,)
        output = network(inputs, given.steps, given.labels, *conditions).float()
        predicted, variance = output[:, : clean.shape[1]], output[:, clean.shape[1] :]
        weights = self.add_noise.loss_weights(given.steps, settings.snr_gamma)
        terms = {settings.pixel: losses.pixel_distance(predicted, given.target, kind=settings.pixel, weights=weights)}
        estimate = to_clean(predicted, given.noisy, alpha=given.alpha, sigma=given.sigma, settings=diffusion)
        if self.model.learned_variance and settings.vlb_weight > 0:
            bound = self.variational_bound(clean, given.noisy, estimate.detach(), variance, given.steps)
            terms["variational"] = settings.vlb_weight * diffusion.num_train_timesteps * bound.mean()
        # at high noise the estimate is a guess, so image terms count by signal power
        visible = given.alpha.flatten() ** 2
        estimate = estimate.clamp(-1.0, 1.0)
        if settings.edge_weight > 0:
            terms["edge"] = settings.edge_weight * (visible * losses.edge_distance(estimate, clean)).mean()
        if self.perceptual is not None:
            terms["perceptual"] = settings.perceptual_weight * (visible * self.perceptual(estimate, clean)).mean()
        return terms

    def variational_bound(
        self, clean: Tensor, noisy: Tensor, estimate: Tensor, variance: Tensor, steps: Tensor
    ) -> Tensor:
        """Return the terms of the bound at `steps`, bits per dimension (N,) (Nichol & Dhariwal 2021, eq. 4-7)."""
        low, high, of_clean, of_noisy = (values[steps].view(-1, 1, 1, 1) for values in self.posterior)
        share = (variance + 1.0) / 2.0
        log_variance = share * high + (1.0 - share) * low
        true_mean = of_clean * clean + of_noisy * noisy
        mean = of_clean * estimate.clamp(-1.0, 1.0) + of_noisy * noisy
        divergence = losses.gaussian_kl(true_mean, low, mean, log_variance).mean(dim=(1, 2, 3))
        decoder = losses.discretized_gaussian_nll(clean, mean=mean, log_variance=log_variance).mean(dim=(1, 2, 3))
        return torch.where(steps == 0, decoder, divergence) / math.log(2.0)


def posterior_coefficients(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the posterior of each reverse step: log of its smallest and largest variance, weights of clean and noisy.

    float32 (steps,) each, from the signal scales `alpha` (steps,) (Nichol & Dhariwal 2021, eq. 10 to 12 and 15).
    """
    kept = alpha.double() ** 2
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    beta = 1.0 - kept / before
    smallest = beta * (1.0 - before) / (1.0 - kept)
    smallest[0] = smallest[1]  # it is 0 at the first step, whose logarithm is undefined
    of_clean = beta * before.sqrt() / (1.0 - kept)
    of_noisy = (1.0 - before) * (1.0 - beta).sqrt() / (1.0 - kept)
    return smallest.log().float(), beta.log().float(), of_clean.float(), of_noisy.float()
