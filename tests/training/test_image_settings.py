"""Channels and bit depth of a model follow its training images, unless the user chose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzoo import config
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.errors import DataError
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.training.train import follow_images, train


def write_images(folder: Path, *, color: bool = False, highest: int = 255) -> Dataset:
    """Write four images of two classes: in color, or gray of 16 bits with values up to `highest`."""
    rng = np.random.default_rng(0)
    for name in ("a/0", "a/1", "b/0", "b/1"):
        values = rng.integers(highest // 3, highest + 1, (16, 16))
        values[0, 0] = highest
        pixels = (values[..., None] * np.array((1, 0.5, 0.2))).astype(np.uint8) if color else values.astype(np.uint16)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return open_dataset(folder)


def resolved(**overrides: object) -> config.Resolved:
    spec = load_plugins().generator("ddpm")
    values = {key.replace("__", "."): value for key, value in overrides.items()}
    return config.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=values)


def test_follow_images_takes_color(tmp_path: Path, logged: list[str]) -> None:
    followed, _ = follow_images(resolved(), write_images(tmp_path, color=True))
    assert followed.image.channels == 3
    assert followed.origins["image.channels"] == "the training images"
    assert "image.channels = 3, as the training images are in color; --set image.channels=1 drops it" in logged


def test_follow_images_leaves_the_users_channels(tmp_path: Path, logged: list[str]) -> None:
    followed, _ = follow_images(resolved(image__channels=1), write_images(tmp_path, color=True))
    assert followed.image.channels == 1
    assert "color is dropped: image.channels = 1 [from --set]" in logged


def test_follow_images_takes_the_bit_depth(tmp_path: Path) -> None:
    followed, data = follow_images(resolved(), write_images(tmp_path, highest=4000))
    assert (followed.image.depth, data.depth, followed.image.channels) == (12, 12, 1)


def test_follow_images_applies_the_users_depth(tmp_path: Path) -> None:
    images = write_images(tmp_path, highest=4000)
    followed, data = follow_images(resolved(image__depth=14), images)
    assert (followed.image.depth, data.depth) == (14, 14)
    with pytest.raises(DataError, match="values up to 4000, more than the 10 bits"):
        follow_images(resolved(image__depth=10), images)


def test_follow_images_leaves_8_bit_images(tmp_path: Path) -> None:
    followed, data = follow_images(resolved(), write_images(tmp_path, color=True))
    assert (followed.image.depth, data.highest) == (0, None)


def test_train_keeps_depth_and_channels_in_the_config(tmp_path: Path) -> None:
    plugins = load_plugins()
    settings = resolved(training__epochs=1, training__batch_size=4, image__size=16)
    train(
        plugins.generator("ddpm"),
        settings,
        write_images(tmp_path / "set", highest=900),
        tmp_path / "run",
        plugins=plugins,
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["image.depth"] == 10
    assert load_model(tmp_path / "run", plugins=plugins, device="cpu").depth == 10
