"""How fast a classifier is trained beside timm's own loop: the same network, images, batch, optimizer and precision.

timm's loop is what its train.py does for a step: a batch of its loader's tensors, the loss under autocast, the backward
pass, the optimizer, and the learning rate of the step. Its images come through torch's DataLoader with one process and
the same augmentation, a random mirror, as a transform of torchvision on each image.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from medzoo import ImageSpec
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import TrainingCallback
from medzoo.toolkit.settings import ImageSettings, ObjectiveSettings, RecipeSettings
from medzoo_classifiers.settings import ResNet18Config, ResNet18Settings

CLASSES = ("a", "b", "c")


class Images(Dataset):
    """Random uint8 images (1, side, side) held in memory, for both loops."""

    classes = CLASSES

    def __init__(self, count: int, side: int, transform=None) -> None:
        random = np.random.default_rng(0)
        self.pixels = random.integers(0, 256, (count, 1, side, side), dtype=np.uint8)
        self.labels = random.integers(0, len(CLASSES), count)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        """Image `index`; transformed and with its label where there is a transform."""
        if self.transform is None:
            return self.pixels[index]
        return self.transform(torch.from_numpy(self.pixels[index])), self.labels[index]


class Nothing(Images):
    """No validation images: only training is timed."""

    def __len__(self) -> int:
        return 0


class Clock(TrainingCallback):
    """Records when each step ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.times: list[float] = []
        self.now = now

    def on_step_end(self, step, total, metrics):
        self.times.append(self.now())


def medzoo_steps(asked: argparse.Namespace, precision: str) -> list[float]:
    """Seconds of each step of `resnet18` in medzoo."""
    config = ResNet18Config(
        image=ImageSettings(size=asked.side),
        objective=ObjectiveSettings(label_smoothing=0.1),
        network=ResNet18Settings(size=asked.side),
        training=RecipeSettings(
            max_steps=asked.steps,
            batch_size=asked.batch,
            optimizer="sgd",
            learning_rate=0.01,
            mixed_precision=precision,
            load_best_model_at_end=False,
            checkpointing_steps=10**6,
        ),
    )
    image = ImageSpec(size=asked.side, channels=1, classes=CLASSES)
    classifier = load_plugins().classifier("resnet18").build(config, image, asked.device)
    clock = Clock(_now(asked))
    nothing = Nothing(1, asked.side)
    classifier.fit(Images(asked.images, asked.side), validation=nothing, seed=0, callback=clock)
    return list(np.diff(clock.times))


def timm_steps(asked: argparse.Namespace, precision: str) -> list[float]:
    """Seconds of each step of the same network in timm's loop."""
    device = torch.device(asked.device)
    transform = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5], std=[0.29])]
    )
    data = Images(asked.images, asked.side, transform)
    loader = DataLoader(data, batch_size=asked.batch, shuffle=True, drop_last=True)
    network = timm.create_model("resnet18", num_classes=len(CLASSES), in_chans=1)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=10, updates_per_epoch=len(loader))
    entropy = LabelSmoothingCrossEntropy(0.1).to(device)
    bf16 = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    times: list[float] = []
    now = _now(asked)
    while len(times) < asked.steps:
        for images, labels in loader:
            batch = images.to(device).contiguous(memory_format=torch.channels_last)
            with bf16:
                loss = entropy(network(batch), labels.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # both loops tell the loss of every step
            scheduler.step_update(len(times))
            times.append(now())
    return list(np.diff(times[: asked.steps]))


def _now(asked: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if asked.busy else time.perf_counter


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="time by CPU seconds, for a machine that others use too")
    asked = parser.parse_args()
    print(f"resnet18, {asked.side} px, batch {asked.batch} on {asked.device}, {torch.get_num_threads()} threads")
    print(
        f"{'precision':<10} {'medzoo':>9} {'timm':>9} {'ratio':>6}   images/s, the median step of {asked.repeats} turns"
    )
    for precision in ("fp32", "bf16"):
        seconds: dict[str, list[float]] = {"medzoo": [], "timm": []}
        for _ in range(asked.repeats):  # in turn, so that a busy machine slows both
            seconds["medzoo"] += medzoo_steps(asked, precision)
            seconds["timm"] += timm_steps(asked, precision)
        ours, theirs = (asked.batch / statistics.median(seconds[name]) for name in ("medzoo", "timm"))
        print(f"{precision:<10} {ours:>9.1f} {theirs:>9.1f} {ours / theirs:>6.2f}")


if __name__ == "__main__":
    main()
