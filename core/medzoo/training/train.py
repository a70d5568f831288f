"""Train a model of either kind into a run folder; the same call resumes a run that was interrupted."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo import config as settings
from medzoo._version import __version__
from medzoo.data.dataset import Dataset, describe_blank
from medzoo.data.splits import split_dataset
from medzoo.errors import OUT_OF_MEMORY, ConfigError, IntegrityError, PluginError, ResourceError, memory_errors
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS
from medzoo.models.devices import hardware, pick_device
from medzoo.models.folder import FINGERPRINTS, load_weights, read_description, save_model
from medzoo.models.labels import check_labels
from medzoo.models.loading import LoadedModel, build_model, copy_matching_weights
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import LabeledImages
from medzoo.runs.identity import PLAN, check_same_run, differing, exclusive_run, lock_run_dir
from medzoo.runs.progress import Progress, no_progress
from medzoo.runs.record import RUN, TRAINING_JOBS, RunRecord, check_finished, read_run
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec, ModelSpec
from medzoo.storage.files import remove_partial_files, write_json_atomic
from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import RunFolder
from medzoo.training.trackers import Trackers
from medzoo.training.unlabeled import UNLABELED, identity_of, record_of, training_view

VALIDATION_SHARE = 0.1

logger = logging.getLogger(__name__)

# What the weights of a diffusion model have learned to predict, and at which noise levels.
_TARGETS = ("diffusion.prediction_type", "diffusion.beta_schedule")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training run: its folder, its record, and whether it had been finished before.

    `is_main_process` is true in the one process of several that writes and prints.
    """

    folder: Path
    record: Mapping[str, Any]
    already_done: bool
    is_main_process: bool


@dataclass(frozen=True, kw_only=True)
class ValidationSplit:
    """The images to fit a classifier on, those to choose its weights by, and in words where the latter are from."""

    training: Dataset
    validation: Dataset
    origin: str


@dataclass(frozen=True, kw_only=True)
class ImageUse:
    """How a training uses its images, where it does not use each of them once and alike.

    `images(data, image, crop)` makes the training set of the images that are not for validation. `facts` say how; they
    are kept in run.json, and a run resumes another one only with the same.
    """

    images: Callable[[Dataset, ImageSpec, str], LabeledImages]
    facts: Mapping[str, Any]


def split_validation(data: Dataset, *, share: float | None = None, seed: int) -> ValidationSplit:
    """Set validation images aside: the data's own `val` part, or about `share` of the training images.

    Without either, a tenth. Patients, or duplicates where patients are unknown, stay together. A `share` leaves the
    data's own `val` part unused, as its test part is. Synthetic images stay among the training images.

    Raises:
        DataError: as `split_dataset`.
    """
    own = data.held_out.get("val")
    training = data.subset(range(len(data)))
    if own is not None and share is None:
        return ValidationSplit(training=training, validation=own, origin=f"{len(own)}, the data's own val part")
    share = VALIDATION_SHARE if share is None else share
    if share == 0:
        return ValidationSplit(training=training, validation=data.subset([]), origin="none")
    real = training
    if training.synthetic:  # they are learned from, and choose nothing
        real = training.subset([k for k, name in enumerate(training.names) if name not in training.synthetic])
    parts = split_dataset(real, fractions={"train": 1 - share, "val": share}, seed=seed)
    if training.synthetic:
        held_out = frozenset(parts["val"].names)
        parts["train"] = training.subset([k for k, name in enumerate(training.names) if name not in held_out])
    whole = "patients" if data.patients is not None else "groups of duplicates"
    origin = f"{len(parts['val'])} of the {len(data)} training images, whole {whole}, by seed {seed}"
    return ValidationSplit(training=parts["train"], validation=parts["val"], origin=origin)


