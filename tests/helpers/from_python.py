"""What tests of the Python API share: drawn images in one shape to compare, and models of a test's own plugins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from medzoo import ImageSpec
from medzoo import config as settings
from medzoo.data.images import decode
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins

FINDINGS = ("atelectasis", "edema", "effusion")


def pngs(folder: Path, label: str) -> np.ndarray:
    """The synthetic images of a class that a verb wrote, in order: uint8 (N, 1, H, W)."""
    return np.stack([decode(path)[None] for path in sorted((folder / label).glob("synthetic-*.png"))])


def as_uint8(images: torch.Tensor) -> np.ndarray:
    """Images float32 in [0, 1] as uint8, of the same shape."""
    assert images.dtype == torch.float32
    return (images * 255).round().to(torch.uint8).numpy()


def make_untrained(plugin: str, folder: Path, *, classes: tuple[str, ...], multi_label: bool = False) -> str:
    """The folder of an untrained model of 16 pixels, by an installed plugin."""
    spec = load_plugins().generator(plugin)
    resolved = settings.resolve(spec.config, presets=spec.presets)
    image = ImageSpec(size=16, channels=1, classes=classes, multi_label=multi_label)
    generator = build_model(spec, resolved, image, device="cpu")
    save_model(folder, generator, spec=spec, config=resolved, data={"name": "test", "images": []})
    return str(folder)
