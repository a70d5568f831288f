"""How long a cell of the classifier `frozen` takes in an experiment, and what extraction costs.

A cell trains on 500 real and 1,000 synthetic images, selects and tests on 100 each, and begins with features in memory,
of as many values as the network of the preset `default` gives. It should take at most 2 s on one core.
"""

import argparse
import statistics
import time

import torch

from medzoo import ImageSpec, config
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins

CLASSES = ("a", "b", "c")
REAL, SYNTHETIC, HELD_OUT, EXTRACTED = 500, 1000, 100, 64


def seconds(call) -> float:
    """Time one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Print the time of a cell and the images extracted a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    spec = load_plugins().classifier("frozen")
    settings = config.resolve(spec.config, presets=spec.presets)
    image = ImageSpec(size=settings.image.size, channels=1, classes=CLASSES)
    random = torch.Generator().manual_seed(0)
    model = build_model(spec, settings, image, device="cpu")
    pixels = torch.rand(EXTRACTED, 1, image.size, image.size, generator=random)
    views = model.extract(pixels[:2]).shape[1]
    rates = [EXTRACTED * views / seconds(lambda: model.extract(pixels)) for _ in range(repeats)]
    width = model.extract(pixels[:2]).shape[2]

    def made(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, len(CLASSES), (count,), generator=random)
        signal = torch.nn.functional.one_hot(labels, width).float().view(count, 1, width)
        return torch.randn(count, views, width, generator=random) + signal, labels

    (features, labels), validation, test = made(REAL + SYNTHETIC), made(HELD_OUT), made(HELD_OUT)
    weights = torch.cat([torch.ones(REAL), torch.full((SYNTHETIC,), 0.3)])

    def cell() -> None:
        own = build_model(spec, settings, image, device="cpu")
        own.fit_features(features, labels, weights=weights, validation=validation, seed=0)
        own.predict_features(test[0])

    cells = [seconds(cell) for _ in range(repeats)]
    print(f"one core, {model.source.network.side} pixels, {views} views of {width} features")
    print(f"extraction  {statistics.median(rates):8.1f} views/s")
    print(f"cell        {statistics.median(cells):8.2f} s  ({min(cells):.2f} to {max(cells):.2f}; at most 2 wanted)")


if __name__ == "__main__":
    main()