def train(
    spec: ModelSpec[Any],
    config: settings.Resolved[Any],
    data: Dataset,
    out: Path,
    *,
    plugins: Plugins,
    progress: Progress = no_progress,
    validation: float | None = None,
    seed: int = 0,
    device: str = "auto",
    keep: int = 2,
    log_with: Sequence[str] = (),
    start: LoadedModel[Any] | None = None,
    unlabeled: Dataset | None = None,
    use: ImageUse | None = None,
) -> TrainResult:
    """Train `spec` on the training part of `data`; leave the model, the loss curve and run.json in `out`.

    A classifier's weights are chosen by validation images, as `split_validation(share=validation)` sets them aside.
    `start` gives the weights to start from, where they fit; its training images then count as this model's too.
    `unlabeled` are images, as from `unlabeled.open_unlabeled_images`, that a generator learns under its null label.
    `use` says how a classifier uses its images. `log_with` names experiment trackers, as `TRACKERS` lists them.

    A run that was killed resumes from its newest checkpoint and ends with the weights of an uninterrupted one. `keep`
    is the number of checkpoints to keep, 0 for all. Under `accelerate launch` or `torchrun`, every process calls this,
    and the main one writes. While another run writes to `out`, this one waits. A finished run whose model is missing or
    damaged makes it again from its newest checkpoint.

    Raises:
        ConfigError: the model has nothing to learn, does not take such labels, or nothing of `start` fits it.
        DataError: `out` holds another run, or images cannot be read.
        PluginError: the plugin's settings do not describe images.
    """
    kind = CLASSIFIER if isinstance(spec, ClassifierSpec) else GENERATOR
    _check_trainable(spec, config, data)
    config, data = follow_images(config, data, start=start)
    summary = _log_contents(data)
    split = None
    if kind == CLASSIFIER:
        split = split_validation(data, share=validation, seed=seed)
        data = split.training
        logger.info(f"trained on {len(data)} images; validation images: {split.origin}")
    from accelerate import PartialState

    chosen = pick_device(device)
    state = PartialState(cpu=chosen == "cpu")
    if state.num_processes > 1 and chosen != "cpu":
        chosen = str(state.device)
    identity = _identity(spec, config, data, seed=seed, split=split, start=start, unlabeled=unlabeled, use=use)
    facts = {**identity["data"], "summary": summary}
    facts |= {"validation": identity["validation"]} if split is not None else {}
    facts |= {UNLABELED: record_of(unlabeled)} if unlabeled is not None else {}
    record = RunRecord(
        job=TRAINING_JOBS[kind],
        folder=out,
        config=config.flat(),
        origins=config.origins,
        plugins=[plugins.plugin_of(kind, spec.name)],
        data=facts,
        seeds={"seed": seed},
        device=chosen,
        extra={} if use is None else {"policy": dict(use.facts)},
    )
    with _memory_errors(spec, config, out), contextlib.ExitStack() as held:
        if state.is_main_process:
            check_same_run(out, identity)
            held.enter_context(exclusive_run(out))
            lock_run_dir(out, identity)
            remove_partial_files(out, deep=True)
        state.wait_for_everyone()
        finished, damaged = _check_finished(out, config)
        if finished is not None and not damaged:
            return TrainResult(folder=out, record=finished, already_done=True, is_main_process=state.is_main_process)
        image, crop = image_of(config, data), config.image.crop
        model: Any = build_model(spec, config, image, device=chosen, seed=seed)
        if start is not None:
            tensors = _start_from(start, model, config)
            record.extra = {**record.extra, "started_from": {**identity["start"], "tensors": tensors}}
        with Trackers(
            log_with if state.is_main_process else (),
            out,
            hyperparameters={"plugin": spec.name, "seed": seed, "images": len(data), **config.plain()},
            batch_sizes=[value for key, value in config.flat().items() if key.endswith(".batch_size")],
        ) as trackers:
            run = RunFolder(
                out, image=image, seed=seed, keep=keep, progress=progress, cache=latents_root(), trackers=trackers
            )
            held_out = {} if split is None else {"validation": split.validation.view(image, crop=crop)}
            if finished is not None and WEIGHTS not in damaged:
                load_weights(model, out / WEIGHTS, sha256=finished["weights"][WEIGHTS])
            else:
                view = use.images(data, image, crop) if use else training_view(data, unlabeled, image, crop=crop)
                model.fit(view, **held_out, seed=seed, callback=run, checkpoints=run)
        if state.is_main_process:
            # Those that others have added since, as scores on test images, are kept where a finished run is repaired.
            notes = {**(finished or {}).get("notes", {}), **run.notes}
            save_model(
                out,
                model,
                spec=spec,
                config=config,
                data=_trained_on(data, split, start, unlabeled),
                facts={"medzoo": __version__, "notes": notes},
            )
            run.draw_curve()
            _write_record(record, run, notes=notes, before=finished, trained=finished is None or WEIGHTS in damaged)
        state.wait_for_everyone()
        written = read_run(out)
    assert written is not None  # the main process wrote it before the others passed the barrier
    return TrainResult(folder=out, record=written, already_done=False, is_main_process=state.is_main_process)


