"""Processor time and page faults of sampling on a CPU: as it is, with other thresholds of malloc, and compiled.

User and system time of the process count, which other load changes little. Other allocators are tried from outside:
LD_PRELOAD=libjemalloc.so.2, or THP_MEM_ALLOC_ENABLE=1 for huge pages, before the command.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch

from medzoo.generation.mixture import load_from, make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.toolkit.devices import keep_freed_memory

VARIANTS = ("plain", "thresholds", "compile")


def spent() -> tuple[float, float, int]:
    """Return user and system seconds of this process and its finished children, and the page faults of this one."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + others.ru_utime, own.ru_stime + others.ru_stime, own.ru_minflt


def measured(call: Callable[[], object]) -> tuple[float, float, int]:
    """Return what `call` spends: user seconds, system seconds, page faults."""
    before = spent()
    call()
    user, system, faults = (after - since for after, since in zip(spent(), before, strict=True))
    return user, system, int(faults)


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="ddpm-var-busi")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--steps", type=int, default=5, help="denoising steps; all cost the same")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    source = make_source(load_plugins(), device="cpu", overrides={"sampling.num_inference_steps": asked.steps})
    model = load_from(asked.model, source).model
    labels = torch.arange(asked.batch) % len(model.image.classes)
    first = model.sample(range(asked.batch), labels)
    print(f"{asked.model}, batch {asked.batch}, {asked.steps} steps, {torch.get_num_threads()} threads; per image")
    print(f"{'variant':<12} {'user s':>8} {'system s':>9} {'faults':>8} {'largest difference':>19}")
    for variant in asked.variants:
        if variant == "thresholds":
            keep_freed_memory()
        if variant == "compile":
            model._fast[:] = [torch.compile(part) for part in model._fast]
        started = time.perf_counter()
        user, system, _ = measured(lambda: model.sample(range(asked.batch), labels))
        if variant == "compile":
            print(
                f"first batch: {user:.1f} s user, {system:.1f} s system, {time.perf_counter() - started:.0f} s in all"
            )
        spans = [measured(lambda: model.sample(range(asked.batch), labels)) for _ in range(asked.repeats)]
        user, system, faults = min(spans)
        apart = (model.sample(range(asked.batch), labels) - first).abs().max().item()
        per_image = (value / asked.batch for value in (user, system))
        print(f"{variant:<12} {'{:>8.4f} {:>9.4f}'.format(*per_image)} {faults / asked.batch:>8.0f} {apart:>19.2g}")


if __name__ == "__main__":
    main()
