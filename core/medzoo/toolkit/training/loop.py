"""The one training loop: accelerate, averaged weights, mixed precision, class balance, exact resume.

Every random draw of optimiser step s comes from (seed, s, micro-batch, process), never from a running generator. A run
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
from medzoo.toolkit.training.state import Adversary, Loss, OpposedLoss, Run, below, steps_of

__all__ = ["Adversary", "Loss", "OpposedLoss", "no_images", "steps_of", "train"]


def no_images(seeds: Sequence[int], labels: Tensor) -> Tensor:
    """The previews of a network that makes no images: none."""
    return torch.empty(0)


def train(
    network: nn.Module,
    loss: Loss | OpposedLoss,
    data: LabeledImages,
    settings: TrainingSettings,
    *,
    seed: int,
    callback: TrainingCallback = TrainingCallback(),
    checkpoints: CheckpointStore = CheckpointStore(),
    sample: Callable[[Sequence[int], Tensor], Tensor] = no_images,
    weights_changed: Callable[[], None] = lambda: None,
    monitor: Callable[[int], None] = lambda step: None,
    adversary: Adversary | None = None,
    recipe: Recipe | None = None,
    selection: Selection | None = None,
) -> None:
    """Train `network` in place, up to `callback.max_steps`; afterwards it holds the averaged (EMA) weights.

    It is left in training mode, where dropout drops and batch norm looks at the whole batch: call `network.eval()`
    before drawing. Averaged are parameters, not buffers: batch norm's statistics are those of the last step.

    Args:
        network: a module on the device to train on. Only its `forward` is called, by `loss`.
        loss: what it minimises, a `Loss`; with an `adversary` an `OpposedLoss`.
        data: uint8 images (C, H, W), which are varied as `settings` say, or float32 values of any shape, which are
            taken as they are.
        settings: how long, how fast, how it is kept.
        seed: of the order of images and of every random draw.
        callback: called after each step, with previews every `preview_every` epochs.
        checkpoints: where training resumes from, and saves its state every `checkpoint_every` steps.
        sample: `sample(seeds, labels)` draws preview images (N, C, H, W) in [0, 1] from the network.
        weights_changed: called whenever the network's weights were exchanged, as averaged ones are for a preview.
        monitor: called with the step before each preview, the averaged weights in place.
        adversary: a second network, trained against the first.
        recipe: takes the place of AdamW and the schedule of `settings`.
        selection: takes the place of previews: it judges the network, its averaged weights in place, every
            `preview_every` epochs, and may end training.

    Raises:
        ResourceError: the loss is no longer a number, or there is no compiler for `settings.compile`.
        ConfigError: the batch does not divide into processes and micro-batches.
    """
    run = Run(network, settings, length=len(data), seed=seed, adversary=adversary, recipe=recipe)
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
            values = run.optimise(loss, batches)
            last = run.step == end
            due = run.step % (settings.validation_epochs * run.steps_per_epoch) == 0
            if selection is not None and (due or run.step == run.total):
                with run.averaged(weights_changed):
                    values |= selection.judge(run.step)
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
