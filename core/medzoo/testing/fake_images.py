"""What the conformance kit fits models on."""

from __future__ import annotations

import numpy as np

from medzoo.specs import ImageSpec

CLASSES = ("first", "second", "third")
BRIGHTNESS = (24, 128, 232)


class _Images:
    """`_pixels`, uint8 (N, C, H, W), and their `labels`."""

    labels: np.ndarray
    _pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a copy of image `index`: uint8 (C, H, W)."""
        pixels: np.ndarray = self._pixels[index]
        return pixels.copy()


class FakeImages(_Images):
    """24 noisy images of three classes, twelve, eight and four, brighter from class to class.

    Multi-label: every label brightens, seven images have two and three have none.
    """

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        if image.multi_label:
            kinds = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32)
            self.labels = np.repeat(kinds, (6, 5, 3, 4, 3, 3), axis=0)
            light = self.labels @ np.array([16, 48, 80])
        else:
            self.labels = np.repeat(np.arange(3), (12, 8, 4)).astype(np.int64)
            light = 64 * self.labels
        grain = np.random.default_rng(0).integers(0, 96, (24, image.channels, image.size, image.size))
        self._pixels = (grain + light[:, None, None, None]).astype(np.uint8)


class PlainImages(_Images):
    """72 images of one brightness each, `BRIGHTNESS` by class or by label, so that nothing is easier to learn."""

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        turns = 24
        if image.multi_label:
            self.labels = np.tile(np.eye(len(BRIGHTNESS), dtype=np.float32), (turns, 1))
        else:
            self.labels = np.tile(np.arange(len(BRIGHTNESS), dtype=np.int64), turns)
        light = np.tile(np.array(BRIGHTNESS), turns) + np.random.default_rng(0).integers(-8, 9, 3 * turns)
        self._pixels = np.empty((len(light), image.channels, image.size, image.size), np.uint8)
        self._pixels[:] = light[:, None, None, None]
