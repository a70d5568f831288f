"""What a variation costs beside an image sampled from noise, with the same model in the same run.

The two alternate and their medians count, so that other load on the machine hits both alike. It fails if a variation at
strength 0.3 costs more than the limit.
"""

import argparse
import statistics
import sys
import time

import torch

from medzoo.generation.mixture import load_from, make_source
from medzoo.models.devices import pick_device
from medzoo.plugins.lookup import load_plugins

MODELS = ("ddpm-var-busi", "ldm-busi")
LIMITED, LIMIT = 0.3, 0.4


def main() -> int:
    """The exit code; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.1, 0.3, 0.7])
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"the ratio above which strength {LIMITED} fails")
    parser.add_argument(
        "--processor-time", action="store_true", help="seconds of work, not of the clock: for a busy CPU, one thread"
    )
    asked = parser.parse_args()
    clock = time.process_time if asked.processor_time else time.perf_counter
    source = make_source(load_plugins(), device=pick_device(asked.device))
    print(
        f"batch {asked.batch} on {source.device}, {torch.get_num_threads()} threads, median of {asked.repeats}", end=""
    )
    print(", by processor time" * asked.processor_time)
    print(f"{'model':<28} {'seconds':>8} {'of a full sample':>17}")
    slow = []
    for name in asked.models:
        names = {1.0: name, **{strength: f"{name}@{strength}" for strength in asked.strengths}}
        models = {strength: load_from(given, source).model for strength, given in names.items()}
        image = models[1.0].image
        real = torch.rand(asked.batch, image.channels, image.size, image.size)
        labels = torch.arange(asked.batch) % len(image.classes)
        seconds: dict[float, list[float]] = {strength: [] for strength in models}
        for turn in range(asked.repeats + 1):  # the first warms up
            for strength, model in models.items():
                start = clock()
                model.sample(range(asked.batch), labels, init_images=real).cpu()
                if turn:
                    seconds[strength].append(clock() - start)
        found = {strength: statistics.median(times) for strength, times in seconds.items()}
        for strength, median in found.items():
            print(f"{names[strength]:<28} {median:>8.2f} {median / found[1.0]:>17.2f}")
        if found.get(LIMITED, 0.0) > asked.limit * found[1.0]:
            slow.append(names[LIMITED])
    if slow:
        print(f"above {asked.limit:g} of a full sample: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
