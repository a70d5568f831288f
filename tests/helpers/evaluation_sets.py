"""Small image sets on disk, and a plugin with a cheap extractor and metrics, for the tests of evaluations."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

import medzoo
from medzoo import ExtractorSpec, MetricSpec, Score
from medzoo.data.images import write_image
from medzoo.errors import DataError
from medzoo.generation.mixture import Source
from medzoo.hub.registry import load_registry
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import Pair


def write_set(
    folder: Path, counts: dict[str, int], *, side: int = 12, channels: int = 1, seed: int = 0, shift: int = 0
) -> Path:
    """A folder of class folders; images of class k are about 40 (k + 1) + shift gray."""
    random = np.random.default_rng(seed)
    for place, (label, count) in enumerate(counts.items()):
        for number in range(count):
            noise = random.integers(-30, 30, (channels, side, side))
            pixels = np.clip(40 * (place + 1) + shift + noise, 0, 255).astype(np.uint8)
            write_image(folder / label / f"{number:03d}.png", pixels)
    return folder


def write_metadata(folder: Path, *, synthetic: str = "*.png", generator: str = "made", weights: str = "") -> Path:
    """The folder, with a metadata.csv in which files that match are synthetic and the others real."""
    chosen = set(folder.glob(f"*/{synthetic}"))
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "label", "origin", "generator", "weights_sha256"))
        for path in sorted(folder.glob("*/*.png")):
            made = ("synthetic", generator, weights) if path in chosen else ("real", "", "")
            writer.writerow((path.relative_to(folder).as_posix(), path.parent.name, *made))
    return folder


class Means:
    """Four numbers an image: the mean gray of its quarters. Counts the images it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        quarters = torch.nn.functional.adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), 2)
        return {"features": quarters.flatten(1), "logits": quarters.flatten(1)}

    def distance(self, first, second):
        return (first.float() - second.float()).abs().mean(dim=(1, 2, 3))


class MeanDistance:
    def __call__(self, real, fake, *, seed):
        one, other = (sample.features["features"] for sample in (real, fake))
        return Score(value=float((one.mean(0) - other.mean(0)).norm()), n_real=real.size, n_fake=fake.size)


class Brightness:
    def __call__(self, real, fake, *, seed):
        one, other = (float(sample.pixels[:].mean()) for sample in (real, fake))
        return Score(value=other - one, n_real=real.size, n_fake=fake.size, details={"real": one, "synthetic": other})


class Large:
    def __call__(self, real, fake, *, seed):
        raise DataError("large needs sides over 160 pixels")


class Nearest:
    def __call__(self, real, fake, *, train, seed):
        both = torch.cat([train.features["features"], train.features["mirrored"]])
        nearest = torch.cdist(fake.features["features"], both).min(dim=1)
        pairs = (Pair(fake=0, train=int(nearest.indices[0]) % train.size, distance=float(nearest.values[0])),)
        value = float(nearest.values.min())
        return Score(value=value, n_real=real.size, n_fake=fake.size, pairs=pairs, failed=value == 0)


class Look:
    def __call__(self, real, fake, *, seed):
        count = min(real.size, fake.size)
        value = float(fake.distance(real.pixels[:count], fake.pixels[:count]).mean())
        return Score(value=value, n_real=real.size, n_fake=fake.size)


MEANS = Means()


class TestPlugin:
    """Metrics that take no time, and the extractor `means` with a published weight it does not have, as `absent`."""

    __test__ = False

    @medzoo.hookimpl
    def register_extractors(self):
        common = {"layers": ("features", "logits"), "preprocessing": "quarters", "perceptual": True}
        return [
            ExtractorSpec(contract=2, name="means", summary="", build=lambda weights, device: MEANS, **common),
            ExtractorSpec(
                contract=2,
                name="absent",
                summary="",
                build=lambda weights, device: MEANS,
                assets=("inception-fid",),
                **common,
            ),
        ]

    @medzoo.hookimpl
    def register_metrics(self):
        means = {"unit": "gray levels", "higher_is_better": False, "extractors": ("absent", "means")}
        return [
            MetricSpec(
                contract=2,
                name="mean-distance",
                summary="",
                build=MeanDistance,
                needs_features=("features",),
                baseline=True,
                **means,
            ),
            MetricSpec(
                contract=2,
                name="brightness",
                summary="",
                unit="",
                build=Brightness,
                needs_pixels=True,
                min_samples=3,
            ),
            MetricSpec(
                contract=2, name="large", summary="", unit="", higher_is_better=False, build=Large, needs_pixels=True
            ),
            MetricSpec(
                contract=2,
                name="nearest-train",
                summary="",
                build=Nearest,
                needs_features=("features",),
                needs_train=("features", "mirrored"),
                **means,
            ),
            MetricSpec(contract=2, name="look", summary="", build=Look, needs_distance=True, **means),
        ]


def source_of_tests() -> Source:
    """A source whose metrics are the test plugin's alone."""
    from dataclasses import replace

    plugins = load_plugins(extra=[("test-metrics", TestPlugin())])
    own = {spec.name: spec for spec in TestPlugin().register_metrics()}
    extractors = {spec.name: spec for spec in TestPlugin().register_extractors()}
    plugins = replace(plugins, metrics=own, extractors=extractors)
    return Source(plugins=plugins, registry=load_registry(plugins=plugins), device="cpu")
