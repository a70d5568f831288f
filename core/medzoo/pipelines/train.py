"""Train a generator on a data set into a folder; run again, go on where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medzoo
from medzoo import config as settings
from medzoo.data import Dataset
from medzoo.errors import ConfigError, PluginError
from medzoo.pipelines.claims import claim
from medzoo.pipelines.models import LoadedModel, build_generator, hardware, pick_device, save_model, start_from
from medzoo.pipelines.plan import check_labels
from medzoo.pipelines.run_folder import Display, RunFolder, ScalarLog
from medzoo.places import latents_root
from medzoo.plugins import Plugins
from medzoo.provenance import RunRecord, read_run
from medzoo.registry import CONFIG, WEIGHTS
from medzoo.specs import GeneratorSpec, ImageSpec


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training run: its folder and record, and whether it had been finished before.

    `leads` is true in the one process of several that writes and speaks.
    """

    folder: Path
    record: Mapping[str, Any]
    already_done: bool
    leads: bool


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
    start: LoadedModel | None = None,
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
    plan = _plan(spec, config, data, seed=seed, start=start)
    if state.is_main_process:
        claim(out, plan)
    state.wait_for_everyone()
    finished = read_run(out)
    if finished is not None:
        return TrainResult(folder=out, record=finished, already_done=True, leads=state.is_main_process)
    flat = config.flat()
    image = ImageSpec(
        size=flat["image.size"], channels=flat["image.channels"], classes=data.classes, multi_label=data.multi_label
    )
    generator = build_generator(spec, config, image, device=chosen, seed=seed)
    if start is not None:
        record.extra = {"started_from": {**plan["start"], "tensors": start_from(generator, start)}}
    with _scalars(out, wanted=tensorboard and state.is_main_process) as scalars:
        report = RunFolder(
            out, image=image, seed=seed, keep=keep, display=display, cache=latents_root(), scalars=scalars
        )
        generator.fit(data.view(image, crop=str(flat.get("image.crop", "none"))), seed=seed, report=report)
    if state.is_main_process:
        save_model(
            out,
            generator,
            spec=spec,
            config=config,
            data=_trained_on(data, start),
            facts={"medzoo": medzoo.__version__, "notes": report.notes},
        )
        _finish(record, config=config, plan=plan, plugins=plugins, spec=spec, device=chosen, report=report)
    state.wait_for_everyone()
    written = read_run(out)
    assert written is not None  # the first process wrote it before the others passed the barrier
    return TrainResult(folder=out, record=written, already_done=False, leads=state.is_main_process)


def _refuse_unsuitable(spec: GeneratorSpec, data: Dataset) -> None:
    if not spec.trainable:
        raise ConfigError(f"'{spec.name}' has nothing to learn", "use it as it is: medzoo augment --gen " + spec.name)
    lacking = sorted({"image.size", "image.channels"} - set(settings.keys(spec.config)))
    if lacking:
        raise PluginError(f"'{spec.name}' has no setting {lacking[0]}", f"run `medzoo plugin check {spec.name}`")
    if data.multi_label and not spec.multi_label:
        raise ConfigError(f"'{spec.name}' takes one label an image, {data.path} has several", "give single labels")
    # Each class becomes a folder of pictures one day; better said now than after the training.
    check_labels(data.classes)


def _trained_on(data: Dataset, start: LoadedModel | None) -> dict[str, Any]:
    """What config.json says of the training data; `images` are those of the model it started from as well."""
    before = start.trained_on if start is not None else frozenset()
    return {
        "name": data.path.resolve().name,
        "fingerprint": data.fingerprint(),
        "counts": data.counts(),
        "size": len(data),
        "images": sorted(before.union(data.fingerprints())),
    }


def _plan(
    spec: GeneratorSpec, config: settings.Resolved[Any], data: Dataset, *, seed: int, start: LoadedModel | None
) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {
        **({"start": {"name": start.name, "weights_sha256": start.weights_sha256}} if start is not None else {}),
        "job": "train",
        "plugin": spec.name,
        "seed": seed,
        "data": {"fingerprint": data.fingerprint(), "classes": list(data.classes), "counts": data.counts()},
        "config": config.flat(),
    }


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


def _finish(
    record: RunRecord,
    *,
    config: settings.Resolved[Any],
    plan: Mapping[str, Any],
    plugins: Plugins,
    spec: GeneratorSpec,
    device: str,
    report: RunFolder,
) -> None:
    record.config = config.flat()
    record.origins = config.origins
    record.plugins = [plugins.row_of("generator", spec.name)]
    record.data = plan["data"]
    record.seeds = {"seed": plan["seed"]}
    record.device = device
    record.extra = {
        **record.extra,
        "hardware": hardware(device),
        "training_seconds": round(report.seconds, 1),
        "resumed_at_step": report.resumed_at,
        "notes": report.notes,
        "warnings": report.warnings(),
    }
    record.add_outputs([record.folder / WEIGHTS, record.folder / CONFIG])
    record.weights = {WEIGHTS: record.outputs[0]["sha256"]}
    record.finish()
