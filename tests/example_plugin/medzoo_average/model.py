"""The model: a mean and a standard deviation for each pixel of each class."""

import torch
from torch import nn

from medzoo.toolkit.validation import check_class_sizes, check_sample_request


class Average(nn.Module):
    """A Generator; no base class of medzoo is needed, only `image`, `fit`, `sample` and the state_dict of nn.Module."""

    def __init__(self, config, image):
        super().__init__()
        self.image = image
        self.spread = config.spread
        shape = (len(image.classes), image.channels, image.size, image.size)
        self.register_buffer("mean", torch.full(shape, 0.5))
        self.register_buffer("deviation", torch.full(shape, 0.1))

    def fit(self, data, *, seed, callback, checkpoints):
        """Take each class's mean and deviation."""
        check_class_sizes(data, min_images=1)
        labels = torch.from_numpy(data.labels)
        images = torch.stack([torch.from_numpy(data[index]) for index in range(len(data))]).float() / 255.0
        for label in range(len(data.classes)):
            self.mean[label] = images[labels == label].mean(dim=0)
            self.deviation[label] = images[labels == label].std(dim=0, correction=0)
        callback.on_step_end(1, 1, {"loss": self.deviation.mean().item()})
        callback.on_preview(1, self.sample)

    @torch.inference_mode()
    def sample(self, seeds, labels, *, init_images=None):
        """Images float32 (N, C, H, W) in [0, 1]; image i depends on `seeds[i]` and `labels[i]` alone."""
        check_sample_request(self.image, seeds, labels)
        device, shape = self.mean.device, self.mean.shape[1:]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)
        labels = labels.to(device)
        return (self.mean[labels] + self.spread * noise * self.deviation[labels]).clamp(0.0, 1.0)