def _identity(
    spec: ModelSpec[Any],
    config: settings.Resolved[Any],
    data: Dataset,
    *,
    seed: int,
    split: ValidationSplit | None,
    start: LoadedModel[Any] | None,
    unlabeled: Dataset | None,
    use: ImageUse | None,
) -> dict[str, Any]:
    """Return all that the weights depend on, for the plan of the run."""
    identity: dict[str, Any] = {
        "job": TRAINING_JOBS[CLASSIFIER if isinstance(spec, ClassifierSpec) else GENERATOR],
        "plugin": spec.name,
        "seed": seed,
        "data": {"fingerprint": data.fingerprint(), "classes": list(data.classes), "counts": data.counts()},
        "config": config.flat(),
    }
    if use is not None:
        identity["policy"] = dict(use.facts)
    if unlabeled is not None:
        identity["data"][UNLABELED] = identity_of(unlabeled)
    if start is not None:
        identity = {"start": {"name": start.name, "weights_sha256": start.weights_sha256}, **identity}
    if split is not None:
        images = split.validation
        identity["validation"] = {"fingerprint": images.fingerprint(), "counts": images.counts()}
    return identity


def _write_record(
    record: RunRecord, run: RunFolder, *, notes: Mapping[str, Any], before: Mapping[str, Any] | None, trained: bool
) -> None:
    """Write run.json; `before` is that of a finished run whose files were repaired, and of one not `trained` again."""
    out = record.folder
    record.add_outputs([out / WEIGHTS, out / CONFIG, out / FINGERPRINTS])
    record.weights = {WEIGHTS: record.outputs[0]["sha256"]}
    if before is not None and not trained:
        write_json_atomic(out / RUN, {**before, "outputs": record.outputs})
        return
    record.extra = {
        **record.extra,
        "hardware": hardware(record.device),
        "training_seconds": round(run.seconds, 1),
        "resumed_at_step": run.resumed_at,
        "notes": notes,
        "warnings": run.warnings(),
    }
    record.finish()
    if before is not None and before.get("weights") != record.weights:
        logger.warning(
            f"the new {out / WEIGHTS} differs from the one that was lost: libraries, plugins or the device have "
            "changed since; evaluate it again"
        )


