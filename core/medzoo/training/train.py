"""Train a generator on a data set into a folder; run again, go on where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medzoo import config as settings
from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError
from medzoo.models.devices import pick_device
from medzoo.models.folder import save_model
from medzoo.models.labels import check_labels
from medzoo.models.loading import LoadedModel, build_model, copy_matching_weights
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Generator
from medzoo.runs.identity import claim
from medzoo.runs.record import RunRecord, read_run
from medzoo.specs import GeneratorSpec
from medzoo.storage.paths import latents_root
from medzoo.training.run import TrainResult, finish, image_of, plan_of, refuse_unfit, trained_on
from medzoo.training.run_folder import Display, RunFolder, ScalarLog


def train(
    spec: GeneratorSpec,
    config: settings.Resolved[Any],
    data: Dataset,
    out: Path,
    *,
    plugins: Plugins,
    display: Display,
    seed: int = 0,
    device: str = "auto",
    keep: int = 2,
    tensorboard: bool = False,
    start: LoadedModel[Generator] | None = None,
) -> TrainResult:
    """Train `spec` on the training part of `data` and leave model, curve, grids and run.json in `out`.

    `start` gives the weights to start from, where they fit; its training images then count as this model's too.
    A run that was killed goes on from its newest checkpoint and ends with the weights of an uninterrupted one.
    Under `accelerate launch`, every process calls this; the first alone writes.

    Raises:
        DataError: `out` holds another run, or images cannot be read.
        ConfigError: the generator has nothing to learn, or nothing of `start` fits it.
    """
    _refuse_unsuitable(spec, data)
    from accelerate import PartialState

    chosen = pick_device(device)
    state = PartialState(cpu=chosen == "cpu")
    if state.num_processes > 1 and chosen != "cpu":
        chosen = str(state.device)
    record = RunRecord(job="train", folder=out)
    plan = plan_of("train", spec, config, data, seed=seed, start=start)
    if state.is_main_process:
        claim(out, plan)
    state.wait_for_everyone()
    finished = read_run(out)
    if finished is not None:
        return TrainResult(folder=out, record=finished, already_done=True, leads=state.is_main_process)
    flat = config.flat()
    image = image_of(flat, data)
    generator = build_model(spec, config, image, device=chosen, seed=seed)
    if start is not None:
        record.extra = {"started_from": {**plan["start"], "tensors": copy_matching_weights(generator, start)}}
    with _scalars(out, wanted=tensorboard and state.is_main_process) as scalars:
        run = RunFolder(out, image=image, seed=seed, keep=keep, display=display, cache=latents_root(), scalars=scalars)
        generator.fit(
            data.view(image, crop=str(flat.get("image.crop", "none"))), seed=seed, callback=run, checkpoints=run
        )
    if state.is_main_process:
        save_model(
            out,
            generator,
            spec=spec,
            config=config,
            data=trained_on(data, start),
            facts={"medzoo": __version__, "notes": run.notes},
        )
        finish(
            record,
            kind="generator",
            config=config,
            plan=plan,
            data=plan["data"],
            plugins=plugins,
            device=chosen,
            run=run,
        )
    state.wait_for_everyone()
    written = read_run(out)
    assert written is not None  # the first process wrote it before the others passed the barrier
    return TrainResult(folder=out, record=written, already_done=False, leads=state.is_main_process)


def _refuse_unsuitable(spec: GeneratorSpec, data: Dataset) -> None:
    if not spec.trainable:
        raise ConfigError(f"'{spec.name}' has nothing to learn", "use it as it is: medzoo augment --gen " + spec.name)
    refuse_unfit(spec, data)
    # Each class becomes a folder of pictures one day; better said now than after the training.
    check_labels(data.classes)


@contextlib.contextmanager
def _scalars(out: Path, *, wanted: bool) -> Iterator[ScalarLog | None]:
    if not wanted:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed", "pip install 'medzoo[tensorboard]'") from error
    with SummaryWriter(str(out / "tensorboard")) as writer:
        yield writer
