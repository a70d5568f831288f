"""A training run's checkpoints as models: what it would have been, had it ended there."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from medzoo import config as settings
from medzoo.data.dataset import Dataset
from medzoo.errors import DataError, IntegrityError, PluginError
from medzoo.hub.registry import CONFIG, WEIGHTS
from medzoo.models.folder import read_description, training_images
from medzoo.models.loading import LoadedModel, build_model, load_model
from medzoo.protocols import CheckpointStore, Generator, TrainingCallback
from medzoo.runs.identity import PLAN
from medzoo.runs.record import read_run
from medzoo.storage.files import read_json, sha256_file
from medzoo.storage.paths import latents_root
from medzoo.storage.tensors import read_tensors
from medzoo.training.run_folder import LossTable, cached_tensors, checkpoint_files
from medzoo.training.train import image_of
from medzoo.training.unlabeled import reopen_unlabeled, training_view

if TYPE_CHECKING:
    from medzoo.plugins.lookup import Plugins


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state of a run after optimizer step `step`, in the file `path`: a checkpoint's, or the finished model's.

    `epoch` counts passes over the training images, within the stage of training where there are several; NaN where
    the generator's own training loop does not record it.
    """

    path: Path
    step: int
    epoch: float


def checkpoints(run: Path) -> list[Checkpoint]:
    """List the checkpoints in a run's folder, finished or not, oldest first, and the finished model if it is later.

    Raises:
        DataError: `run` is no training run.
        IntegrityError: a checkpoint is damaged.
    """
    plan = _plan(run)
    found = []
    for path in checkpoint_files(run):
        try:  # of the file, only its metadata is read
            with safe_open(path, framework="pt") as file:
                epoch = file.get_tensor("epoch").item() if "epoch" in file.keys() else math.nan  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{path} is damaged: {error}", "delete it") from error
        found.append(Checkpoint(path=path, step=int(path.stem.removeprefix("step-")), epoch=epoch))
    if read_run(run) is not None:
        losses = LossTable(run / "loss.csv")
        losses.rewind(sys.maxsize)
        last = int(losses.rows[-1]["step"]) if losses.rows else 0
        if not found or found[-1].step < last:
            epochs = float(plan["config"].get("training.epochs", math.nan))
            found.append(Checkpoint(path=run / WEIGHTS, step=last, epoch=epochs))
    return found


def load_checkpoint(
    run: Path, checkpoint: Checkpoint, *, plugins: Plugins, device: str, data: Dataset
) -> LoadedModel[Generator]:
    """Load the model `run` would have made, had its training ended with `checkpoint`; no step is trained.

    `data` are the run's training images, for models depend on them in other ways too, as by statistics of latents.

    Raises:
        DataError: `data` are other images, or the checkpoint is from before the part of the model that draws images.
        IntegrityError: a file is damaged.
        PluginError: the generator trains on instead of stopping, or is broken.
    """
    name = f"{run.resolve().name}@{checkpoint.step}"
    if checkpoint.path == run / WEIGHTS:
        return load_model(run, plugins=plugins, device=device, name=name)
    plan = _plan(run)
    if plan["data"]["fingerprint"] != data.fingerprint() or plan["data"]["classes"] != list(data.classes):
        raise DataError(f"{run} was trained on other images than {data.path}", "give the run's --data")
    unlabeled = reopen_unlabeled(run, plan, data)
    state = read_tensors(checkpoint.path)
    if checkpoint.step <= (begins := int(state.get("images_from", 0))):
        raise DataError(
            f"the checkpoint of step {checkpoint.step} holds only the autoencoder, which cannot generate images",
            f"use a checkpoint after step {begins}",
        )
    spec = plugins.generator(plan["plugin"])
    saved = settings.rename_saved(spec.config, plan["config"])
    resolved = settings.Resolved(value=settings.build(spec.config, saved), origins=dict.fromkeys(saved, "run"))
    data = data.with_window(getattr(resolved.image, "window", ""), whose=str(run))
    image, crop = image_of(resolved, data), resolved.image.crop
    generator = build_model(spec, resolved, image, device=device, seed=plan["seed"])
    callback = _StopAtCheckpoint(checkpoint.step, plugin=spec.name)
    images = training_view(data, unlabeled, image, crop=crop)
    generator.fit(images, seed=plan["seed"], callback=callback, checkpoints=_OneCheckpoint(state))
    return LoadedModel(
        name=name,
        model=generator,
        spec=spec,
        image=image,
        config=resolved,
        crop=crop,
        weights_sha256=sha256_file(checkpoint.path),
        trained_on=_trained_on(run, plan, data).union(unlabeled.fingerprints() if unlabeled is not None else ()),
    )


class _StopAtCheckpoint(TrainingCallback):
    """Ends training at the step it resumes from, so that no step is trained."""

    def __init__(self, step: int, *, plugin: str) -> None:
        self.max_steps = step
        self._plugin = plugin

    def on_step_end(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Refuse the step. Raises: PluginError."""
        raise PluginError(
            f"'{self._plugin}' trained step {step} after it was asked to stop at step {self.max_steps}",
            f"run `medzoo plugin check {self._plugin}`",
        )


class _OneCheckpoint(CheckpointStore):
    """One checkpoint to load; nothing is saved. Cached tensors come from the cache that all runs share."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state

    def load_checkpoint(self) -> Mapping[str, Tensor]:
        """Return the checkpoint."""
        return self._state

    def cached(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors cached under `key`."""
        return cached_tensors(latents_root(), key, compute)


def _plan(run: Path) -> dict[str, Any]:
    """Read the plan of the run in this folder. Raises: DataError if there is none."""
    try:
        plan = read_json(run / PLAN)
    except FileNotFoundError:
        plan = None
    except ValueError as error:
        raise DataError(f"{run / PLAN} is not a run's plan: {error}", "give another run") from error
    if not isinstance(plan, dict) or plan.get("job") != "train":
        raise DataError(f"{run} holds no training run", "give a folder that `medzoo train --out` wrote")
    return plan


def _trained_on(run: Path, plan: Mapping[str, Any], data: Dataset) -> frozenset[str]:
    """Return the fingerprints of all images the model has seen, those of a model it started from included.

    Raises:
        DataError: it was started from another model, whose images are listed only when the run is finished.
        IntegrityError: the list is damaged.
    """
    if "start" not in plan:
        return frozenset(data.fingerprints())
    if not (run / CONFIG).is_file():
        raise DataError(
            f"{run} was started from '{plan['start']['name']}', whose images the finished run states",
            "finish the run first",
        )
    return training_images(read_description(run)) or frozenset()
