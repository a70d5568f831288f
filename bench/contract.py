"""What the contract's checks cost of every first-party plugin, as a ratio to a reference measured in the same run.

The reference is forward and backward passes of a small convolution network. All is processor time of one thread, the
reference is measured anew before each plugin, and the least of the repeats counts, so that neither a slow nor a busy
machine changes the ratios much. It fails if a plugin's ratio is above the limit.
"""

import argparse
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medzoo.plugins import Plugins, load_plugins
from medzoo.testing import check_classifier, check_generator, check_metric

LIMIT = 40.0
PASSES = 40
PIPELINES = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "tiny_pipeline.py"


def main() -> int:
    """The exit code; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plugins", nargs="*", help="names; all of them if none is given")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--limit", type=float, default=LIMIT, help="the ratio above which a plugin fails")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    reference = make_reference()
    seconds_of(reference)
    references: list[float] = []
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(load_plugins(), Path(folder)):
            if asked.plugins and name.split()[1] not in asked.plugins:
                continue
            times = []
            for _ in range(asked.repeats):
                references.append(seconds_of(reference))
                times.append(seconds_of(check))
            spent[name] = min(times)
    unit = statistics.median(references)
    print(f"processor time of one thread, least of {asked.repeats}; reference {unit:.2f} s, ", end="")
    print(f"{min(references):.2f} to {max(references):.2f}")
    print(f"{'checks of':<32} {'seconds':>8} {'ratio':>6}")
    for name, seconds in spent.items():
        print(f"{name:<32} {seconds:>8.2f} {seconds / unit:>6.1f}")
    slow = [name for name, seconds in spent.items() if seconds > asked.limit * unit]
    if slow:
        print(f"above {asked.limit:g} times the reference: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


def make_reference() -> Callable[[], object]:
    """The work that all else is measured by."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3)
    )
    images = torch.rand(16, 1, 32, 32)

    def work() -> None:
        for _ in range(PASSES):
            network(images).square().mean().backward()

    return work


def seconds_of(call: Callable[[], object]) -> float:
    """Processor time of `call`."""
    start = time.process_time()
    call()
    return time.process_time() - start


def checks(plugins: Plugins, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Kind and name of every first-party plugin, and what checks it; `folder` is for what one of them needs."""
    kinds: dict[str, tuple[Callable[..., Any], Any]] = {
        "generator": (check_generator, plugins.generators),
        "classifier": (check_classifier, plugins.classifiers),
        "metric": (check_metric, plugins.metrics),
    }
    for kind, (check, specs) in kinds.items():
        for name, spec in specs.items():
            if plugins.plugin_of(kind, name).distribution != "medzoo":
                continue
            more: dict[str, Any] = {}
            if name == "api-variation":  # its `tiny` preset cannot know where a pipeline is
                pipeline = runpy.run_path(str(PIPELINES))["make_variation_pipeline"](folder / "variation")
                more = {"overrides": {"diffusers.model": str(pipeline)}}
            yield (
                f"{kind} {name}",
                lambda name=name, check=check, spec=spec, more=more: passed(name, check(spec, **more)),
            )


def passed(name: str, results: list[Any]) -> None:
    """Nothing. Raises: SystemExit for a check that failed, for then the others were not made."""
    if failed := [f"{result.name}: {result.detail}" for result in results if not result.passed]:
        raise SystemExit(f"{name}: {'; '.join(failed)}")


if __name__ == "__main__":
    sys.exit(main())
