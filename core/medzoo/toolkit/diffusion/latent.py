"""A diffusion model on the latents of an autoencoder: two training stages and sampling (Rombach et al. 2022).

A plugin provides the two networks; the autoencoder may be pretrained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import reproducible_kernels, sampling_layout
from medzoo.toolkit.diffusion.autoencoder import Reconstruction, quality, side_by_side
from medzoo.toolkit.diffusion.process import DiffusionModel, ForwardProcess, to_clean, to_images
from medzoo.toolkit.export import Export, ToImages, export_diffusion
from medzoo.toolkit.settings import LatentDiffusionSettings
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.batches import Batch, pixels
from medzoo.toolkit.training.loop import steps_of, train
from medzoo.toolkit.training.stages import Stage, StageRun, train_stages
from medzoo.toolkit.validation import check_not_empty

_ENCODE_BATCH = 16
_QUALITY_IMAGES = 256


class LatentDiffusion(DiffusionModel[LatentDiffusionSettings]):
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
        super().__init__(settings, image)
        self.autoencoder = autoencoder
        self.network = network
        self.standardise = Standardizer(autoencoder.latent_shape)  # checkpoints have keys "standardise.*"
        self._pretrain = pretrain

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
        train(
            self.autoencoder,
            objective,
            data,
            self.settings.first_stage,
            seed=derive_seed(seed, "first"),
            callback=run,
            checkpoints=run,
            sample=lambda seeds, labels: side_by_side(self.autoencoder, data, seeds, labels),
            discriminator=objective.discriminator,
        )
        self.autoencoder.eval()

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
            sample=self.draw,
            weights_changed=self._fast.clear,
        )

    def _encode(self, data: LabeledImages, *, mirrored: bool, checkpoints: CheckpointStore) -> Latents:
        """Return the standardized latents of `data`, then those of its mirrored images; fit `standardise` to them."""

        @torch.inference_mode()
        def encode(images: Tensor) -> Tensor:
            mean: Tensor = self.autoencoder.encode(images * 2.0 - 1.0)[0]
            return mean

        def compute() -> dict[str, Tensor]:
            found = encode_all(data, encode, mirrored=mirrored, batch_size=_ENCODE_BATCH, device=self.device)
            return {"latents": found}

        key = content_key(data, self.autoencoder, "latents", mirrored)
        raw = checkpoints.cached(key, compute)["latents"].to(self.device)
        self.standardise.fit(raw)
        labels = np.concatenate([data.labels] * (2 if mirrored else 1))
        return Latents(self.standardise(raw), labels=labels, classes=data.classes)

    def _log_quality(self, data: LabeledImages, latents: Latents, callback: TrainingCallback) -> None:
        """Log the scale of the latents and the reconstruction error of the autoencoder."""
        scale = 1.0 / self.standardise.deviation.square().mean().sqrt().item()
        limit = self.standardise.limit.item()
        callback.log_metadata("latents", {"encoded": len(latents), "scale_factor": scale, "limit": limit})
        weights, perceptual = self.settings.reconstruction.perceptual_weights_file, None
        if weights:
            perceptual = losses.PerceptualDistance(network="lpips", weights=weights).to(self.device)
        found = quality(self.autoencoder, data, count=_QUALITY_IMAGES, perceptual=perceptual)
        callback.log_metadata("reconstruction", found)

    def sampling_networks(self) -> list[Any]:
        """Return the frozen copies of the network and the autoencoder that `sample` calls."""
        return self.fast(self.settings.sampling.mixed_precision, self.network, self.autoencoder)

    @torch.inference_mode()
    @reproducible_kernels()
    def draw(self, seeds: Sequence[int], labels: Tensor, init_images: Tensor | None = None) -> Tensor:
        """Return images: variations of `init_images`, or drawn from noise.

        What is varied is the mean of an image's latent, of which the network was trained to denoise the like.
        """
        network, autoencoder = self.sampling_networks()
        dtype, source = next(network.parameters()).dtype, None
        if init_images is not None:
            given = (init_images * 2.0 - 1.0).to(dtype).contiguous(memory_format=sampling_layout(self.device))
            source = self.standardise(autoencoder.encode(given)[0].float())
        limit = self.standardise.limit.item()
        latents = self.sample_clean(network, seeds, labels, self.autoencoder.latent_shape, limit=limit, source=source)
        decoded = autoencoder.decode(self.standardise.inverse(latents).to(dtype))
        return to_images(decoded, self.settings.sampling)

    def export(self) -> Export:
        """Return what `medzoo export` writes; a plugin may replace its components by those of diffusers."""
        decode, sampling = _Decode(self.autoencoder, self.standardise), self.settings.sampling
        return export_diffusion(
            self,
            self.network,
            self.autoencoder.latent_shape,
            decoder=ToImages(self.image.size, sampling.spectrum_gain, decode, pattern=sampling.remove_pattern),
            limit=self.standardise.limit.item(),
        )


class _Decode(nn.Module):
    """Maps standardized latents to images (N, C, H, W), approximately in [-1, 1]."""

    def __init__(self, autoencoder: Any, standardise: Standardizer) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.standardise = standardise

    def forward(self, standardized: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(self.standardise.inverse(standardized))
        return images


class Objective:
    """The training loss of a `LatentDiffusion`'s network, by terms."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.settings = model.settings.loss
        self.diffusion = model.settings.diffusion
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
        predicted = network(given.inputs, given.steps, given.labels).float()
        weights = self.add_noise.loss_weights(given.steps, self.settings.snr_gamma)
        distance = losses.pixel_distance(predicted, given.target, kind=self.settings.pixel, weights=weights)
        terms = {self.settings.pixel: distance}
        if self.perceptual is not None:
            estimate = to_clean(predicted, given.noisy, alpha=given.alpha, sigma=given.sigma, settings=self.diffusion)
            made, real = (self._decode(latents) for latents in (estimate, clean))
            # at high noise the estimate is a guess, so it counts by signal power
            visible = given.alpha.flatten() ** 2
            terms["perceptual"] = self.settings.perceptual_weight * (visible * self.perceptual(made, real)).mean()
        return terms

    def _decode(self, standardized: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(self.standardise.inverse(standardized))
        return images


class Latents:
    """Latents with the labels of their images, as data for `training.loop.train`: float32, not augmented."""

    def __init__(self, values: Tensor, *, labels: np.ndarray, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.labels = labels
        self._values = values.cpu().float().numpy()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return latent `index`, float32 (C, H, W) or (D,)."""
        values: np.ndarray = self._values[index]
        return values


class Standardizer(nn.Module):
    """Standardizes latents to mean 0 and standard deviation 1, per channel (N, C, H, W) or dimension (N, D).

    `limit` is the largest absolute standardized value of the fitted latents: no real image's latent lies beyond it.
    """

    mean: Tensor
    deviation: Tensor
    limit: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = (1, shape[0], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("limit", torch.tensor(4.0))

    def fit(self, latents: Tensor) -> None:
        """Set the statistics to those of `latents` (N, ...)."""
        others = [axis for axis in range(latents.ndim) if axis != 1]
        self.mean.copy_(latents.mean(dim=others, keepdim=True))
        self.deviation.copy_(latents.std(dim=others, keepdim=True, correction=0).clamp(min=1e-6))
        self.limit.copy_(self(latents.to(self.mean.device)).abs().max())

    def forward(self, latents: Tensor) -> Tensor:
        """Standardize latents (N, ...)."""
        return (latents - self.mean) / self.deviation

    def inverse(self, standardized: Tensor) -> Tensor:
        """Undo `forward`."""
        return standardized * self.deviation + self.mean


def encode_all(
    data: LabeledImages, encode: Callable[[Tensor], Tensor], *, mirrored: bool, batch_size: int, device: torch.device
) -> Tensor:
    """Encode every image of `data`: float32 latents on the CPU; with `mirrored`, those of the mirrored images follow.

    `encode` takes images float32 (N, C, H, W) in [0, 1].
    """
    found: list[list[Tensor]] = [[], []]
    for start in range(0, len(data), batch_size):
        chosen = range(start, min(start + batch_size, len(data)))
        images = pixels(data, chosen).to(device)
        for way, side in zip(found, (images, images.flip(-1)) if mirrored else (images,), strict=False):
            way.append(encode(side).float().cpu())
    return torch.cat([*found[0], *found[1]])


def content_key(data: LabeledImages, network: nn.Module, *details: object) -> str:
    """Return a SHA-256 of the images of `data`, the weights of `network` and `details`, as a cache key."""
    digest = hashlib.sha256(repr(details).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for index in range(len(data)):
        digest.update(data[index].tobytes())
    return digest.hexdigest()
