"""How long `medzoo list` takes with a long registry: median and least wall time, and processor time, of each form."""

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES = ("README.md", "config.json", "model.safetensors", "samples.png")
ROW = """[[model]]
id = "model-{number:05d}"
plugin = "ddpm"
summary = "Breast ultrasound, benign, malignant and normal, by a class-conditional diffusion model."
repo = "org/model-{number:05d}"
revision = "{commit}"
modality = "ultrasound"
dataset = "busi"
classes = ["benign", "malignant", "normal"]
size = 64
channels = 1
license = "cc-by-4.0"
parameters = 3780612
files = [
{files}]
"""
FORMS = {
    "list": ["list"],
    "list --json": ["list", "--json"],
    "list, two words": ["list", "model-00042", "breast"],
    "list --class benign --license cc-by-4.0": ["list", "--class", "benign", "--license", "cc-by-4.0"],
    "show model-00042": ["show", "model-00042"],
}


def registry(rows: int) -> str:
    """A registry file of so many models of four files each, like the rows `medzoo push` writes."""
    texts = []
    for number in range(rows):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        files = "".join(f'  {{ name = "{name}", sha256 = "{digest}", bytes = {number + 1} }},\n' for name in FILES)
        texts.append(ROW.format(number=number, commit=digest[:40], files=files))
    return "\n".join(texts)


def times(arguments: list[str], environment: dict[str, str], repeats: int) -> tuple[list[float], list[float]]:
    """Wall and processor seconds of each of `repeats` runs, after one that warms the disk cache."""
    wall, processor = [], []
    for _ in range(repeats + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "medzoo", *arguments]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall[1:], processor[1:]


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.toml"
        path.write_text(registry(given.rows))
        environment = {**os.environ, "MEDZOO_REGISTRY": str(path)}
        print(f"{given.rows} rows, {path.stat().st_size / 1e6:.1f} MB, {given.repeats} runs; milliseconds")
        print(f"{'medzoo':<42} {'wall median':>12} {'wall least':>11} {'processor':>10}")
        for name, arguments in FORMS.items():
            wall, processor = times(arguments, environment, given.repeats)
            figures = [statistics.median(wall), min(wall), statistics.median(processor)]
            print(f"{name:<42} {1e3 * figures[0]:>12.0f} {1e3 * figures[1]:>11.0f} {1e3 * figures[2]:>10.0f}")


if __name__ == "__main__":
    main()
