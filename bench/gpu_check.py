"""Check and time medzoo on one GPU, within some minutes and without a network: `make gpu-check`.

It runs from a checkout. Python packages that are missing are installed from a folder of wheels (`--wheels`). Each part
runs in a process of its own, bounded in time, and every case is written to results.jsonl as it ends, so that a run that
is cut off leaves what it measured; `--table` makes results.md of such a file. `--device cpu --quick` proves the script
where there is no GPU: its numbers say nothing.

    make gpu-check                                   # on the first GPU
    WHEELS=wheels make gpu-check                     # installs what is missing from there
    python bench/gpu_check.py --parts noise,batches  # some parts only
    python bench/gpu_check.py --device cpu --quick   # a proof of the script
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE = "results.jsonl", "results.md"
CLASSES = ("first", "second", "third")
BUNDLED = "ddpm-var-udder"
DRAWS = 10
"""How many times noise is drawn ahead for one timing."""
GRACE = 5.0
"""Seconds that a part may take beyond its limit to end by itself."""


@dataclass
class Context:
    """What a part needs: the device, whether tiny counts will do, until when to run, and where results go."""

    device: str
    quick: bool
    seconds: float
    folder: Path
    part: str = ""
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """The seconds that the part has left."""
        return self.seconds - (time.perf_counter() - self.started)

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU of NVIDIA's or AMD's."""
        return self.device.startswith("cuda")

    def write(self, case: str, seconds: float, values: Mapping[str, Any], error: str = "") -> None:
        """Add one line to the results."""
        row = {"part": self.part, "case": case, "seconds": round(seconds, 2), "values": dict(values), "error": error}
        with (self.folder / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        print(f"[{self.part}] {case}: {error or shown} ({seconds:.1f} s)", flush=True)

    @contextlib.contextmanager
    def case(self, name: str, *, needs: float = 0.0) -> Iterator[dict[str, Any]]:
        """Record a case when it ends: its time, the values put into the dictionary, or its error.

        A case for which fewer seconds are left than it `needs` is recorded as left out; its body must then do nothing,
        which it sees by the key "skip".
        """
        import torch

        values: dict[str, Any] = {}
        if self.left < needs:
            self.write(name, 0.0, {}, f"left out: it takes about {needs:.0f} s, {max(self.left, 0):.0f} s were left")
            yield {"skip": True}
            return
        started, error = time.perf_counter(), ""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            yield values
        except Exception as raised:  # noqa: BLE001 - a case that fails is a result
            traceback.print_exc()
            error = " ".join(f"{type(raised).__name__}: {raised}".split())[:400]
        if self.cuda and "peak GB" not in values:
            values["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        self.write(name, time.perf_counter() - started, values, error)

    def milliseconds(self, call: Callable[[], object], *, budget: float) -> float:
        """Return the median time of `call`, which must end with the device idle; a first call is not counted."""
        call()
        self.synchronize()
        times: list[float] = []
        ends = time.perf_counter() + min(budget, max(self.left, 0.0))
        while not times or (time.perf_counter() < ends and len(times) < 20):
            started = time.perf_counter()
            call()
            self.synchronize()
            times.append(time.perf_counter() - started)
        return 1e3 * statistics.median(times)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            import torch

            torch.cuda.synchronize()


def measure_machine(context: Context) -> None:
    """Record the hardware and the versions."""
    import torch

    from medzoo import __version__
    from medzoo.models.devices import hardware, pick_device

    with context.case("machine") as values:
        pick_device(context.device)
        values["device"] = hardware(context.device)
        if context.cuda:
            properties = torch.cuda.get_device_properties(context.device)
            values["memory GB"] = round(properties.total_memory / 1e9, 1)
            values["capability"] = f"{properties.major}.{properties.minor}"
            values["driver"] = _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
        values |= {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        values |= {name: importlib.metadata.version(name) for name in ("diffusers", "accelerate", "timm")}
        values |= {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
        values |= {"medzoo": __version__, "commit": _output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])}


def measure_conformance(context: Context) -> None:
    """Run the conformance kit of every first-party generator and classifier, each in a fresh process, some at once."""
    from medzoo.plugins.lookup import load_plugins

    plugins = load_plugins()
    kinds = {"generator": plugins.generators, "classifier": plugins.classifiers}
    cases = [(kind, name) for kind, specs in kinds.items() for name in specs]
    if context.quick:
        cases = [("generator", "classic"), ("generator", "dcgan"), ("classifier", "cnn")]
    workers = max(1, min(8, len(os.sched_getaffinity(0)) // 2))
    # A fresh process for each, for an error of CUDA leaves none usable.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1)
    running = {pool.submit(_conformance, *case, context.device): case for case in cases}
    for future in as_completed(running):
        kind, name = running[future]
        try:
            seconds, values, error = future.result()
        except Exception as raised:  # noqa: BLE001 - a process that dies is a result
            seconds, values, error = 0.0, {}, f"{type(raised).__name__}: {raised}"
        context.write(f"{kind} {name}", seconds, values, error)
    pool.shutdown()


def _conformance(kind: str, name: str, device: str) -> tuple[float, dict[str, Any], str]:
    """Return the seconds, the counts and the failures of one plugin's checks."""
    from medzoo.plugins.lookup import load_plugins
    from medzoo.testing import check_classifier, check_generator

    started, more = time.perf_counter(), {}
    if name == "api-variation":  # its `tiny` preset cannot know where a pipeline is
        helper = ROOT / "tests" / "helpers" / "tiny_pipeline.py"
        try:
            make = runpy.run_path(str(helper))["make_variation_pipeline"]
            more = {"diffusers.model": str(make(Path(os.environ["MEDZOO_CACHE"]) / "variation"))}
        except ImportError as missing:
            return 0.0, {}, f"left out: {missing}"
    plugins = load_plugins()
    if kind == "generator":
        results = check_generator(plugins.generators[name], device=device, overrides=more)
    else:
        results = check_classifier(plugins.classifiers[name], device=device, overrides=more)
    failed = [f"{result.name}: {result.detail}" for result in results if not result.passed]
    values = {"checks": len(results), "failed": len(failed)}
    return time.perf_counter() - started, values, "; ".join(failed)[:1500]


@dataclass(frozen=True)
class Training:
    """A training to time: `steps` of a plugin's preset on `images` made-up images, the last of them resumed."""

    name: str
    preset: str
    precision: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    part: str = "training"
    before: int = 0
    """Steps of the stage before the one that is timed."""
    steps: int = 50
    resumed: int = 10
    images: int = 256
    needs: float = 5.0


def trainings(quick: bool, cuda: bool) -> list[Training]:
    """Return the trainings: each generator's `default`, two classifiers' and one `paper` preset."""
    if quick:
        small = {"steps": 6, "resumed": 3, "images": 24, "needs": 0.0}
        return [
            Training("ddpm-var", "tiny", "fp32", **small),
            Training("ldm", "tiny", "bf16", {"first_stage.epochs": 1}, before=3, **small),
            Training("cnn", "tiny", "bf16", **small),
        ]

    def defaults(precision: str) -> list[Training]:
        first = {"first_stage.epochs": 100}  # to train the autoencoder alone; with 1, to have it done soon
        return [
            *(Training(name, "default", precision) for name in ("ddpm", "ddpm-var", "dcgan", "cnn", "resnet18")),
            *(Training(name, "default", precision, first, part="first_stage") for name in ("ldm", "latent-ddpm")),
            Training("ldm", "default", precision, {"first_stage.epochs": 1}, before=16),
            Training("latent-ddpm", "default", precision, {"first_stage.epochs": 1}, before=32),
        ]

    def paper(precision: str) -> Training:
        # Without the perceptual term, which needs a file; at 256 pixels, attention and memory are other than at 64.
        few = {"steps": 20, "resumed": 6, "needs": 25.0}
        return Training("ddpm-var", "paper", precision, {"loss.perceptual_weight": 0.0}, **few)

    found = [*defaults("bf16"), paper("bf16"), *defaults("fp16"), paper("fp16")]
    return found if cuda else [one for one in found if one.precision != "fp16"]


def measure_training(context: Context) -> None:
    """Train: images a second, peak memory, and whether a resumed run ends with the same weights."""
    for one in trainings(context.quick, context.cuda):
        stage = " autoencoder" if one.part == "first_stage" else ""
        with context.case(f"{one.name} {one.preset}{stage} {one.precision}", needs=one.needs) as values:
            if values.get("skip"):
                continue
            train_and_resume(context, one, values)


def train_and_resume(context: Context, one: Training, values: dict[str, Any]) -> None:
    """Do one training, and its last steps again from a checkpoint, and put what is measured into `values`."""
    import torch

    total = one.before + one.steps
    model, run, rate = _train(context, one, stop=total)
    values["images/s"], values["ms/step"] = round(rate[0], 1), round(rate[1], 1)
    values["to first step s"] = round(run.times[0] - run.started, 1)
    values["loss"] = round(run.loss, 4)
    if context.cuda:
        values["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    del model
    again, _, _ = _train(context, one, stop=total, restored=run.checkpoint)
    apart = [
        (value.detach().cpu().double() - weights[name].double()).abs().max().item()
        for name, value in again.state_dict().items()
    ]
    values["resume"] = "exact" if max(apart) == 0.0 else f"off by {max(apart):.2g}"


def _train(
    context: Context, one: Training, *, stop: int, restored: Mapping[str, Any] | None = None
) -> tuple[Any, Any, tuple[float, float]]:
    """Return the model, what its callback saw, and (images/s, ms/step) of the steps after the first fifth."""
    from medzoo import config as settings
    from medzoo.models.loading import build_model
    from medzoo.plugins.lookup import load_plugins
    from medzoo.protocols import CheckpointStore, TrainingCallback
    from medzoo.specs import ImageSpec

    plugins = load_plugins()
    kind = "generator" if one.name in plugins.generators else "classifier"
    spec: Any = getattr(plugins, f"{kind}s")[one.name]
    every = {
        "training.epochs": 1000,
        "training.validation_epochs": 10_000,
        "training.checkpointing_steps": one.steps - one.resumed,
        "training.mixed_precision": one.precision,
        **one.overrides,
    }
    known = set(settings.keys(spec.config))
    for name, value in list(every.items()):  # the stage before, where there is one, alike
        other = name.replace("training.", "first_stage.")
        if other in known and other not in every:
            every[other] = value
    resolved: Any = settings.resolve(
        spec.config, presets=spec.presets, preset=one.preset, overrides={k: v for k, v in every.items() if k in known}
    )
    image = ImageSpec(size=resolved.image.size, channels=resolved.image.channels, classes=CLASSES)
    batch_size = getattr(resolved.value, one.part).batch_size

    class Run(TrainingCallback, CheckpointStore):
        """Keeps the time of each step and the checkpoint to resume from."""

        def __init__(self) -> None:
            self.max_steps = stop
            self.times: list[float] = []
            self.checkpoint: dict[str, Any] = {}
            self.loss = float("nan")

        def load_checkpoint(self) -> Any:
            return restored

        def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
            if step == stop - one.resumed:
                self.checkpoint = {name: value.detach().cpu().clone() for name, value in state.items()}

        def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
            self.loss = metrics["loss"]
            if step > one.before:
                self.times.append(time.perf_counter())

    run, data = Run(), MadeUp(image, one.images)
    model: Any = build_model(spec, resolved, image, device=context.device, seed=0)
    run.started = time.perf_counter()
    held_out = {"validation": MadeUp(image, 32)} if kind == "classifier" else {}
    model.fit(data, **held_out, seed=0, callback=run, checkpoints=run)
    # Those between the first steps, which set things up, and the one that saves the checkpoint.
    part = run.times[len(run.times) // 5 : -one.resumed] if restored is None else run.times
    seconds = (part[-1] - part[0]) / max(1, len(part) - 1) if len(part) > 1 else float("nan")
    return model, run, (batch_size / seconds, 1e3 * seconds)


class MadeUp:
    """Noise in three classes, brighter from class to class: uint8 (C, H, W)."""

    def __init__(self, image: Any, count: int) -> None:
        import numpy as np

        self.classes = image.classes
        self.labels = np.arange(count) % len(image.classes)
        shape = (count, image.channels, image.size, image.size)
        grain = np.random.default_rng(0).integers(0, 96, shape, dtype=np.uint8)
        self._pixels = grain + (64 * self.labels).astype(np.uint8)[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self._pixels[index].copy()


def measure_sampling(context: Context) -> None:
    """Sample at several batch sizes: images a second, and the share of the bare network's rate, in both layouts."""
    import torch
    from sampling import bare, sampler

    sizes = (2, 4) if context.quick else (1, 8, 32, 128, 512)
    for name, model, steps, guided in _samplers(context):
        for batch in sizes:
            if model.image.size > 64 and batch > 64:
                continue
            with context.case(f"{name}, batch {batch}", needs=3.0 if not context.quick else 0.0) as values:
                if values.get("skip"):
                    continue
                own = context.milliseconds(sampler(model, batch=batch), budget=1.0)
                values["images/s"] = round(1e3 * batch / own, 1)
                for layout in (torch.channels_last, torch.contiguous_format):
                    call = bare(model, batch=batch, steps=steps, guided=guided, memory_format=layout)
                    alone = context.milliseconds(call, budget=0.7)
                    short = str(layout).removeprefix("torch.").removesuffix("_format")
                    values[f"bare {short}"] = round(1e3 * batch / alone, 1)
                    if layout is torch.channels_last:
                        values["share"] = f"{alone / own:.0%}"


def _samplers(context: Context) -> Iterator[tuple[str, Any, int, bool]]:
    """Yield what to sample with: name, model, steps and whether it is guided."""
    # Guided at every step, so that the bare network is known to do the same work.
    yield BUNDLED, *_bundled(context, **{"sampling.guidance_interval": ()})
    size = 16 if context.quick else 256
    model, steps = _fresh(context, "ddpm-var", size=size, steps=10)
    yield f"ddpm-var at {size} x {size} x 3, {steps} steps", model, steps, False


def _bundled(context: Context, **overrides: Any) -> tuple[Any, int, bool]:
    """Load the bundled model; return it, its steps and whether it is guided."""
    from medzoo.hub.registry import load_registry
    from medzoo.models.loading import load_by_name
    from medzoo.plugins.lookup import load_plugins

    plugins = load_plugins()
    if context.quick:
        overrides = {"sampling.num_inference_steps": 2, **overrides}
    loaded = load_by_name(
        BUNDLED, registry=load_registry(plugins=plugins), plugins=plugins, device=context.device, overrides=overrides
    )
    sampling = loaded.config.value.sampling
    return loaded.model, sampling.num_inference_steps, sampling.guidance_scale != 1.0


def _fresh(context: Context, name: str, *, size: int, steps: int) -> tuple[Any, int]:
    """Build a generator with fresh weights for color images of this size; return it and its steps."""
    from medzoo import config as settings
    from medzoo.models.loading import build_model
    from medzoo.plugins.lookup import load_plugins
    from medzoo.specs import ImageSpec

    spec = load_plugins().generator(name)
    steps = 2 if context.quick else steps
    overrides = {"image.size": size, "sampling.num_inference_steps": steps, "sampling.guidance_scale": 1.0}
    preset = "tiny" if context.quick else "default"
    resolved: Any = settings.resolve(spec.config, presets=spec.presets, preset=preset, overrides=overrides)
    image = ImageSpec(size=size, channels=3, classes=CLASSES)
    return build_model(spec, resolved, image, device=context.device), steps


def measure_noise(context: Context) -> None:
    """Draw the noise of one step of a batch: on the CPU at once and ahead, as sampling does, and on the device."""
    import torch
    from sampling import bare

    from medzoo.toolkit.diffusion.process import noise_ahead

    device = torch.device(context.device)
    for size, channels, batch in ((16, 1, 4),) if context.quick else ((64, 1, 64), (256, 3, 64)):
        shape = (channels, size, size)
        with context.case(f"{size} x {size} x {channels}, batch {batch}") as values:
            own = [torch.Generator().manual_seed(seed) for seed in range(batch)]
            there = [torch.Generator(device).manual_seed(seed) for seed in range(batch)]

            def at_once(own: Any = own, shape: Any = shape) -> object:
                return torch.stack([torch.randn(shape, generator=source) for source in own]).to(device)

            def ahead(own: Any = own, shape: Any = shape) -> object:
                return list(noise_ahead(own, shape, draws=DRAWS, device=device))

            def on_device(there: Any = there, shape: Any = shape) -> object:
                return torch.stack([torch.randn(shape, generator=source, device=device) for source in there])

            values["at once ms"] = round(context.milliseconds(at_once, budget=2.0), 2)
            values["ahead ms"] = round(context.milliseconds(ahead, budget=2.0) / DRAWS, 2)
            values["device ms"] = round(context.milliseconds(on_device, budget=2.0), 2)
            model, steps = _fresh(context, "ddpm-var", size=size, steps=5)
            call = bare(model, batch=batch, steps=steps, guided=False)
            step = context.milliseconds(call, budget=3.0) / steps
            values["network ms/step"] = round(step, 2)
            values["ahead, of it"] = f"{values['ahead ms'] / step:.0%}"


def measure_batches(context: Context) -> None:
    """Sample the same images in batches of several sizes, and on the CPU: how far apart they are, in gray levels."""
    import torch

    count, few = (4, 2) if context.quick else (64, 8)
    labels = torch.arange(count) % 4

    def drawn(model: Any, batch: int, of: int = count) -> Any:
        parts = [
            model.sample(range(at, min(at + batch, of)), labels[at : min(at + batch, of)]) for at in range(0, of, batch)
        ]
        return (torch.cat(parts).cpu() * 255.0).round()

    for precision in ("auto", "fp32"):
        model, _, _ = _bundled(context, **{"sampling.mixed_precision": precision})
        with context.case(f"{BUNDLED}, {precision}, batch {count}") as values:
            whole = drawn(model, count)
            values["repeated"] = "equal" if torch.equal(whole, drawn(model, count)) else "different"
        for batch in (count // 2, 7, 1):
            with context.case(f"{BUNDLED}, {precision}, batch {batch} against {count}") as values:
                part = few if batch == 1 else count
                values.update(_apart(drawn(model, batch, part), whole[:part]))
        if precision == "fp32" and context.cuda:
            with context.case(f"{BUNDLED}, fp32, CPU against the device", needs=10.0) as values:
                if not values.get("skip"):
                    on_cpu, _, _ = _bundled(
                        Context("cpu", context.quick, 0.0, context.folder), **{"sampling.mixed_precision": "fp32"}
                    )
                    values.update(_apart(drawn(on_cpu, few, few), whole[:few]))


def _apart(one: Any, other: Any) -> dict[str, Any]:
    difference = (one - other).abs()
    return {
        "largest, of 255": int(difference.max().item()),
        "mean": round(difference.mean().item(), 4),
        "pixels equal": f"{(difference == 0).double().mean().item():.2%}",
    }


def measure_augment(context: Context) -> None:
    """Fill a set by the command line, end to end: wall time, start-up and writing included."""
    to = 24 if context.quick else 5000
    for batch in (8,) if context.quick else (256, 32):
        with context.case(
            f"--gen {BUNDLED} --to {to} --batch-size {batch}", needs=0 if context.quick else 20
        ) as values:
            if values.get("skip"):
                continue
            out = context.folder / f"augmented-{batch}"
            shutil.rmtree(out, ignore_errors=True)
            command = [sys.executable, "-m", "medzoo", "augment", "--gen", BUNDLED, "--to", str(to), "--out", str(out)]
            command += ["--device", context.device, "--batch-size", str(batch)]
            if context.quick:
                command += ["--set", "sampling.num_inference_steps=2"]
            started = time.perf_counter()
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=max(5.0, context.left - 1.0), check=False
                )
                error = done.stderr.strip() if done.returncode else ""
            except subprocess.TimeoutExpired:
                error = "cut off"
            seconds = time.perf_counter() - started
            written = len(list(out.rglob("synthetic-*.png")))
            values |= {"images": written, "wall s": round(seconds, 1), "images/s": round(written / seconds, 1)}
            shutil.rmtree(out, ignore_errors=True)
            if error:
                raise RuntimeError(error.splitlines()[-1])


def measure_compile(context: Context) -> None:
    """Compile training and sampling: the time it takes, the rate after it, and the images from which on it pays."""
    import torch
    from sampling import sampler

    batch = 4 if context.quick else 128
    backends: dict[str, dict[str, Any]] = {"default": {}, "reduce-overhead": {"mode": "reduce-overhead"}}
    if context.quick:  # the whole path but the code generation, which takes minutes on a busy CPU
        backends = {"aot_eager": {"backend": "aot_eager"}}
    model, _, _ = _bundled(context)
    plain = context.milliseconds(sampler(model, batch=batch), budget=2.0)
    network = model._fast[0]
    for name, options in backends.items():
        needs = 0.0 if context.quick else 20.0
        with context.case(f"sampling {BUNDLED}, batch {batch}, {name}", needs=needs) as values:
            if values.get("skip"):
                continue
            torch._dynamo.reset()
            model._fast[0] = torch.compile(network, **options)
            started = time.perf_counter()
            sampler(model, batch=batch)()
            first = time.perf_counter() - started
            compiled = context.milliseconds(sampler(model, batch=batch), budget=2.0)
            values |= {"images/s plain": round(1e3 * batch / plain, 1)}
            values |= {"images/s": round(1e3 * batch / compiled, 1), "first batch s": round(first, 1)}
            gained = (plain - compiled) / batch / 1e3
            values["pays from"] = round((first - compiled / 1e3) / gained) if gained > 0 else "never"
        model._fast[0] = network
    if context.quick:
        return
    for compiles in (False, True):
        name = "compiled" if compiles else "plain"
        with context.case(f"training ddpm-var default bf16, {name}", needs=20.0) as values:
            if values.get("skip"):
                continue
            one = Training("ddpm-var", "default", "bf16", {"training.compile": compiles})
            train_and_resume(context, one, values)


Part = Callable[[Context], None]
PARTS: dict[str, tuple[Part, float]] = {
    "machine": (measure_machine, 90.0),  # the first import of everything, from a cold disk
    "conformance": (measure_conformance, 100.0),
    "training": (measure_training, 110.0),
    "sampling": (measure_sampling, 60.0),
    "noise": (measure_noise, 35.0),
    "batches": (measure_batches, 40.0),
    "augment": (measure_augment, 70.0),
    "compile": (measure_compile, 110.0),
}
"""What measures each part, and the most seconds it takes; in order, as what comes last is the first to be cut off."""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return results as Markdown, one table for each part."""
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        if part == "machine":
            for row in own:
                facts = ", ".join(f"{name} {value}" for name, value in row["values"].items())
                lines += [f"{facts}{row['error']}.", ""]
            continue
        columns = list(dict.fromkeys(name for row in own for name in row["values"]))
        failed = ["error"] if any(row["error"] for row in own) else []
        lines += [f"### {part}", "", _line(["case", "seconds", *columns, *failed])]
        lines += [_line(["---"] * (2 + len(columns) + len(failed)))]
        for row in own:
            values = [str(row["values"].get(name, "")) for name in columns]
            lines += [_line([row["case"], str(row["seconds"]), *values, *([row["error"]] if failed else [])])]
        lines += [""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read results, up to a line that was cut off."""
    rows = []
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def install_missing(wheels: Path | None) -> None:
    """Install the packages that medzoo needs and are missing from a folder of wheels, without a network.

    Raises: SystemExit if some are missing and there is no such folder, or they cannot be installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    missing = []
    for requirement in project["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        try:
            importlib.metadata.version(name[0])
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement)
    if not missing:
        return
    if wheels is None:
        raise SystemExit(f"missing: {', '.join(missing)}. Give a folder of wheels: WHEELS=DIR make gpu-check")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    if subprocess.run([*pip, *missing], check=False).returncode:
        raise SystemExit(
            "pip cannot install them here: try a virtual environment that sees torch, python3 -m venv "
            "--system-site-packages env, and make gpu-check PYTHON=env/bin/python WHEELS=DIR"
        )


def state_plugins(folder: Path) -> Path:
    """Return a folder that tells Python of the checkout's plugins, as an installation would."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    version = runpy.run_path(str(ROOT / "core" / "medzoo" / "_version.py"))["__version__"]
    metadata = folder / "site" / f"medzoo-{version}.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medzoo\nVersion: {version}\n", "utf-8")
    points = [f"{name} = {module}" for name, module in project["entry-points"]["medzoo"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[medzoo]", *points, ""]), "utf-8")
    return metadata.parent


def run_parts(names: Sequence[str], *, device: str, quick: bool, minutes: float, folder: Path) -> bool:
    """Run parts one after another, each in its own process, until the time is up; return whether nothing failed."""
    ends = time.perf_counter() + 60.0 * minutes
    paths = [ROOT / "core", ROOT / "plugins", ROOT / "bench", state_plugins(folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]),
        "MEDZOO_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    for name in names:
        # The limits are a GPU's; where tiny counts prove the script, a busy CPU may take its time.
        limit = min(PARTS[name][1] * (6.0 if quick else 1.0), ends - time.perf_counter() - GRACE)
        context = Context(device, quick, limit, folder, part=name)
        if limit < 5.0:
            context.write("-", 0.0, {}, "not run: the time is up")
            continue
        command = [sys.executable, __file__, "--child", name, "--device", device, "--seconds", f"{limit:.1f}"]
        command += ["--out", str(folder), *(["--quick"] if quick else [])]
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            code = process.wait(limit + GRACE)
            if code:
                context.write("-", time.perf_counter() - context.started, {}, f"the process ended with code {code}")
        except subprocess.TimeoutExpired:
            context.write("-", limit, {}, f"cut off after {limit + GRACE:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            write_table(folder)
        if name == "machine" and any(row["error"] for row in read_rows(folder / RESULTS)):
            return False
    return all(not row["error"] or row["error"].startswith("left out") for row in read_rows(folder / RESULTS))


def write_table(folder: Path) -> None:
    """Write the table of the results so far."""
    if (folder / RESULTS).exists():
        (folder / TABLE).write_text(table(read_rows(folder / RESULTS)), "utf-8")


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0]


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu to prove the script")
    parser.add_argument("--quick", action="store_true", help="tiny counts: the numbers say nothing")
    parser.add_argument("--parts", default=",".join(PARTS), help="which ones, with commas")
    parser.add_argument("--minutes", type=float, default=8.0, help="the most it takes in all")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--wheels", type=Path, help="folder to install missing packages from")
    parser.add_argument("--table", type=Path, help="print the table of this results.jsonl, and stop")
    parser.add_argument("--child", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.table:
        print(table(read_rows(asked.table)))
        return 0
    folder = asked.out.resolve()
    if asked.child:
        context = Context(asked.device, asked.quick, asked.seconds, folder, part=asked.child)
        if context.cuda:
            import torch

            if not torch.cuda.is_available():
                context.write("-", 0.0, {}, f"this machine has no device {asked.device}: --device cpu --quick")
                return 0
            torch.cuda.init()
            torch.cuda.set_device(asked.device)  # the one whose memory is reported
        PARTS[asked.child][0](context)
        return 0
    names = asked.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    install_missing(asked.wheels)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).unlink(missing_ok=True)
    fine = run_parts(names, device=asked.device, quick=asked.quick, minutes=asked.minutes, folder=folder)
    print(f"\n{(folder / TABLE).read_text('utf-8')}\n{folder / TABLE}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
