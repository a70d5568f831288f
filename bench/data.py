"""How reading data scales: processor seconds and memory of check, split, train and augment by the number of images.

Images are 64 pixels wide, in class folders of PNGs and in an npz: mixtures of two simulated scans each, with speckle,
so that all are alike but few nearly the same; of each hundred one is a copy of another, and one nearly so. Every
command is a process of its own, and `check again` is the same command a second time, which finds in the cache what was
read. `train` fits a small classifier for one epoch of large batches at 16 pixels, and `augment` plans nearly as many
images as there are, and stops before it samples.

Processor seconds are of the process and its children, and change little with what else the machine does; the seconds
on the clock do. Memory is the peak of the resident memory, pages of mapped files included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medzoo.data.phantom import CLASSES, simulate

KINDS = ("folder", "npz")
VERBS = ("check", "check again", "split", "train", "augment")
_CHUNK = 1000
_RUN = (
    "import json, resource, sys, time; started = time.perf_counter(); from medzoo.cli.app import run\n"
    "code = run(sys.argv[1:])\n"
    "own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))\n"
    "cpu = sum(one.ru_utime + one.ru_stime for one in (own, others))\n"
    "told = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
    "peak = int(told['VmHWM'].split()[0]) / 1024  # ru_maxrss counts the process that started this one too\n"
    "facts = {'code': code, 'wall': time.perf_counter() - started, 'cpu': cpu, 'peak': peak}\n"
    "print(json.dumps(facts), file=sys.stderr)"
)


def make_images(count: int, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (N, size, size) and their classes, int64 (N,)."""
    rng = np.random.default_rng(seed)
    scans = np.stack([[simulate(label, seed=k, size=size) for k in range(40)] for label in CLASSES]).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), count)
    found = np.empty((count, size, size), np.uint8)
    for start in range(0, count, _CHUNK):
        own = labels[start : start + _CHUNK]
        first, second = rng.integers(0, scans.shape[1], (2, len(own)))
        share = rng.uniform(0.2, 0.8, (len(own), 1, 1)).astype(np.float32)
        mixed = share * scans[own, first] + (1 - share) * scans[own, second][:, :, ::-1]
        shifts = rng.integers(-6, 7, (len(own), 2))
        mixed = np.stack([np.roll(each, shift, (0, 1)) for each, shift in zip(mixed, shifts, strict=True)])
        mixed *= rng.gamma(12, 1 / 12, mixed.shape).astype(np.float32)
        found[start : start + _CHUNK] = mixed.clip(0, 255)
    for place in range(100, count, 100):
        found[place] = found[place - 50]  # a copy, and one that was saved again
        noise = rng.integers(-3, 4, found.shape[1:])
        found[place - 1] = (found[place - 60].astype(np.int64) + noise).clip(0, 255)
    return found, labels


def write_images(folder: Path, kind: str, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write the images as class folders or as an npz, and return its path."""
    if kind == "npz":
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "images.npz", train_images=images, train_labels=labels[:, None], classes=np.array(CLASSES))
        return folder / "images.npz"
    for label in CLASSES:
        (folder / "images" / label).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        Image.fromarray(pixels).save(folder / "images" / CLASSES[label] / f"{number:07d}.png", compress_level=1)
    return folder / "images"


def command(verb: str, data: Path, out: Path, *, count: int) -> list[str]:
    """Return the arguments of `medzoo` for one row of the table."""
    if verb.startswith("check"):
        return ["data", "check", str(data), "--json"]
    if verb == "split":
        return ["data", "split", str(data), "--out", str(out)]
    if verb == "train":
        settings = ["training.epochs=1", "training.batch_size=1024", "image.size=16"]
        given = [part for setting in settings for part in ("--set", setting)]
        given += ["--preset", "tiny", "--data", str(data), "--out", str(out), "--device", "cpu"]
        return ["classify", "train", "cnn", *given]
    return ["augment", "--gen", "classic", "--data", str(data), "--to", str(count // 2), "--out", str(out), "--dry-run"]


def measure(arguments: Sequence[str], *, cache: Path) -> dict[str, Any]:
    """Run `medzoo` in a process of its own: wall and processor seconds, and peak memory in MB."""
    environment = {**os.environ, "MEDZOO_CACHE": str(cache)}
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    lines = ran.stderr.splitlines()
    facts: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"code": ran.returncode}
    if facts["code"]:
        raise SystemExit(f"medzoo {' '.join(arguments)} failed:\n{ran.stderr}")
    return facts


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 20_000, 40_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument(
        "--folder", type=Path, help="where the images are written, and stay; by default a temporary one"
    )
    given = parser.parse_args(arguments)
    print("| images | in | command | CPU s | s | peak MB |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for count in given.counts:
            images, labels = make_images(count, size=given.size, seed=0)
            for kind in given.kinds:
                place = Path(name) / f"{kind}-{count}"
                data = write_images(place, kind, images, labels)
                for verb in given.verbs:
                    cache = place / ("check" if verb.startswith("check") else verb) / "cache"
                    facts = measure(command(verb, data, place / f"out-{verb}", count=count), cache=cache)
                    cells = [f"{count:,}", kind, verb, *(f"{facts[key]:.0f}" for key in ("cpu", "wall", "peak"))]
                    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
