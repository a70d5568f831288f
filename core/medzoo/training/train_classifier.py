"""Train a classifier on a data set into a folder; run again, go on where it stopped."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from medzoo import config as settings
from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.data.splits import split_dataset
from medzoo.models.devices import pick_device
from medzoo.models.folder import save_model
from medzoo.models.loading import LoadedModel, build_model, copy_matching_weights
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Classifier
from medzoo.runs.identity import claim
from medzoo.runs.record import RunRecord, read_run
from medzoo.specs import ClassifierSpec
from medzoo.storage.files import write_atomic
from medzoo.storage.paths import latents_root
from medzoo.training.run import TrainResult, finish, image_of, plan_of, refuse_unfit, trained_on
from medzoo.training.run_folder import Display, LossTable, RunFolder

JOB = "classify train"
VAL_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The images to fit on, those to choose weights by, and in a sentence where the latter are from."""

    training: Dataset
    validation: Dataset
    origin: str


def training_parts(data: Dataset, *, share: float | None = None, seed: int) -> Parts:
    """The images to fit on and those to choose weights by: the data's own `val`, or about `share` of its training part.

    Without either, that is a tenth. Patients, or duplicates where those are unknown, stay together. Nothing else that
    the data holds out is touched, and with a `share` not its `val` either. Raises: as `split_dataset`.
    """
    own = data.held_out.get("val")
    training = replace(data, held_out={})
    if own is not None and share is None:
        return Parts(training=training, validation=own, origin=f"{len(own)}, the data's own val part")
    share = VAL_SHARE if share is None else share
    if share == 0:
        return Parts(training=training, validation=data.subset([]), origin="none")
    parts = split_dataset(training, fractions={"train": 1 - share, "val": share}, seed=seed)
    whole = "patients" if data.patients is not None else "groups of duplicates"
    origin = f"{len(parts['val'])} of the {len(data)} training images, whole {whole}, by seed {seed}"
    return Parts(training=parts["train"], validation=parts["val"], origin=origin)


def train(
    spec: ClassifierSpec,
    config: settings.Resolved[Any],
    parts: Parts,
    out: Path,
    *,
    plugins: Plugins,
    display: Display,
    seed: int = 0,
    device: str = "auto",
    keep: int = 2,
    start: LoadedModel[Classifier] | None = None,
) -> TrainResult:
    """Fit `spec` on the training images and leave model, curve and run.json in `out`.

    `start` gives the weights to start from, where they fit; its training images then count as this model's too.
    A run that was killed goes on from its newest checkpoint and ends with the weights of an uninterrupted one.
    Under `accelerate launch`, every process calls this; the first alone writes.

    Raises:
        DataError: `out` holds another run, or images cannot be read.
        ConfigError: the classifier does not take such labels, or nothing of `start` fits it.
    """
    refuse_unfit(spec, parts.training)
    from accelerate import PartialState

    chosen = pick_device(device)
    state = PartialState(cpu=chosen == "cpu")
    if state.num_processes > 1 and chosen != "cpu":
        chosen = str(state.device)
    record = RunRecord(job=JOB, folder=out)
    validated = {"fingerprint": parts.validation.fingerprint(), "counts": parts.validation.counts()}
    plan = plan_of(JOB, spec, config, parts.training, seed=seed, start=start) | {"validation": validated}
    if state.is_main_process:
        claim(out, plan)
    state.wait_for_everyone()
    finished = read_run(out)
    if finished is not None:
        return TrainResult(folder=out, record=finished, already_done=True, leads=state.is_main_process)
    image = image_of(config.flat(), parts.training)
    classifier = build_model(spec, config, image, device=chosen, seed=seed)
    if start is not None:
        tensors = copy_matching_weights(classifier, start)
        record.extra = {"started_from": {**plan["start"], "tensors": tensors}}
    run = _ClassifierRun(out, image=image, seed=seed, keep=keep, display=display, cache=latents_root())
    crop = str(config.flat().get("image.crop", "none"))
    validation = parts.validation.view(image, crop=crop)
    classifier.fit(
        parts.training.view(image, crop=crop), validation=validation, seed=seed, callback=run, checkpoints=run
    )
    if state.is_main_process:
        facts = {"medzoo": __version__, "notes": run.notes}
        save_model(out, classifier, spec=spec, config=config, data=_trained_on(parts, start), facts=facts)
        run.draw_curve()
        finish(
            record,
            kind="classifier",
            config=config,
            plan=plan,
            data={**plan["data"], "validation": validated},
            plugins=plugins,
            device=chosen,
            run=run,
        )
    state.wait_for_everyone()
    written = read_run(out)
    assert written is not None  # the first process wrote it before the others passed the barrier
    return TrainResult(folder=out, record=written, already_done=False, leads=state.is_main_process)


class _ClassifierRun(RunFolder):
    """The run folder of a classifier, which has a curve of its own and no sample grids."""

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Nothing: a classifier draws no images."""

    def draw_curve(self) -> None:
        """Write loss.csv, and draw loss.png: training loss of each step, and what was measured on validation images."""
        self._losses.write()
        _draw(self._losses, self.folder / "loss.png")


def _draw(losses: LossTable, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, label, colour in (
        ("loss", "training loss", "#c9d8ea"),
        ("validation_loss", "validation loss", "#1f5fa8"),
        ("balanced_accuracy", "balanced accuracy (validation)", "#b3541e"),
    ):
        points = [(row["step"], row[name]) for row in losses.rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=label)
    axes.set(xlabel="optimiser step", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(path, picture.getvalue())


def _trained_on(parts: Parts, start: LoadedModel[Classifier] | None) -> dict[str, Any]:
    """What config.json says of the images: those of training, and those the weights were chosen by."""
    validation = {
        "from": parts.origin,
        "counts": parts.validation.counts(),
        "images": sorted(parts.validation.fingerprints()),
    }
    return trained_on(parts.training, start) | {"validation": validation}
