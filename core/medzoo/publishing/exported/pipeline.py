"""A class-conditional pipeline for diffusers: denoiser, label embedding, autoencoder and scheduler, or one network.

    pipeline = DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)
    images = pipeline("malignant", num_images=4, seed=0).images

These are the images of `medzoo sample GEN --label malignant --n 4 --seed 0`, up to rounding.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional

Label = str | int


class ClassConditionalPipeline(DiffusionPipeline):
    """Samples images of given classes.

    A `unet` or `denoiser` is sampled with a `scheduler` of clean estimates (`prediction_type="sample"`), and `vae` and
    `decoder` make images of the result; or `generator` makes images of noise. `label_embedding` gives the hidden states
    that the U-Net attends to. `settings` hold the classes, and how the network was trained and is sampled.
    """

    _optional_components: ClassVar = ["unet", "denoiser", "label_embedding", "vae", "decoder", "scheduler", "generator"]

    def __init__(
        self,
        unet: Any = None,
        denoiser: Any = None,
        label_embedding: Any = None,
        vae: Any = None,
        decoder: Any = None,
        scheduler: Any = None,
        generator: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet,
            denoiser=denoiser,
            label_embedding=label_embedding,
            vae=vae,
            decoder=decoder,
            scheduler=scheduler,
            generator=generator,
        )
        self.register_to_config(settings=dict(settings or {}))

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Label | Sequence[Label],
        *,
        num_images: int = 1,
        seed: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Sample `num_images` of each of `class_labels`, names or numbers; several labels of one image are "a|b".

        `seed` numbers images as `medzoo sample --seed` does: each has a generator of its own, which depends on the
        seed, its label, and how many images of that label come before it in this call. `generator` is used instead:
        one for each image, as in `[torch.Generator().manual_seed(s) for s in seeds]` with the seeds of metadata.csv, or
        one for all. Generators are to be on the CPU. `guidance_scale` and `num_inference_steps` are those of the
        model's card unless given. `output_type` is "pil", "np" or "pt", in [0, 1].
        """
        settings = self.config.settings
        given = [class_labels] if isinstance(class_labels, str | int) else list(class_labels)
        names = [self._name(label) for label in given for _ in range(num_images)]
        if seed is not None and generator is not None:
            raise ValueError("give a seed or a generator, not both")
        if seed is not None:
            generator = self._generators(names, seed)
        device = self._execution_device
        labels = self._labels(names).to(device)
        noise = randn_tensor((len(names), *settings["noise_shape"]), generator=generator, dtype=torch.float32)
        noisy = noise.to(device)
        if self.generator is not None:
            images = self.generator(noisy, labels)
        else:
            scale = settings["guidance_scale"] if guidance_scale is None else guidance_scale
            clean = self._denoise(noisy, labels, generator, scale=scale, steps=num_inference_steps)
            images = self.decoder(self._decode(clean))
        images = images.float().cpu()
        if output_type != "pt":
            images = images.permute(0, 2, 3, 1).numpy()
            images = self.numpy_to_pil(images) if output_type == "pil" else images
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _name(self, label: Label) -> str:
        """Return the name of a label, several in the order of the classes."""
        classes = self.config.settings["classes"]
        asked = label.split("|") if isinstance(label, str) else [classes[label]]
        if unknown := [name for name in asked if name not in classes]:
            raise ValueError(f"the class '{unknown[0]}' is not one of {', '.join(classes)}")
        return "|".join(name for name in classes if name in asked)

    def _labels(self, names: Sequence[str]) -> Tensor:
        """Return int64 labels (N,), or multi-hot ones (N, K)."""
        classes = self.config.settings["classes"]
        if not self.config.settings["multi_label"]:
            return torch.tensor([classes.index(name) for name in names])
        return torch.tensor([[float(known in name.split("|")) for known in classes] for name in names])

    def _generators(self, names: Sequence[str], seed: int) -> list[torch.Generator]:
        counts: Counter[str] = Counter()
        found = []
        for name in names:
            digest = hashlib.sha256(f"{seed}/{self.config.settings['name']}/{name}".encode()).digest()
            start = int.from_bytes(digest[:8], "big") >> 1
            found.append(torch.Generator().manual_seed((start + counts[name]) % 2**32))
            counts[name] += 1
        return found

    def _denoise(self, noisy: Tensor, labels: Tensor, generator: Any, *, scale: float, steps: int | None) -> Tensor:
        """Return clean data (N, ...): the scheduler steps between timesteps, and the last one is denoised."""
        settings, scheduler = self.config.settings, self.scheduler
        scheduler.set_timesteps(timesteps=self._timesteps(steps))
        null = torch.tensor(settings["null_label"], dtype=labels.dtype, device=labels.device).expand_as(labels)
        channels, clean = noisy.shape[1], noisy
        learned = getattr(scheduler.config, "variance_type", None) in ("learned", "learned_range")
        low, high = settings["guidance_interval"] or (-1.0, float("inf"))  # noise levels
        timesteps = scheduler.timesteps.tolist()
        for timestep in self.progress_bar(timesteps):
            signal = scheduler.alphas_cumprod[timestep]
            alpha, sigma = signal.sqrt().item(), (1.0 - signal).sqrt().item()
            guided = scale != 1.0 and low < sigma / alpha <= high
            given = noisy
            spread = settings["sigma_data"] or 1.0
            deviation = (sigma**2 + (spread * alpha) ** 2) ** 0.5
            if settings["prediction_type"] == "edm":
                given = noisy / deviation
            output = self._predict(
                torch.cat([given, given]) if guided else given,
                timestep,
                torch.cat([labels, null]) if guided else labels,
            )
            variance = output[: len(noisy), channels:]
            predicted = output[:, :channels]
            if guided:
                labeled, unlabeled = predicted.chunk(2)
                predicted = unlabeled + scale * (labeled - unlabeled)
            if settings["prediction_type"] == "epsilon":
                clean = (noisy - sigma * predicted) / alpha
            elif settings["prediction_type"] == "v_prediction":
                clean = alpha * noisy - sigma * predicted
            else:
                clean = (spread / deviation) ** 2 * alpha * noisy - sigma * spread / deviation * predicted
            clean = clean.clamp(-settings["limit"], settings["limit"])
            if timestep != timesteps[-1]:
                estimate = torch.cat([clean, variance], dim=1) if learned else clean
                noisy = scheduler.step(estimate, timestep, noisy, generator=generator, return_dict=False)[0]
        return clean

    def _timesteps(self, steps: int | None) -> list[int]:
        """Return the timesteps of the model's card, or `steps` of them, in between where there are more."""
        known = self.config.settings["timesteps"]
        if steps is None:
            return known
        places = np.linspace(0, len(known) - 1, steps)
        return sorted({round(place) for place in np.interp(places, range(len(known)), known)}, reverse=True)

    def _predict(self, noisy: Tensor, timestep: int, labels: Tensor) -> Tensor:
        """Return the network's prediction, float32 (N, C, ...), and a learned variance behind it."""
        timesteps = torch.full((len(noisy),), timestep, device=noisy.device)
        if self.unet is None:
            prediction: Tensor = self.denoiser(noisy, timesteps, labels)
            return prediction
        patch, dtype = self.config.settings.get("patch_size", 1), self.unet.dtype
        folded = functional.pixel_unshuffle(noisy, patch)
        if self.label_embedding is None:
            output = self.unet(folded.to(dtype), timesteps, class_labels=labels, return_dict=False)[0]
        else:
            tokens = self.label_embedding(labels).to(dtype)
            output = self.unet(folded.to(dtype), timesteps, encoder_hidden_states=tokens, return_dict=False)[0]
        parts = output.float().split(folded.shape[1], dim=1)
        return torch.cat([functional.pixel_shuffle(part, patch) for part in parts], dim=1)

    def _decode(self, clean: Tensor) -> Tensor:
        """Return what `decoder` takes: clean data, or the autoencoder's images of standardized latents."""
        if self.vae is None:
            return clean
        settings = self.config.settings
        mean, deviation = (
            torch.tensor(settings[key], device=clean.device).view(1, -1, 1, 1)
            for key in ("latents_mean", "latents_std")
        )
        decoded = self.vae.decode((clean * deviation + mean).to(self.vae.dtype)).sample.float()
        images = functional.pixel_shuffle(decoded, settings["vae_patch_size"])
        return images if images.shape[1] == settings["channels"] else images.mean(dim=1, keepdim=True)
