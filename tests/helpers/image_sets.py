"""Small image sets for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 pixels of this shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(root: Path, counts: Mapping[str, int], *, seed: int = 0, side: int = 12) -> Path:
    """`root`, filled with class folders of random images, no two alike."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            seed += 1
            Image.fromarray(noise(side, side, seed=seed)).save(root / name / f"{index:03d}.png")
    return root


def write_csv(path: Path, *lines: str) -> Path:
    """`path`, holding these lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    """`path`, holding these arrays."""
    np.savez(path, **arrays)
    return path
