"""Images with several labels each, and a plugin whose generator learns them in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medzoo.data.images import write_image

CORNERS = {"atelectasis": (0, 0), "edema": (0, 8), "effusion": (8, 0)}
SETS = ("atelectasis", "edema", "effusion", "edema|effusion", "")

LABELS_PLUGIN = '''
"""`quilt`: a base image to which every label adds what it adds on average, by least squares."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medzoo import GeneratorSpec, hookimpl
from medzoo.toolkit.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class QuiltConfig:
    image: ImageSettings = ImageSettings(size=16)


class Quilt(nn.Module):
    def __init__(self, config, image, device):
        super().__init__()
        self.image = image
        self.register_buffer("base", torch.rand(image.channels, image.size, image.size))
        self.register_buffer("effect", torch.rand(len(image.classes), image.channels, image.size, image.size))

    def fit(self, data, *, seed, callback, checkpoints):
        labels = torch.from_numpy(data.labels)
        images = torch.stack([torch.from_numpy(data[k]) for k in range(len(data))]).float() / 255.0
        design = torch.cat([labels, torch.ones(len(data), 1)], dim=1)
        found = torch.linalg.lstsq(design, images.flatten(1)).solution.view(-1, *images.shape[1:])
        self.effect, self.base = found[:-1], found[-1]
        callback.on_step_end(1, 1, {"loss": 0.0, "learning_rate": 1.0})

    def sample(self, seeds, labels, *, init_images=None):
        noise = [torch.randn(self.base.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        added = torch.einsum("nk,kchw->nchw", labels, self.effect)
        return (self.base + added + 0.05 * torch.stack(noise)).clamp(0.0, 1.0)


@hookimpl
def register_generators():
    presets = Path(__file__).parent / "presets"
    presets.mkdir(exist_ok=True)
    (presets / "default.toml").write_text("")
    return [
        GeneratorSpec(
            contract=2,
            name="quilt",
            summary="labels add up",
            config=QuiltConfig,
            presets=presets,
            build=Quilt,
            multi_label=True,
        )
    ]
'''


def write_labeled(folder: Path, *, per_set: int) -> Path:
    """A CSV of noisy images of 16 pixels, `per_set` of each set of labels, one of them empty."""
    random = np.random.default_rng(0)
    rows = ["file,labels"]
    for number, labels in enumerate(SETS):
        for index in range(per_set):
            pixels = random.normal(90, 25, (1, 16, 16))
            for label in filter(None, labels.split("|")):
                top, left = CORNERS[label]
                pixels[:, top : top + 8, left : left + 8] += 90
            name = f"{number}-{index}.png"
            write_image(folder / name, pixels.clip(0, 255).astype(np.uint8))
            rows.append(f"{name},{labels}")
    path = folder / "labels.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
