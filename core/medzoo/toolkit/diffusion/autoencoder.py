"""Training of an autoencoder: reconstruction loss, KL divergence, patch discriminator, reconstruction quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from medzoo.protocols import LabeledImages
from medzoo.seeds import derive_seed, global_draws_from
from medzoo.toolkit.devices import to_device
from medzoo.toolkit.settings import ReconstructionSettings
from medzoo.toolkit.training import losses
from medzoo.toolkit.training.batches import Batch, pixels
from medzoo.toolkit.training.loop import Discriminator

_BATCH = 16


class Autoencoder(Protocol):
    """An `nn.Module` between images (N, C, H, W) in [-1, 1] and latents `(N, *latent_shape)`.

    `autoencoder(images, noise)` with standard normal noise `(N, *latent_shape)` returns the reconstruction from a
    latent drawn from the posterior, and the posterior's mean and log-variance.
    """

    latent_shape: tuple[int, ...]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, `(N, *latent_shape)` each, of the latents of images (N, C, H, W)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] for latents `(N, *latent_shape)`."""


class PatchDiscriminator(nn.Sequential):
    """Logits (N, 1, h, w), one per patch of the images (N, C, H, W), high for real ones (Isola et al. 2017, 3.2.2).

    Spectral instead of batch normalization, so that a logit depends on its own image only.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        before = channels
        for width in widths:
            layers += [_spectral_norm(nn.Conv2d(before, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            before = width
        super().__init__(*layers, _spectral_norm(nn.Conv2d(before, 1, 3, padding=1)))


class Reconstruction:
    """The loss of an autoencoder (Rombach et al. 2022, appendix G): terms by name, scalars to be summed.

    `perceptual` and `discriminator` are None if their weights are 0.
    """

    def __init__(
        self,
        settings: ReconstructionSettings,
        *,
        latent_shape: tuple[int, ...],
        channels: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self.settings = settings
        self.latent_shape = latent_shape
        self.perceptual = losses.perceptual_distance(settings, device)
        self.discriminator: Discriminator | None = None
        if settings.adversarial_weight > 0:
            with global_draws_from(derive_seed(seed, "discriminator"), device):
                discriminator = PatchDiscriminator(channels, settings.discriminator_channels).to(device)
            self.discriminator = Discriminator(
                network=discriminator, loss=self.discriminator_loss, learning_rate=settings.discriminator_learning_rate
            )

    def __call__(self, network: nn.Module, *others: Any) -> dict[str, Tensor]:
        """Return the terms for `(network, batch, random)` or `(network, discriminator, batch, random)`."""
        *discriminators, batch, random = others
        settings = self.settings
        images = batch.images * 2.0 - 1.0
        made, mean, log_variance = self._reconstruct(network, images, random)
        terms = {settings.pixel: losses.pixel_distance(made, images, kind=settings.pixel)}
        if settings.kl_weight > 0:
            zero = torch.zeros_like(mean)
            nats = losses.gaussian_kl(mean, log_variance, zero, zero).flatten(1).sum(dim=1).mean()
            warmup = min(1.0, (batch.step + 1) / settings.kl_warmup_steps) if settings.kl_warmup_steps else 1.0
            terms["kl"] = settings.kl_weight * warmup * nats / images[0].numel()
        if settings.ssim_weight > 0:
            terms["ssim"] = settings.ssim_weight * (1.0 - similarity((made + 1.0) / 2.0, batch.images).mean())
        if self.perceptual is not None:
            terms["perceptual"] = settings.perceptual_weight * self.perceptual(made, images).mean()
        if discriminators and batch.step >= settings.discriminator_start_step:
            terms["adversarial"] = -settings.adversarial_weight * discriminators[0](made).float().mean()
        return terms

    def discriminator_loss(
        self, discriminator: nn.Module, network: nn.Module, batch: Batch, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the discriminator's hinge loss (Lim & Ye 2017) on the images and their reconstructions."""
        if batch.step < self.settings.discriminator_start_step:
            return {}
        images = batch.images * 2.0 - 1.0
        with torch.no_grad():
            made, _, _ = self._reconstruct(network, images, random)
        return {
            "judged_real": functional.relu(1.0 - discriminator(images).float()).mean(),
            "judged_made": functional.relu(1.0 + discriminator(made).float()).mean(),
        }

    def _reconstruct(
        self, network: nn.Module, images: Tensor, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        noise = to_device(torch.randn((len(images), *self.latent_shape), generator=random), images.device)
        made, mean, log_variance = network(images, noise)
        return made.float(), mean.float(), log_variance.float()


@torch.inference_mode()
def reconstruct(autoencoder: Any, images: Tensor) -> Tensor:
    """Return reconstructions, float32 (N, C, H, W) in [0, 1], of images in [0, 1] from the means of their latents."""
    training = autoencoder.training
    autoencoder.eval()
    parts = [autoencoder.decode(autoencoder.encode(part * 2.0 - 1.0)[0]) for part in images.split(_BATCH)]
    autoencoder.train(training)
    return ((torch.cat(parts) + 1.0) / 2.0).clamp(0.0, 1.0).float()


def quality(
    autoencoder: Any, data: LabeledImages, *, count: int, perceptual: losses.PerceptualDistance | None
) -> dict[str, float | str]:
    """Return mean PSNR in dB, SSIM and, with `perceptual`, LPIPS of the reconstructions of `count` images.

    The images are evenly spaced in `data`; all of them if it has fewer than `count`.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    device = next(autoencoder.parameters()).device
    chosen = torch.linspace(0, len(data) - 1, min(count, len(data))).long().unique().tolist()
    sums: dict[str, float] = {}
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        images = pixels(data, part).to(device)
        made = reconstruct(autoencoder, images)
        signal = peak_signal_noise_ratio(made, images, data_range=1.0, reduction="none", dim=(1, 2, 3))
        values = {"psnr_db": signal, "ssim": similarity(made, images)}
        if perceptual is not None:
            values[perceptual.network] = perceptual(made * 2.0 - 1.0, images * 2.0 - 1.0)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.double().sum().item()
    means = {name: value / len(chosen) for name, value in sums.items()}
    return {**means, "images": len(chosen), "of": "training images"}


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return SSIM (N,) of images in [0, 1] (Wang et al. 2004), with a smaller window below 11 pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    spread = 1.5 if min(first.shape[-2:]) > 10 else 0.9
    reach = int(3.5 * spread + 0.5)
    # Reflected here, and the border that torchmetrics reflects left out: its gradients differ from run to run on a GPU.
    first, second = _reflected(first, reach), _reflected(second, reach)
    _, by_pixel = structural_similarity_index_measure(
        first, second, sigma=spread, data_range=1.0, reduction="none", return_full_image=True
    )
    return by_pixel[..., reach:-reach, reach:-reach].mean(dim=(1, 2, 3))


def _reflected(images: Tensor, reach: int) -> Tensor:
    """Return images (N, C, H, W) continued by reflection over `reach` pixels on each side."""
    for axis in (-1, -2):
        side = images.shape[axis]
        before, after = images.narrow(axis, 1, reach), images.narrow(axis, side - 1 - reach, reach)
        images = torch.cat([before.flip(axis), images, after.flip(axis)], dim=axis)
    return images


def _spectral_norm(layer: nn.Module) -> nn.Module:
    normalized: nn.Module = nn.utils.parametrizations.spectral_norm(layer)
    return normalized


def side_by_side(autoencoder: Any, data: LabeledImages, seeds: Sequence[int], labels: Tensor) -> Tensor:
    """Return training images with `labels`, chosen by the seeds, each followed by its reconstruction."""
    device = next(autoencoder.parameters()).device
    known = torch.from_numpy(data.labels)
    has = known == labels[:, None] if known.ndim == 1 else (known @ labels.float().T > 0).T
    chosen = []
    for place, own in enumerate(has):
        found = own.nonzero().flatten()
        pool = found if len(found) else torch.arange(len(data))
        chosen.append(int(pool[seeds[place // 2 * 2] % len(pool)]))
    images = pixels(data, chosen).to(device)
    made = reconstruct(autoencoder, images)
    shown = torch.arange(len(seeds), device=device) % 2 == 0
    return torch.where(shown.view(-1, 1, 1, 1), images, made)
