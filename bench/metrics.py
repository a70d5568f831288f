"""What the four set metrics cost beside the extractor they share, and beside torch-fidelity's own command.

Inception has random weights of the published shape, which take as long. Images are noise of 64 pixels in PNG files. The
bare extractor is given batches in memory; medzoo decodes files, extracts and computes FID, KID, the Inception score and
precision and recall, with their floors; then once more, when features are kept.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from medzoo import Extractor
from medzoo.data.images import write_image
from medzoo.evaluation.evaluate import EvaluateRequest, evaluate
from medzoo.evaluation.features import load_extractor
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins

WEIGHTS = "weights-inception.pth"
METRICS = ("fid", "kid", "isc", "prc")
BATCH = 64


def main() -> None:
    """Nothing; prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="images a set")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--fidelity", action="store_true", help="time torch-fidelity's command as well")
    parser.add_argument("--busy", action="store_true", help="count processor time, on a machine that has other work")
    asked = parser.parse_args()
    clock = time.process_time if asked.busy else time.perf_counter
    kind = "processor time" if asked.busy else "wall time"
    print(f"{asked.n} images a set, {asked.side} pixels, {torch.get_num_threads()} threads, {kind}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights = publish_inception(root)
        sets = [write_noise(root / name, asked.n, asked.side, seed) for seed, name in enumerate(("real", "fake"))]
        source = make_source(load_plugins(), device="cpu")
        extractor = load_extractor("inception", source)
        bare = time_bare(extractor.extract, asked.n, asked.side, clock)
        print(f"bare extractor, {2 * asked.n} images in memory: {bare:.1f} s")
        request = EvaluateRequest(real=sets[0], fake=sets[1], metrics=tuple(f"{name}@inception" for name in METRICS))
        for title in ("medzoo, four metrics with floors", "medzoo again, features kept"):
            start = clock()
            measured = evaluate(request, source)
            seconds = clock() - start
            print(f"{title}: {seconds:.1f} s, {seconds / bare:.3f} of the bare extractor")
        for row in measured.evaluation.results:
            print(f"  {row.name}: {row.score.value:.6g}" if row.score else f"  {row.name}: {row.missing}")
        if asked.fidelity:
            print(f"torch-fidelity's command: {time_fidelity(sets, weights, busy=asked.busy):.1f} s")


def publish_inception(root: Path) -> Path:
    """A file of random weights, which a registry and a mirror of this program's own name as `inception-fid`."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Fresh(FeatureExtractorInceptionV3):
        """As it is before weights are loaded."""

        def load_state_dict(self, *_: object, **__: object) -> None:
            """Nothing."""

    empty = root / "empty.pth"
    torch.save({}, empty)
    torch.manual_seed(0)
    network = Fresh("fresh", ["2048"], feature_extractor_weights_path=str(empty))
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)
    folder = root / "mirror" / "assets" / "inception-fid"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / WEIGHTS)
    data = (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    row = f'files = [{{ name = "{WEIGHTS}", sha256 = "{digest}", bytes = {len(data)} }}]'
    (root / "registry.toml").write_text(f'[[asset]]\nid = "inception-fid"\n{row}\n')
    os.environ |= {
        "MEDZOO_REGISTRY": str(root / "registry.toml"),
        "MEDZOO_MIRROR": str(root / "mirror"),
        "MEDZOO_CACHE": str(root / "cache"),
    }
    return folder / WEIGHTS


def write_noise(folder: Path, count: int, side: int, seed: int) -> Path:
    """A folder of PNG files, smooth noise of another mean for each seed."""
    random = np.random.default_rng(seed)
    for number in range(count):
        coarse = random.integers(0, 200 + 40 * seed, (1, 8, 8)).astype(np.uint8)
        write_image(folder / f"{number:05d}.png", np.kron(coarse, np.ones((1, side // 8, side // 8), np.uint8)))
    return folder


@torch.inference_mode()
def time_bare(extract: Extractor, count: int, side: int, clock: Callable[[], float]) -> float:
    """Seconds of the extractor on both sets' images, in memory."""
    images = torch.randint(0, 256, (BATCH, 1, side, side), dtype=torch.uint8)
    extract(images)
    start = clock()
    for _ in range(2):
        for begin in range(0, count, BATCH):
            extract(images[: min(BATCH, count - begin)])
    return clock() - start


def time_fidelity(sets: list[Path], weights: Path, *, busy: bool) -> float:
    """Seconds of `fidelity` on the same folders and weights, its start included, its cache off."""
    program = str(Path(sys.executable).with_name("fidelity"))
    command = [
        program,
        "--cpu",
        "--isc",
        "--fid",
        "--kid",
        "--prc",
        "--no-cache",
        "--silent",
        "--batch-size",
        str(BATCH),
    ]
    command += ["--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", str(weights)]
    command += [
        "--kid-subset-size",
        str(min(1000, len(list(sets[0].iterdir())))),
        "--input1",
        str(sets[1]),
        "--input2",
        str(sets[0]),
    ]
    start, before = time.perf_counter(), sum(os.times()[2:4])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sum(os.times()[2:4]) - before if busy else time.perf_counter() - start


if __name__ == "__main__":
    main()
