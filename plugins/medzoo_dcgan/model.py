"""The generator `dcgan`: training and sampling."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medzoo import ImageSpec
from medzoo.errors import ConfigError
from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.seeds import derive_seed, global_draws_from
from medzoo.toolkit.devices import FastSampling, reproducible_kernels
from medzoo.toolkit.diffusion.process import seeded_noise
from medzoo.toolkit.export import Export, Network, ToImages, example_labels, frozen
from medzoo.toolkit.spectrum import apply_spectrum_gain
from medzoo.toolkit.training.loop import Discriminator, steps_of, train
from medzoo.toolkit.validation import check_not_empty, check_sample_request
from medzoo_dcgan.batch_norm import batch_norm_batches, set_batch_norm_statistics
from medzoo_dcgan.collapse import CollapseMonitor
from medzoo_dcgan.gan_loss import GANLoss
from medzoo_dcgan.networks import DiscriminatorNetwork, GeneratorNetwork
from medzoo_dcgan.settings import DCGANConfig


class DCGAN(FastSampling):
    """A Generator over `network(latents, labels)`; one forward pass per image.

    The discriminator exists only in `fit` and its checkpoints, not in `state_dict`: training that starts from another
    run's weights starts with a fresh discriminator.

    Raises:
        ConfigError: an image size that is not a power of two from 16 on, or an unconditional model of several classes.
    """

    def __init__(self, config: DCGANConfig, image: ImageSpec) -> None:
        super().__init__()
        if not config.network.conditional and len(image.classes) > 1:
            raise ConfigError(
                f"network.conditional=false cannot tell {len(image.classes)} classes apart",
                "train one model on each class's images alone, or one on all with network.conditional=true",
            )
        self.network = GeneratorNetwork(config.network, image)
        self.image = image
        self.config = config

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.network.parameters()).device

    def fit(
        self,
        data: LabeledImages,
        *,
        seed: int,
        callback: TrainingCallback = TrainingCallback(),
        checkpoints: CheckpointStore = CheckpointStore(),
    ) -> None:
        """Train the network, up to its averaged (EMA) weights and their batch-norm statistics."""
        check_not_empty(data)
        config = self.config
        self._fast.clear()
        batches = batch_norm_batches(data, config, seed=seed, device=self.device)

        def sample_averaged(seeds: Sequence[int], labels: Tensor) -> Tensor:
            if not self._fast:
                self.fast(
                    config.sampling.mixed_precision, set_batch_norm_statistics(copy.deepcopy(self.network), batches)
                )
            return self.sample(seeds, labels)

        gan_loss = GANLoss(config)
        since = steps_of(len(data), config.training) // 5
        monitor = CollapseMonitor(
            data, sample_averaged, warn_below=config.collapse_threshold, since=since, seed=seed, callback=callback
        )
        train(
            self.network,
            gan_loss.generator_loss,
            data,
            config.training,
            seed=seed,
            callback=callback,
            checkpoints=checkpoints,
            sample=sample_averaged,
            weights_changed=self._fast.clear,
            monitor=monitor,
            discriminator=Discriminator(
                network=self._fresh_discriminator(seed),
                loss=gan_loss.discriminator_loss,
                learning_rate=config.discriminator.learning_rate,
            ),
        )
        set_batch_norm_statistics(self.network, batches)
        self._fast.clear()

    def _fresh_discriminator(self, seed: int) -> nn.Module:
        with global_draws_from(derive_seed(seed, "discriminator"), self.device):
            discriminator = DiscriminatorNetwork(
                self.config.discriminator, self.image, conditional=self.config.network.conditional
            )
        return discriminator.to(self.device)

    @property
    def no_label(self) -> Tensor | None:
        """Return None: the network has no null label."""
        return None

    @torch.inference_mode()
    def label_tokens(self, labels: Tensor) -> Tensor:
        """Return the class embeddings, (N, 1, width). Raises: ConfigError for an unconditional model."""
        if self.network.embedding is None:
            raise ConfigError("this dcgan reads no label: network.conditional is false")
        vectors: Tensor = self.network.embedding(labels.to(self.device))
        return vectors.unsqueeze(1)

    @torch.inference_mode()
    @reproducible_kernels()
    def sample(self, seeds: Sequence[int], labels: Tensor, *, init_images: Tensor | None = None) -> Tensor:
        """Generate one image per seed, float32 (N, C, H, W) in [0, 1]; `init_images` are not used.

        Raises:
            DataError: as `check_sample_request`.
        """
        check_sample_request(self.image, seeds, labels)
        (network,) = self.fast(self.config.sampling.mixed_precision, self.network)
        latents, _ = seeded_noise(seeds, (self.config.network.latent_dim,))
        dtype = next(network.parameters()).dtype
        images: Tensor = network(latents.to(self.device, dtype), labels.to(self.device))
        cut = ((images.float() + 1.0) / 2.0).clamp(0.0, 1.0).contiguous()
        return apply_spectrum_gain(cut, self.config.sampling.spectrum_gain)

    def export(self) -> Export:
        """Return what `medzoo export` writes: one network of noise and labels."""
        shape = (self.config.network.latent_dim,)
        network = Network(
            module=frozen(_ToImages(self.network, ToImages(self.image.size, self.config.sampling.spectrum_gain))),
            inputs={"noise": torch.zeros(2, *shape), "labels": example_labels(self.image)},
            output="images",
        )
        return Export(networks={"generator": network}, noise_shape=shape)


class _ToImages(nn.Module):
    """The network, up to images in [0, 1]."""

    def __init__(self, network: nn.Module, to_images: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.to_images = to_images

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        images: Tensor = self.to_images(self.network(latents, labels))
        return images
