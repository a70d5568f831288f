"""Sample images with the networks in this folder; numpy is needed, and onnxruntime (or torch, for .pt2 files).

    python sample.py malignant --n 4 --seed 0 --out images

These are the images of `medzoo sample GEN --label malignant --n 4 --seed 0`, up to rounding. `sample` is the whole
loop: everything it needs to know is in sampling.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Network = Callable[..., np.ndarray]


def load_networks(folder: Path, description: Mapping[str, Any]) -> dict[str, Network]:
    """Load the networks that sampling.json describes, by name: functions from arrays to an array."""
    return {name: _load(folder / network["file"]) for name, network in description["networks"].items()}


def _load(path: Path) -> Network:
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]
    import torch

    program = torch.export.load(path).module()
    return lambda *arrays: program(*map(torch.from_numpy, arrays)).numpy()


class Noise:
    """The draws of `torch.randn(shape, generator=torch.Generator().manual_seed(seed))` on a CPU, up to rounding.

    torch and numpy seed the Mersenne Twister alike. torch makes normal numbers of 16 uniform ones at a time (Box and
    Muller 1958): the first 8 give the radius, the others the angle.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.RandomState(seed)

    def __call__(self, shape: Sequence[int]) -> np.ndarray:
        """Return the next standard normal numbers, float32 `shape`, of which there are at least 16."""
        count = math.prod(shape)
        if count < 16:
            raise ValueError("torch draws fewer than 16 numbers in another way")
        values = self._uniform(count)
        whole = count // 16 * 16
        values[:whole] = _normal(values[:whole])
        if whole < count:  # the last 16 are drawn anew
            values[-16:] = _normal(self._uniform(16))
        return values.reshape(shape)

    def _uniform(self, count: int) -> np.ndarray:
        bits = self._bits.randint(0, 2**32, size=count, dtype=np.uint32)
        return (bits & 0xFFFFFF).astype(np.float32) / np.float32(2**24)


def _normal(uniform: np.ndarray) -> np.ndarray:
    """Return standard normal numbers (n,) of uniform ones (n,) in [0, 1), n divisible by 16."""
    first, second = uniform.reshape(-1, 2, 8).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2.0 * np.log(1.0 - first)), np.float32(2.0 * math.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def image_seeds(description: Mapping[str, Any], label: str, count: int, *, seed: int) -> list[int]:
    """Return the seeds of the first `count` images of a label that `medzoo sample --seed SEED` makes."""
    digest = hashlib.sha256(f"{seed}/{description['name']}/{label}".encode()).digest()
    start = int.from_bytes(digest[:8], "big") >> 1
    return [(start + index) % 2**32 for index in range(count)]


def label_array(description: Mapping[str, Any], labels: Sequence[str]) -> np.ndarray:
    """Return labels as the networks take them: int64 (N,), or float32 multi-hot (N, K), as of "effusion|edema"."""
    classes = description["image"]["classes"]
    if not description["image"]["multi_label"]:
        return np.array([classes.index(label) for label in labels])
    return np.array([[name in label.split("|") for name in classes] for label in labels], np.float32)


def sample(
    description: Mapping[str, Any], networks: Mapping[str, Network], labels: np.ndarray, seeds: Sequence[int]
) -> np.ndarray:
    """Return images, float32 (N, C, H, W) in [0, 1], one for each label and seed."""
    draws = [Noise(seed) for seed in seeds]
    shape = description["noise_shape"]
    noisy = np.stack([draw(shape) for draw in draws])
    if "steps" not in description:
        return networks["generator"](noisy, labels)
    channels, limit = len(noisy[0]), description["limit"]
    unlabeled = np.broadcast_to(np.array(description["null_label"], labels.dtype), labels.shape).copy()
    clean = previous = np.zeros_like(noisy)
    for step in description["steps"]:
        given, timesteps = step["c_in"] * noisy, np.full(len(noisy), step["timestep"])
        output = networks["denoiser"](given, timesteps, labels)
        predicted, variance = output[:, :channels], output[:, channels:]  # no variance unless it is learned
        if step["guidance_scale"] != 1.0:
            base = networks["denoiser"](given, timesteps, unlabeled)[:, :channels]
            predicted = base + step["guidance_scale"] * (predicted - base)
        clean = (step["c_skip"] * noisy + step["c_out"] * predicted).clip(-limit, limit)
        if "sample" not in step:  # the last one
            break
        noisy = step["sample"] * noisy + step["clean"] * clean + step["previous"] * previous
        if "noise" in step:
            scale: Any = step["noise"]
            if "noise_max" in step:
                scale = scale * (step["noise_max"] / scale) ** ((variance + 1.0) / 2.0)
            noisy = noisy + scale * np.stack([draw(shape) for draw in draws])
        previous = clean
    return networks["decoder"](clean)


def main() -> None:
    """Write PNGs with Pillow, marked as synthetic."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder = Path(__file__).parent
    description = json.loads((folder / "sampling.json").read_text("utf-8"))
    parser = argparse.ArgumentParser(description="Sample synthetic images.")
    parser.add_argument("label", help=f"one of {', '.join(description['image']['classes'])}")
    parser.add_argument("--n", type=int, default=4, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("images"))
    given = parser.parse_args()
    if unknown := [name for name in given.label.split("|") if name not in description["image"]["classes"]]:
        parser.error(f"{unknown[0]} is not one of {', '.join(description['image']['classes'])}")
    networks = load_networks(folder, description)
    mark = PngInfo()
    mark.add_itxt("XML:com.adobe.xmp", description["xmp"])
    given.out.mkdir(parents=True, exist_ok=True)
    for start in range(0, given.n, 8):
        seeds = image_seeds(description, given.label, given.n, seed=given.seed)[start : start + 8]
        labels = label_array(description, [given.label] * len(seeds))
        pixels = (sample(description, networks, labels, seeds) * 255.0).round().astype(np.uint8)
        for index, image in enumerate(pixels.transpose(0, 2, 3, 1), start):
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            picture.save(given.out / f"{given.label.replace('|', '+')}-{index:06d}.png", pnginfo=mark)


if __name__ == "__main__":
    main()
