"""How long the light commands take to start, beside `hf --help` in the same run: medians of alternating runs."""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MEDZOO = [sys.executable, "-m", "medzoo"]
REFERENCE = "hf --help"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    REFERENCE: [str(Path(sys.executable).with_name("hf")), "--help"],
    "medzoo --version": [*MEDZOO, "--version"],
    "medzoo --help": [*MEDZOO, "--help"],
    "medzoo list": [*MEDZOO, "list"],
    "medzoo list --json": [*MEDZOO, "list", "--json"],
    "medzoo show ddpm": [*MEDZOO, "show", "ddpm"],
    "medzoo plugin list": [*MEDZOO, "plugin", "list"],
}
LIMITS = {"medzoo list": 0.30, "medzoo --help": 0.40}
"""The largest ratio to the reference; above it, the script exits with 1."""

# Without byte code on disk, both would mostly compile.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(command: list[str]) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def main() -> int:
    """Print the table. Return 1 if a ratio is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, command in COMMANDS.items():
            spent = seconds(command)
            if turn:  # the first turn warms the disk cache
                times[name].append(1e3 * spent)
    reference = statistics.median(times[REFERENCE])
    print(f"{'command':<20} {'median ms':>10} {'min':>8} {'max':>8} {'ratio':>7}   ({repeats} alternating runs)")
    slow = []
    for name, values in times.items():
        ratio = statistics.median(values) / reference
        print(f"{name:<20} {statistics.median(values):>10.1f} {min(values):>8.1f} {max(values):>8.1f} {ratio:>7.2f}")
        if ratio > LIMITS.get(name, float("inf")):
            slow.append(f"{name}: {ratio:.2f} of {REFERENCE}, at most {LIMITS[name]:.2f} allowed")
    print("\n".join(slow))
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
