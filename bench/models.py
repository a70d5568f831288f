"""How fast each bundled model draws images, with the settings its card ships: a batch as every verb draws it."""

import argparse
import statistics
import time

import torch

from medzoo.hub.registry import load_registry
from medzoo.models.devices import pick_device
from medzoo.models.loading import load_by_name
from medzoo.plugins.lookup import load_plugins


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="model ids; all of them if none is given")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    plugins, device = load_plugins(), pick_device(asked.device)
    registry = load_registry(plugins=plugins)
    print(f"batch {asked.batch} on {device}, {torch.get_num_threads()} threads, median of {asked.repeats}")
    print(f"{'model':<20} {'pixels':>6} {'steps':>5} {'guidance':>8} {'images/s':>9}")
    for name in asked.models or [row.id for row in registry.entries]:
        model = load_by_name(name, image=None, registry=registry, plugins=plugins, device=device)
        labels = torch.arange(asked.batch) % len(model.image.classes)
        seconds = []
        for turn in range(asked.repeats + 1):
            start = time.perf_counter()
            model.model.sample(range(asked.batch), labels).cpu()
            if turn:
                seconds.append(time.perf_counter() - start)
        flat = model.config.flat()
        steps, guidance = flat.get("sampling.num_inference_steps", 1), flat.get("sampling.guidance_scale", "")
        rate = asked.batch / statistics.median(seconds)
        print(f"{name:<20} {model.image.size:>6} {steps:>5} {guidance:>8} {rate:>9.1f}")


if __name__ == "__main__":
    main()
