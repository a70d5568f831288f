"""How long the light verbs take: median, least and most wall time, each beside the same interpreter doing nothing."""

import argparse
import statistics
import subprocess
import sys
import time

NOTHING = [sys.executable, "-c", "pass"]
MEDZOO = [sys.executable, "-m", "medzoo"]
COMMANDS = {
    "python -c pass": NOTHING,
    "medzoo --version": [*MEDZOO, "--version"],
    "medzoo --help": [*MEDZOO, "--help"],
    "medzoo list": [*MEDZOO, "list"],
    "medzoo list --json": [*MEDZOO, "list", "--json"],
    "medzoo show ddpm": [*MEDZOO, "show", "ddpm"],
    "medzoo plugin list": [*MEDZOO, "plugin", "list"],
}


def wall_times(command: list[str], repeats: int) -> list[float]:
    """Seconds of each of `repeats` runs, after one that warms the disk cache."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(f"{'command':<20} {'median ms':>10} {'least':>8} {'most':>8}   ({repeats} runs)")
    for name, command in COMMANDS.items():
        times = [1e3 * seconds for seconds in wall_times(command, repeats)]
        print(f"{name:<20} {statistics.median(times):>10.1f} {min(times):>8.1f} {max(times):>8.1f}")


if __name__ == "__main__":
    main()
