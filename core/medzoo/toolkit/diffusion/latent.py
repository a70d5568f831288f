"""A diffusion model on the latents of an autoencoder: two training stages and sampling (Rombach et al. 2022).

A plugin provides the two networks; the autoencoder may be pretrained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import FastSampling
from medzoo.toolkit.diffusion.autoencoder import Reconstruction, quality, train_autoencoder
from medzoo.toolkit.diffusion.latents import Latents, Standardizer, content_key, encode_all
from medzoo.toolkit.diffusion.process import ForwardProcess, GuidedDenoiser, sample_clean, to_clean
from medzoo.toolkit.nn.conditioning import null_label
from medzoo.toolkit.settings import LatentDiffusionSettings, LatentLossSettings
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.batches import Batch
from medzoo.toolkit.training.loop import steps_of, train
from medzoo.toolkit.training.stages import Stage, StageRun, train_stages
from medzoo.toolkit.validation import check_not_empty, check_sample_request

_ENCODE_BATCH = 16
_QUALITY_IMAGES = 256


class LatentDiffusion(FastSampling):
    """A Generator over an `autoencoder.Autoencoder` and `network(noisy latents, timesteps, labels)`.

    The network sees standardized latents. `pretrain`, if given, loads published weights into the autoencoder, and only
    the network is trained.
    """

    def __init__(
        self,
        autoencoder: Any,
        network: nn.Module,
        settings: LatentDiffusionSettings,
        *,
        image: ImageSpec,
        pretrain: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.network = network
        # checkpoints have keys "standardise.*"
        self.standardise = Standardizer(autoencoder.latent_shape)
        self.settings = settings
        self.image = image
        self.null = null_label(image)
        self._pretrain = pretrain

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.standardise.mean.device

    @property
    def no_label(self) -> Tensor | None:
        """Return the null label of classifier-free guidance; None if the network was trained without it."""
        return self.null if self.settings.diffusion.label_dropout > 0 else None

    def fit(
        self,
        data: LabeledImages,
        *,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Train the autoencoder, unless it is pretrained, then the network on the latents of `data`.

        Raises:
            DataError: there are no images.
            ResourceError: as `training.loop.train`.
        """
        check_not_empty(data)
        self._fast.clear()
        settings = self.settings
        mirrored = settings.training.horizontal_flip
        denoiser = Stage(
            network=self.network,
            steps=steps_of(len(data) * (2 if mirrored else 1), settings.training),
            train=lambda run: self._fit_network(data, mirrored=mirrored, seed=seed, run=run),
        )
        if self._pretrain is not None:
            self._pretrain()
            train_stages([denoiser], callback=callback, checkpoints=checkpoints)
            return
        first = Stage(
            network=self.autoencoder,
            steps=steps_of(len(data), settings.first_stage),
            train=lambda run: self._fit_autoencoder(data, seed=seed, run=run),
        )
        train_stages([first, denoiser], callback=callback, checkpoints=checkpoints)

    def _fit_autoencoder(self, data: LabeledImages, *, seed: int, run: StageRun) -> None:
        objective = Reconstruction(
            self.settings.reconstruction,
            latent_shape=self.autoencoder.latent_shape,
            channels=self.image.channels,
            device=self.device,
            seed=seed,
        )
        train_autoencoder(
            self.autoencoder,
            data,
            self.settings.first_stage,
            objective,
            seed=derive_seed(seed, "first"),
            callback=run,
            checkpoints=run,
        )

    def _fit_network(self, data: LabeledImages, *, mirrored: bool, seed: int, run: StageRun) -> None:
        self.autoencoder.eval()
        latents = self._encode(data, mirrored=mirrored, checkpoints=run)
        self._log_quality(data, latents, run)
        train(
            self.network,
            Objective(self),
            latents,
            self.settings.training,
            seed=seed,
            callback=run,
            checkpoints=run,
            sample=self.sample,
            weights_changed=self._fast.clear,
        )

    def _encode(self, data: LabeledImages, *, mirrored: bool, checkpoints: CheckpointStore) -> Latents:
        """Return the standardized latents of `data`, then those of its mirrored images; fit `standardise` to them."""

        @torch.inference_mode()
        def encode(images: Tensor) -> Tensor:
            mean: Tensor = self.autoencoder.encode(images * 2.0 - 1.0)[0]
            return mean

        def make() -> dict[str, Tensor]:
            return {
                "latents": encode_all(data, encode, mirrored=mirrored, batch_size=_ENCODE_BATCH, device=self.device)
            }

        raw = checkpoints.cached(content_key(data, self.autoencoder, "latents", mirrored), make)["latents"].to(
            self.device
        )
        self.standardise.fit(raw)
        labels = torch.from_numpy(data.labels)
        both = torch.cat([labels, labels]) if mirrored else labels
        return Latents(self.standardise(raw), labels=both.numpy(), classes=data.classes)

    def _log_quality(self, data: LabeledImages, latents: Latents, callback: TrainingCallback) -> None:
        """Log the scale of the latents and the reconstruction error of the autoencoder."""
        own = self.settings.reconstruction
        perceptual = None
        if own.perceptual_weights_file:
            perceptual = losses.PerceptualDistance(network="lpips", weights=own.perceptual_weights_file).to(self.device)
        callback.log_metadata(
            "latents",
            {
                "encoded": len(latents),
                "scale_factor": 1.0 / self.standardise.deviation.square().mean().sqrt().item(),
                "limit": self.standardise.limit.item(),
            },
        )
        callback.log_metadata(
            "reconstruction", quality(self.autoencoder, data, count=_QUALITY_IMAGES, perceptual=perceptual)
        )

    def sampling_networks(self) -> list[Any]:
        """Return the frozen copies of the network and the autoencoder that `sample` calls."""
        return self.fast(self.settings.sampling.mixed_precision, self.network, self.autoencoder)

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Generate one image per seed, float32 (N, C, H, W) in [0, 1]; `init_images` are not used.

        Raises:
            DataError: as `check_sample_request`.
        """
        check_sample_request(self.image, seeds, labels)
        sampling = self.settings.sampling
        network, autoencoder = self.sampling_networks()
        dtype = next(network.parameters()).dtype
        denoiser = GuidedDenoiser(
            lambda noisy, steps, targets: network(noisy.to(dtype), steps, targets),
            labels.to(self.device),
            null=self.null.to(self.device),
            guidance=sampling.guidance_scale,
            settings=self.settings.diffusion,
            limit=self.standardise.limit.item(),
        )
        latents = sample_clean(
            denoiser,
            seeds,
            self.autoencoder.latent_shape,
            sampling=sampling,
            diffusion=self.settings.diffusion,
            learned_variance=False,
            device=self.device,
        )
        images: Tensor = autoencoder.decode(self.standardise.inverse(latents).to(dtype)).float()
        return ((images + 1.0) / 2.0).clamp(0.0, 1.0).contiguous()


class Objective:
    """The training loss of a `LatentDiffusion`'s network, by terms."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.settings: LatentLossSettings = model.settings.loss
        self.prediction = model.settings.diffusion.prediction_type
        self.add_noise = ForwardProcess(model.settings.diffusion, null=model.null, device=model.device)
        self.autoencoder = model.autoencoder
        self.standardise = model.standardise
        self.perceptual = losses.perceptual_distance(self.settings, model.device)
        if self.perceptual is not None:
            self.autoencoder.requires_grad_(False)

    def __call__(self, network: nn.Module, batch: Batch, random: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted terms, scalars to be summed; `batch.images` holds standardized latents."""
        clean = batch.images
        given = self.add_noise(clean, batch.labels, random)
        predicted = network(given.noisy, given.steps, given.labels).float()
        terms = {self.settings.pixel: losses.pixel_distance(predicted, given.target, kind=self.settings.pixel)}
        if self.perceptual is not None:
            estimate = to_clean(
                predicted, given.noisy, alpha=given.alpha, sigma=given.sigma, prediction=self.prediction
            )
            made, real = (self._decode(latents) for latents in (estimate, clean))
            # at high noise the estimate is a guess, so it counts by signal power
            visible = given.alpha.flatten() ** 2
            terms["perceptual"] = self.settings.perceptual_weight * (visible * self.perceptual(made, real)).mean()
        return terms

    def _decode(self, standardized: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(self.standardise.inverse(standardized))
        return images