def _check_finished(out: Path, config: settings.Resolved[Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the record of the finished run in `out`, and which files of its model are missing or damaged (logged).

    Notes are added to config.json later, so of its content only what the model depends on is compared.
    """
    finished, damaged = check_finished(out, editable=(CONFIG,))
    if finished is None:
        return None, []
    weights = finished.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get(WEIGHTS), str):
        damaged = [WEIGHTS, *damaged]
    if CONFIG not in damaged:
        try:
            description = read_description(out)
            own = {WEIGHTS: description["weights_sha256"]}
            changed = any(differing(json.loads(json.dumps(config.flat())), description["config"]))
        except IntegrityError:
            own, changed = {}, True
        if changed or own != weights:
            damaged = [*damaged, CONFIG]
    damaged = list(dict.fromkeys(damaged))
    if damaged:
        logger.warning(f"{out} was finished, but {', '.join(damaged)} is missing or damaged: making it again")
    return finished, damaged


def follow_images(
    config: settings.Resolved[Any], data: Dataset, *, start: LoadedModel[Any] | None = None
) -> tuple[settings.Resolved[Any], Dataset]:
    """Take channels, bit depth and gray window from the images where only defaults set them; return both.

    The bit depth and the window of `start` come before those of the images.
    Raises: ConfigError for images that are to have another window than the settings say; DataError for images of more
    bits than the settings or `start` allow.
    """
    found = data.image_settings()
    if start is not None and start.depth:
        found["image.depth"] = start.depth
    if start is not None and start.window and "image.window" in found and not data.window:
        found["image.window"] = start.window
    asked, config = config, config.with_defaults(found, origin="the training images")
    if config.image.channels != asked.image.channels:
        logger.info("image.channels = 3, as the training images are in color; --set image.channels=1 drops it")
    elif data.channels == 3 and config.image.channels == 1:
        logger.warning(f"color is dropped: image.channels = 1 [from {config.origins['image.channels']}]")
    data = data.with_depth(getattr(config.image, "depth", 0))
    return config, data.with_window(getattr(config.image, "window", ""), whose="image.window")


def _start_from(start: LoadedModel[Any], model: Any, config: settings.Resolved[Any]) -> str:
    """Copy the weights of `start` that fit, and return how many; say where they predict something else.

    Raises: ConfigError if none fits.
    """
    own, theirs = config.flat(), start.config.flat()
    for key in _TARGETS:
        if key in own and key in theirs and own[key] != theirs[key]:
            logger.warning(
                f"{start.name} was trained with {key} = {theirs[key]}, and goes on with {own[key]}, which it has to "
                f"learn; --set {key}={theirs[key]} keeps what it predicts"
            )
    return copy_matching_weights(model, start)


def image_of(config: settings.Resolved[Any], data: Dataset) -> ImageSpec:
    """Return the images that a model with these settings sees, with the classes of `data`."""
    image = config.image
    return ImageSpec(size=image.size, channels=image.channels, classes=data.classes, multi_label=data.multi_label)


@contextlib.contextmanager
def _memory_errors(spec: ModelSpec[Any], config: settings.Resolved[Any], out: Path) -> Iterator[None]:
    """Name the settings to lower where memory runs out; take the plan away if no result is there yet.

    Thus the same folder takes the next try with other settings.
    """
    try:
        with memory_errors(f"training '{spec.name}'", lower_memory(config)):
            yield
    except ResourceError as error:
        if error.message.startswith(OUT_OF_MEMORY) and all(entry.name.startswith(".") for entry in out.iterdir()):
            (out / PLAN).unlink(missing_ok=True)
        raise


def lower_memory(config: settings.Resolved[Any], prefix: str = "") -> str:
    """Return the hint that names the settings on which the memory of a training depends, each with its value.

    `prefix` is put before their keys.
    """
    values = {key: value for key, value in config.flat().items() if key.endswith(".batch_size")}
    named = [f"{prefix}{key} (now {value})" for key, value in {**values, "image.size": config.image.size}.items()]
    first = next((f", as --set {prefix}{key}={value // 2}" for key, value in values.items() if value > 1), "")
    return f"lower {' or '.join(named)}{first}"


def _check_trainable(spec: ModelSpec[Any], config: settings.Resolved[Any], data: Dataset) -> None:
    if isinstance(spec, GeneratorSpec) and not spec.trainable:
        raise ConfigError(f"'{spec.name}' has nothing to learn", f"use it as it is: medzoo augment --gen {spec.name}")
    missing = sorted({"image.size", "image.channels"} - set(settings.keys(spec.config)))
    if missing:
        raise PluginError(f"'{spec.name}' has no setting {missing[0]}", f"run `medzoo plugin check {spec.name}`")
    if data.multi_label and not spec.multi_label:
        raise ConfigError(f"'{spec.name}' takes one label per image, {data.path} has several", "give single labels")
    if isinstance(spec, GeneratorSpec):
        if spec.varies_images and config.value.sampling.strength < 1.0:
            raise ConfigError(
                "sampling.strength is not part of training, which is the same for every strength",
                "leave it out, and give it when you sample: RUN@0.3",
            )
        # `medzoo augment` will make a folder of each class: fail before the training, not after it.
        check_labels(data.classes)


def _log_contents(data: Dataset) -> dict[str, Any]:
    """Log what the images hold that nobody would want to learn from unawares; return their summary for run.json."""
    if made := data.synthetic:
        logger.warning(f"{len(made)} of the {len(data)} training images are synthetic, such as {min(made)}")
    if blank := data.blank():
        logger.warning(f"of the {len(data)} training images, {describe_blank(blank)}")
    return data.summary().to_dict()


def _trained_on(
    data: Dataset, split: ValidationSplit | None, start: LoadedModel[Any] | None, unlabeled: Dataset | None
) -> dict[str, Any]:
    """Return what config.json says of the data.

    `images` include those without labels, and those of the model that training started from.
    """
    before = frozenset(unlabeled.fingerprints() if unlabeled is not None else ())
    before |= start.trained_on if start is not None else frozenset()
    facts: dict[str, Any] = {
        "name": data.path.resolve().name,
        "fingerprint": data.fingerprint(),
        "counts": data.counts(),
        "size": len(data),
        "images": sorted(before.union(data.fingerprints())),
    }
    if unlabeled is not None:
        facts[UNLABELED] = identity_of(unlabeled)
    if split is not None:
        images = sorted(split.validation.fingerprints())
        facts["validation"] = {"from": split.origin, "counts": split.validation.counts(), "images": images}
    return facts
