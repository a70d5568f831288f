"""The training loop: accelerate, averaged weights, mixed precision, class balance, exact resume.

Every random draw of optimizer step s comes from (seed, s, micro-batch, process), never from a running generator. A run
that starts again from a checkpoint therefore sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from medzoo.protocols import CheckpointStore, LabeledImages, TrainingCallback
from medzoo.toolkit.settings import TrainingSettings
from medzoo.toolkit.training.batches import loader
from medzoo.toolkit.training.optimizers import Recipe
from medzoo.toolkit.training.selection import Selection
from medzoo.toolkit.training.state import AdversarialLoss, Discriminator, Loss, Run, below, steps_of

__all__ = ["AdversarialLoss", "Discriminator", "Loss", "no_images", "steps_of", "train"]


def no_images(seeds: Sequence[int], labels: Tensor) -> Tensor:
    """Return no images: the previews of a network that makes none."""
    return torch.empty(0)


def train(
    network: nn.Module,
    loss: Loss | AdversarialLoss,
    data: LabeledImages,
    settings: TrainingSettings,
    *,
    seed: int,
    callback: TrainingCallback = TrainingCallback(),
    checkpoints: CheckpointStore = CheckpointStore(),
    sample: Callable[[Sequence[int], Tensor], Tensor] = no_images,
    weights_changed: Callable[[], None] = lambda: None,
    monitor: Callable[[int], None] = lambda step: None,
    discriminator: Discriminator | None = None,
    recipe: Recipe | None = None,
    selection: Selection | None = None,
) -> None:
    """Train `network` in place, up to `callback.max_steps`; afterwards it holds the averaged (EMA) weights.

    It stays in training mode: call `network.eval()` before sampling. Parameters are averaged, buffers are not:
    batch-norm statistics are those of the last step.

    Args:
        network: a module on the device to train on. Only its `forward` is called, by `loss`.
        loss: a `Loss`; with a `discriminator` an `AdversarialLoss`.
        data: uint8 images (C, H, W), which are varied as `settings` say, or float32 values of any shape, which are
            taken as they are.
        settings: length, optimizer, augmentation and checkpoints.
        seed: seeds the order of images and every random draw.
        callback: called after each step, with previews every `validation_epochs` epochs.
        checkpoints: where training resumes from, and saves its state every `checkpointing_steps` steps.
        sample: `sample(seeds, labels)` generates preview images (N, C, H, W) in [0, 1] from the network.
        weights_changed: called whenever the network's weights were exchanged, as averaged ones are for a preview.
        monitor: called with the step before each preview, the averaged weights in place.
        discriminator: a second network, trained against the first.
        recipe: replaces AdamW and the schedule of `settings`.
        selection: replaces previews: it evaluates the network, its averaged weights in place, every
            `validation_epochs` epochs, and may end training.

    Raises:
        ResourceError: the loss is not finite, or there is no compiler for `settings.compile`.
        ConfigError: the batch size is not divisible into processes and micro-batches.
    """
    run = Run(network, settings, length=len(data), seed=seed, discriminator=discriminator, recipe=recipe)
    restored = checkpoints.load_checkpoint()
    if restored is not None:
        run.load(restored)
        if selection is not None:
            selection.load(below(restored, "selection."))
    asked = callback.max_steps
    end = run.total if asked is None else min(asked, run.total)
    batches = iter(
        loader(
            data,
            settings,
            steps=range(run.step, end),
            steps_per_epoch=run.steps_per_epoch,
            rank=run.rank,
            world=run.world,
            seed=seed,
        )
    )
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False), warnings.catch_warnings():
        # diffusers asks a cached function for torch's version, which compiles to the right constant
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        while run.step < end and not (selection is not None and selection.stopped):
            values = run.optimize(loss, batches)
            last = run.step == end
            due = run.step % (settings.validation_epochs * run.steps_per_epoch) == 0
            if selection is not None and (due or run.step == run.total):
                with run.averaged(weights_changed):
                    values |= selection.evaluate(run.step)
                last = last or selection.stopped
            if run.accelerator.is_main_process:
                callback.on_step_end(run.step, run.total, values)
                if selection is None and (due or last):
                    with run.averaged(weights_changed):
                        monitor(run.step)
                        callback.on_preview(run.step, sample)
                if run.step % settings.checkpointing_steps == 0 or last:
                    kept = {} if selection is None else {f"selection.{k}": v for k, v in selection.state().items()}
                    checkpoints.save_checkpoint(run.step, run.state() | kept)
    run.accelerator.wait_for_everyone()
    if run.average is not None:
        run.average.copy_to(network.parameters())
    weights_changed()
    if run.accelerator.device.type == "cuda":  # elsewhere there is no cache to empty, and collecting garbage takes long
        run.accelerator.free_memory()
