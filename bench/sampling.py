"""How fast images are drawn: beside the bare network at equal steps, batch and precision, and beside plain diffusers.

The rates alternate between the contestants and their median counts, so that other load on the machine hits all alike.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from medzoo import config as settings
from medzoo.models.devices import pick_device
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import resolve_precision

CLASSES = ("normal", "benign", "malignant")


def sampler(generator: torch.nn.Module, *, batch: int) -> Callable[[], object]:
    """Draw one batch as every verb does."""
    labels = torch.arange(batch) % len(CLASSES)
    return lambda: generator.sample(range(batch), labels).cpu()


@torch.inference_mode()
def bare(
    generator: torch.nn.Module,
    *,
    batch: int,
    steps: int,
    guided: bool,
    memory_format: torch.memory_format = torch.channels_last,
) -> Callable[[], object]:
    """The network's forward passes that such a batch needs, and nothing else."""
    generator.sample([0], torch.tensor([0]))
    network = copy.deepcopy(generator._fast[0]).to(memory_format=memory_format)
    weights = next(network.parameters())
    image = generator.image
    rows = 2 * batch if guided else batch
    noisy = torch.randn(rows, image.channels, image.size, image.size, device=weights.device, dtype=weights.dtype)
    noisy = noisy.contiguous(memory_format=memory_format)
    labels = torch.zeros(rows, dtype=torch.long, device=weights.device)
    times = torch.full((rows,), 500, device=weights.device)

    @torch.inference_mode()
    def forward() -> object:
        for _ in range(steps):
            output = network(noisy, times, labels)
        return output.cpu()

    return forward


def plain(*, size: int, batch: int, steps: int, device: str) -> Callable[[], object]:
    """diffusers' DDPMPipeline in fp32 with a network of the same widths, as its documentation has it."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
    )
    pipeline = DDPMPipeline(unet=network, scheduler=DDPMScheduler()).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(batch_size=batch, num_inference_steps=steps, output_type="np", return_dict=False)


def rates(
    contestants: Mapping[str, Callable[[], object]], *, batch: int, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median images a second of each by `clock`, after one call that warms it up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, call in contestants.items():
            start = clock()
            call()
            if turn:
                seconds[name].append(clock() - start)
    return {name: batch / statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--processor-time", action="store_true", help="seconds of work, not of the clock: for a busy CPU, one thread"
    )
    asked = parser.parse_args()
    clock = time.process_time if asked.processor_time else time.perf_counter
    device = pick_device(asked.device)
    image = ImageSpec(size=asked.size, channels=1, classes=CLASSES)
    contestants: dict[str, Callable[[], object]] = {}
    for name in ("ddpm", "ddpm-var"):
        spec = load_plugins().generator(name)
        for guidance in (1.0, 1.5):
            overrides = {
                "sampling.num_inference_steps": asked.steps,
                "sampling.guidance_scale": guidance,
                "image.size": asked.size,
            }
            resolved = settings.resolve(spec.config, presets=spec.presets, overrides=overrides)
            generator = build_model(spec, resolved, image, device=device)
            key = f"{name}, guidance {guidance}"
            contestants[key] = sampler(generator, batch=asked.batch)
            contestants[f"{key}: bare network"] = bare(
                generator, batch=asked.batch, steps=asked.steps, guided=guidance != 1.0
            )
    contestants["diffusers DDPMPipeline, fp32"] = plain(
        size=asked.size, batch=asked.batch, steps=asked.steps, device=device
    )
    found = rates(contestants, batch=asked.batch, repeats=asked.repeats, clock=clock)
    precision = resolve_precision("auto", torch.device(device))
    print(f"{asked.size} px, {asked.steps} steps, batch {asked.batch}, {precision} on {device}, ", end="")
    print(f"{torch.get_num_threads()} threads, {asked.repeats} repeats", "by processor time" * asked.processor_time)
    print(f"{'sampler':<40} {'images/s':>9} {'of bare network':>16}")
    for name, rate in found.items():
        share = f"{rate / found[f'{name}: bare network']:.1%}" if f"{name}: bare network" in found else ""
        print(f"{name:<40} {rate:>9.2f} {share:>16}")


if __name__ == "__main__":
    main()
