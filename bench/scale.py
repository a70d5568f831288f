"""How work scales: images a second and cells an hour in 1, 2 and 4 processes, and what one driver takes of 64 nodes.

`processes` samples with a small network, and trains small classifiers, in processes of this machine, as `--jobs` and
the tasks of a Ray cluster do; loading is not counted for images, and is for cells.

`nodes` runs the real driver of `medzoo augment --ray` on a real Ray started here: it plans, hands out batches, fetches
their files through the object store and writes them. Only what a GPU does is simulated: a node sleeps as long as its
batch takes, and answers with the bytes of as many PNGs. Many nodes share a process, a thread each, so that 64 of them
cost no more memory than a few. What the nodes' processes take of this machine's cores, a cluster's nodes would not
take, so the driver's rate on a machine of its own is higher, apart from the network.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import medzoo
from medzoo.data.images import encode_png
from medzoo.data.marks import TRAINED, Mark
from medzoo.data.phantom import write_phantom
from medzoo.distributed import ray_cluster
from medzoo.distributed.workers import Cluster, open_workers
from medzoo.generation.batches import Drawn, RemoteBatchWork
from medzoo.generation.mixture import alone
from medzoo.generation.plan import PlannedImage
from medzoo.generation.run import Job, run
from medzoo.models.folder import save_model
from medzoo.models.loading import build_model, load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ImageSpec

CLASSES = ("benign", "malignant", "normal")
DESIGN = """
classifiers = ["cnn"]
arms = ["real", "duplicate", "classic"]
controls = false
target = 60
folds = 4
epochs = {epochs}
"""


def small_model(folder: Path) -> Any:
    """Save a `ddpm` of 16 pixels with fresh weights and load it."""
    from medzoo import config as settings

    plugins = load_plugins()
    spec = plugins.generator("ddpm")
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny")
    image = ImageSpec(size=16, channels=1, classes=CLASSES)
    model = build_model(spec, config, image, device="cpu")
    save_model(folder, model, spec=spec, config=config, data={"name": "bench", "images": []})
    return load_model(folder, plugins=plugins, device="cpu")


def images_per_second(model: Any, jobs: int, *, images: int, batch: int) -> float:
    """Sample in processes that have sampled before."""
    counts = dict.fromkeys(CLASSES, max(1, images // len(CLASSES)))
    sampler = alone(model).sampler(counts, real=None, batch_size=batch, seed=0)
    work = RemoteBatchWork.of(sampler, device="cpu", folder=None)

    def repeat(batches: Iterable[list[PlannedImage]]) -> tuple[int, float]:
        todo, made, started = iter(batches), list[int](), time.perf_counter()
        workers.run(lambda: next(todo, None), lambda done, _: made.append(len(done)))
        return sum(made), time.perf_counter() - started

    every = [*sampler.plan.batches()]
    with open_workers(work, jobs=jobs) as workers:
        repeat(every[:1] * 2 * jobs)
        count, seconds = repeat(every)
    return count / seconds


def cells_per_hour(folder: Path, jobs: int, *, epochs: int) -> float:
    """Run an experiment of 12 cells from nothing."""
    design = folder / "scale.toml"
    design.write_text(DESIGN.format(epochs=epochs))
    plan = medzoo.plan_experiment(design, data=folder / "scans", out=folder / f"cells-{jobs}", device="cpu")
    started = time.perf_counter()
    result = medzoo.run_experiment(plan, jobs=jobs)
    assert not result.failed
    return 3600 * len(result.cells) / (time.perf_counter() - started)


class SimulatedNodes(ray_cluster.RayWorkers[Any, Any]):
    """Nodes that sleep in place of a GPU; each is a thread of one of a few processes."""

    nodes, rate, size, processes = 64, 50.0, 64, 2

    def _look(self) -> None:
        if self._slots:
            return
        rate, files = self.rate, [_png(self.size, seed) for seed in range(64)]

        class Sleeper:
            def call(self, batch: list[PlannedImage], needs: Any) -> Any:
                seconds = len(batch) / rate
                time.sleep(seconds)
                return ("done", Drawn([files[image.index % len(files)] for image in batch], seconds), [])

            def clean(self) -> None:
                """Nothing is to be removed."""

        threads = self.nodes // self.processes
        actor = self._ray.remote(Sleeper).options(num_cpus=0, max_concurrency=threads)
        for number in range(self.processes):
            shared = actor.remote()
            self._ray.get(shared.clean.remote())
            for _ in range(threads):
                slot = ray_cluster._Slot(str(number), f"simulated-{number}", shared)
                self._slots.add(slot)
                self._idle.append(slot)
        # The second item of each node after the first of all.
        self._idle.extend([*self._idle] * self._work.ahead)


def _png(size: int, seed: int) -> bytes:
    """Return a marked PNG of speckle, which compresses as badly as ultrasound does."""
    pixels = np.random.default_rng(seed).normal(90, 30, (1, size, size)).clip(0, 255).astype(np.uint8)
    return encode_png(pixels, Mark(source_type=TRAINED, generator="bench", seed=seed))


def driver_rate(folder: Path, model: Any, *, seconds: float, batch: int) -> dict[str, float]:
    """Let one driver take images from simulated nodes."""
    nodes = SimulatedNodes
    ideal = nodes.nodes * nodes.rate
    total = int(ideal * seconds)
    sampler = alone(model).sampler({CLASSES[0]: total}, real=None, batch_size=batch, seed=0)
    plugins = load_plugins()
    job = Job(
        folder=folder / "nodes",
        sampler=sampler,
        labels=CLASSES,
        identity={"job": "bench"},
        plugins=plugins,
        device="cpu",
        cluster=Cluster(address="local"),
    )
    times: list[tuple[float, int]] = []

    def progress(done: int, total: int, note: str = "", /) -> None:
        times.append((time.perf_counter(), done))

    started, used = time.perf_counter(), time.process_time()
    ray_cluster.RayWorkers = SimulatedNodes  # type: ignore[misc]
    result = run(job, progress=progress)
    whole, used = time.perf_counter() - started, time.process_time() - used
    assert not result.missing
    # From when the first batches are there to when the last nodes run out of work: a start and an end are no rate.
    first = next(entry for entry in times if entry[1])
    last = next(entry for entry in times if entry[1] >= total - nodes.nodes * batch)
    rate = (last[1] - first[1]) / (last[0] - first[0])
    return {"ideal": ideal, "rate": rate, "share": rate / ideal, "seconds": whole, "processor_seconds": used}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("processes", "nodes"))
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--rate", type=float, default=50.0, help="images a second of a node")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the nodes have work")
    parser.add_argument("--size", type=int, default=64, help="side of an image in pixels")
    parser.add_argument("--processes", type=int, default=2, help="processes of the simulated nodes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = small_model(folder / "model")
        if given.what == "nodes":
            nodes = SimulatedNodes
            nodes.nodes, nodes.rate, nodes.size, nodes.processes = (
                given.nodes,
                given.rate,
                given.size,
                given.processes,
            )
            found = driver_rate(folder, model, seconds=given.seconds, batch=given.batch)
            print(json.dumps({key: round(value, 3) for key, value in found.items()}))
            print(f"{found['share']:.1%} of {found['ideal']:.0f} images a second (wanted: at least 95%)")
            raise SystemExit(found["share"] < 0.95)
        write_phantom(
            folder / "scans", counts=dict.fromkeys(("normal", "thick-wall", "narrow-canal"), 40), size=32, seed=1
        )
        print("| processes | images a second | cells an hour |\n|---|---|---|")
        for jobs in given.jobs:
            rate = images_per_second(model, jobs, images=given.images, batch=given.batch)
            print(f"| {jobs} | {rate:.1f} | {cells_per_hour(folder, jobs, epochs=given.epochs):.0f} |", flush=True)


if __name__ == "__main__":
    main()
