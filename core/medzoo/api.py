"""medzoo from Python: every function behind `import medzoo`. The command line parses, calls these and prints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, UnknownName
from medzoo.hub.registry import ModelEntry, load_registry
from medzoo.hub.search import EntryKind, search
from medzoo.plugins.guard import exits_as_errors
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.arguments import class_names, names, require, whole_number
from medzoo.storage.files import check_outside
from medzoo.toolkit.remote import RemoteGenerator

if TYPE_CHECKING:
    from medzoo.data.checks import DataReport
    from medzoo.data.dataset import Dataset
    from medzoo.data.identify import Identification
    from medzoo.data.splits import DataSplit
    from medzoo.distributed.workers import Cluster
    from medzoo.evaluation.results import Evaluation
    from medzoo.experiment.plan import ExperimentPlan
    from medzoo.experiment.results import Experiment
    from medzoo.generation.mixture import Source
    from medzoo.generation.run import AugmentationResult, Job
    from medzoo.generation.sample import SampleResult
    from medzoo.generation.synthetic_dataset import Model, SyntheticImages
    from medzoo.models.loading import LoadedModel
    from medzoo.protocols import Generator
    from medzoo.runs.progress import Progress
    from medzoo.training.train import TrainResult
    from medzoo.tuning.policy import Policy
    from medzoo.tuning.results import TuningResult

logger = logging.getLogger(__name__)


def list_models(
    *words: str,
    modality: str | None = None,
    plugin: str | None = None,
    dataset: str | None = None,
    classes: str | Sequence[str] = (),
    kind: Literal["generator", "classifier"] | None = None,
    license: str | None = None,
) -> list[ModelEntry]:
    """Return the published models that match everything given, as `medzoo list` shows them.

    `words` are searched in all values of an entry, `classes` among a model's classes, regardless of case.
    `ModelEntry.name` is what `load` takes. Broken plugins, and registry files of theirs that are left out, are logged
    as warnings. Neither torch nor numpy is imported.

    Example:
        >>> for entry in medzoo.list_models(modality="ultrasound", kind="generator"):
        ...     print(entry.name, entry.classes)

    Raises:
        UnknownName: a value, class or kind that no model has.
        ConfigError: the user's registry file cannot be read; an argument of the wrong type.
    """
    names("words", words)
    require((str, NoneType), "a string", modality=modality, plugin=plugin, dataset=dataset, kind=kind, license=license)
    kinds = (EntryKind.GENERATOR, EntryKind.CLASSIFIER)
    if kind is not None and kind not in kinds:
        raise UnknownName("kind", kind, kinds)
    plugins = load_plugins()
    registry = load_registry(plugins=plugins)
    for text in filter(None, [*registry.problems, plugins.broken_hint.strip("()")]):
        logger.warning(text)
    return search(
        registry.entries,
        words,
        modality=modality,
        plugin=plugin,
        dataset=dataset,
        license=license,
        classes=[classes] if isinstance(classes, str) else names("classes", classes),
        kind=None if kind is None else EntryKind(kind),
    )


def check_data(
    data: str | Path,
    *,
    out: str | Path | None = None,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
) -> DataReport:
    """Report what images were taken for, what was left out, unreadable files and duplicates.

    `data` is a folder of class folders, of images without classes, a CSV or an npz; `masks` and `reading`
    are what `train` takes.
    `out` is a folder for report.html, with images of each class. `DataReport.problems` is empty if all is well.

    Example:
        >>> medzoo.check_data("scans").problems
        ()

    Raises:
        DataError: nothing at `data` can be read as images.
        ConfigError: an argument of the wrong type.
        ResourceError: the report cannot be written.
    """
    from medzoo.data.checks import check_dataset
    from medzoo.data.dataset import open_dataset, open_unlabeled

    require((str, Path), "a path", data=data)
    require((str, Path, NoneType), "a path", out=out)
    path = Path(data)
    dataset = open_unlabeled(
        path, as_class="all images", skip_bad=True, masks=masks, reading=Reading.of(reading), log=False
    )
    if dataset is None:
        dataset = open_dataset(path, skip_bad=True, masks=masks, reading=Reading.of(reading), log=False)
    report = check_dataset(dataset)
    if out is not None:
        from medzoo.report.data.report import write_data_report

        write_data_report(report, dataset, Path(out))
    return report


def identify(*paths: str | Path) -> list[Identification]:
    """Return, for each image file, whether a mark inside it says that it is synthetic, and what made it.

    Of a folder, the images in it and in its folders are read. Read are the IPTC's digital source type in XMP and C2PA,
    medzoo's own text, and the settings that diffusion programs keep. An image without a mark may be synthetic too.

    Example:
        >>> [found] = medzoo.identify("busi-500/benign/synthetic-ddpm-busi-000000.png")
        >>> found.verdict, found.facts["generator"]
        ('synthetic', 'ddpm-busi')

    Raises:
        DataError: a path that does not exist, or a folder without images.
        ConfigError: no path; an argument of the wrong type.
    """
    from medzoo.data.identify import identify_files

    for path in paths:
        require((str, Path), "a path", paths=path)
    return identify_files([Path(path) for path in paths])


def split_data(
    data: str | Path,
    out: str | Path,
    *,
    train: float = 0.8,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
) -> DataSplit:
    """Split images by patient where known, else by duplicate group, in equal shares of each class.

    `train`, `val` and `test` are the shares of the parts and add up to 1; a share of 0 leaves its part out. The new
    folder `out` gets the parts, as links to the images where `data` is a folder, and split.csv.

    Example:
        >>> split = medzoo.split_data("scans", "split", val=0.0, test=0.2)
        >>> split.counts["train"]
        {'benign': 280, 'malignant': 133, 'normal': 85}

    Raises:
        ConfigError: shares that do not add up to 1; an argument of the wrong type.
        DataError: images that cannot be read or split; `out` that holds anything.
        ResourceError: the parts cannot be written.
    """
    from medzoo.data.dataset import open_dataset
    from medzoo.data.splits import write_split

    require((str, Path), "a path", data=data, out=out)
    require((int, float), "a number", train=train, val=val, test=test)
    dataset = open_dataset(Path(data), skip_bad=skip_bad, masks=masks, reading=Reading.of(reading))
    for name, reason in dataset.bad:
        logger.warning(f"left out {name}: {reason}")
    shares = {"train": train, "val": val, "test": test}
    return write_split(dataset, out=Path(out), fractions=shares, seed=whole_number("seed", seed))


@exits_as_errors()
def load(
    gen: str | Path,
    *,
    data: str | Path | None = None,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Model:
    """Load a generator with its weights, ready to sample.

    `gen` is a model's name, a plugin's (its default model), a training run's folder or `hf:org/name[@revision]`, and
    `source` the only place to load it from ("bundled", "hub" or a folder). A diffusion model with a strength below 1,
    as in "ddpm-var-busi@0.3", varies real images. `data` are real images, for generators that vary them and for no
    others; `masks` and `reading` are what `train` takes. `settings` changes settings by dotted key, as in
    `{"sampling.num_inference_steps": 20}`. `device` is "auto", "cpu", "cuda", "cuda:N" or "mps".

    Example:
        >>> model = medzoo.load("dcgan-busi")
        >>> images, labels = model.sample("malignant", n=4, seed=0)

    Raises:
        UnknownName, ConfigError: a name, setting or device that cannot be taken; a classifier; images that a service
            would make, to which real ones had to be sent.
        DataError: real images that are missing or cannot be read.
        HubError: weights that cannot be had or are damaged.
        ResourceError: a device this machine does not have.
    """
    from medzoo.generation.mixture import load_mixture
    from medzoo.generation.synthetic_dataset import Model

    require((str, Path), "a model's name or a folder", gen=gen)
    chosen = _source(device=device, settings=settings, source=source)
    mixture, real = load_mixture(
        (str(gen),), chosen, data=_path("data", data), always_open=False, masks=masks, reading=Reading.of(reading)
    )
    for model in mixture.models:
        _check_not_remote(model)
    return Model(mixture, real, device=chosen.device)


@exits_as_errors()
def sample(
    gen: str | Path,
    *,
    labels: str | Sequence[str] | None = None,
    n: int = 16,
    out: str | Path | None = None,
    grid: str | Path | None = None,
    data: str | Path | None = None,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    allow_upload: bool = False,
    source: str | None = None,
    format: Literal["png", "dicom"] = "png",
    c2pa: tuple[str | Path, str | Path] | None = None,
    progress: Progress | None = None,
) -> SampleResult:
    """Sample `n` images of each class in `labels`, or of every class, into a folder.

    The folder is `out`, or ./samples-GEN; `grid` is a PNG that shows all images, one row or more per class, and with
    `grid` alone nothing else is written. A multi-label model shows all of `labels` together on each image.
    `allow_upload` lets real images leave this machine, for generators that send them to a service. `progress` is called
    with the number of images made and their total. `format` "dicom" writes Secondary Captures in place of PNGs, and
    `c2pa`, the PEM files of a certificate chain and its key, signs PNGs. The other arguments are those of `load`.

    Example:
        >>> result = medzoo.sample("dcgan-busi", labels="malignant", n=8, out="malignant")
        >>> result.counts
        {'malignant': 8}

    Raises:
        UnknownName, ConfigError: an unknown class; `n`, `batch_size` or `grid` out of range; and as `load`.
        DataError: `out` holds other files; and as `load`.
        HubError, ResourceError: as `load`; a full disk.
    """
    from medzoo.generation.run import run
    from medzoo.generation.sample import SampleResult, prepare, sample_grid
    from medzoo.runs.progress import no_progress

    require((str, Path), "a model's name or a folder", gen=gen)
    require(bool, "True or False", allow_upload=allow_upload)
    folder, sheet = _path("out", out), _path("grid", grid)
    job = prepare(
        str(gen),
        _source(device=device, settings=settings, source=source),
        labels=(labels,) if isinstance(labels, str) else names("labels", labels or ()),
        count=whole_number("n", n),
        out=folder,
        grid=sheet,
        data=_path("data", data),
        masks=masks,
        reading=Reading.of(reading),
        seed=whole_number("seed", seed),
        batch_size=whole_number("batch_size", batch_size),
        allow_upload=allow_upload,
        format=format,
        c2pa=_signing(c2pa),
    )
    counts = {name: job.plan.count(name) for name in job.labels}
    result = SampleResult(
        folder=None,
        grid=sheet,
        counts=counts,
        seed=job.plan.seed,
        device=job.device,
        data=job.data.get("summary", {}),
    )
    if folder is None and sheet is not None:
        sample_grid(job, sheet, progress=progress or no_progress)
        return result
    made = run(job, progress=progress or no_progress)
    return replace(result, folder=made.folder, already_done=made.already_done, requests=made.requests)


@exits_as_errors()
def fit_spectrum_gain(
    gen: str | Path,
    *,
    data: str | Path,
    n: int = 256,
    masks: str = "ignore",
    seed: int = 0,
    batch_size: int = 32,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    source: str | None = None,
    progress: Progress | None = None,
) -> tuple[float, ...]:
    """Return the value of `sampling.spectrum_gain` that gives a generator's images the grain of `data`.

    `data` are its training images, and never those that it will be tested on; `n` images are sampled, in their shares
    of classes. The gain holds for the `settings` of sampling given here. The other arguments are those of `sample`.

    Example:
        >>> gain = medzoo.fit_spectrum_gain("dcgan-busi", data="split/train")
        >>> images = medzoo.sample("dcgan-busi", out="images", settings={"sampling.spectrum_gain": gain})

    Raises:
        ConfigError: a generator without this setting, or a multi-label one; `n` or `batch_size` below 1.
        UnknownName, DataError, HubError, ResourceError: as `load`.
    """
    from medzoo.generation.spectrum import fit_gain
    from medzoo.runs.progress import no_progress

    require((str, Path), "a model's name or a folder", gen=gen)
    if min(whole_number("n", n), whole_number("batch_size", batch_size)) < 1:
        raise ConfigError(f"n = {n} or batch_size = {batch_size} is too small", "use at least 1")
    return fit_gain(
        str(gen),
        _source(device=device, settings=settings, source=source),
        data=_path("data", data),
        count=n,
        seed=whole_number("seed", seed),
        batch_size=batch_size,
        masks=masks,
        progress=progress or no_progress,
    )


@exits_as_errors()
def train(
    model: str,
    *,
    data: str | Path,
    out: str | Path,
    kind: Literal["generator", "classifier"] | None = None,
    preset: str = "default",
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    validation: float | None = None,
    seed: int = 0,
    device: str = "auto",
    start: str | Path | None = None,
    keep: int = 2,
    log_with: str | Sequence[str] = (),
    unlabeled: str | Path | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    policy: str | Path | Policy | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a generator or a classifier on the images `data` into the folder `out`; the same call resumes it.

    `model` names the kind of generator or classifier, such as "ddpm", "cnn" or "timm:resnet34"; where a plugin of each
    kind has the name, `kind` chooses. Its settings are those of `preset`, then of the TOML file `config`, then
    `settings` by dotted key. `classes` names the classes of an npz. A classifier's weights are chosen by the data's own
    `val` part, or by the share `validation` of the training images (0.1 without a `val` part); generators take none.
    `start` is a model to start from, as `load` takes it. `keep` is the number of checkpoints to keep, 0 for all.
    `unlabeled` is a folder of further images without labels, which diffusion models learn under their null label.
    `skip_bad` leaves out unreadable images; `masks` says what to do with segmentation masks among the images:
    "ignore" them, "refuse" them with an error, or take them "as-images". `reading` says what to take of DICOM and NIfTI
    files: "window" (such as "lung", "-600,1500" or "percentile"), "frames" ("first", "middle", "all" or "every:5"),
    "plane", "slices" and "label_tag", as the options of the same names. `policy`, a policy.toml or what `read_policy`
    returns, says how a classifier uses the synthetic images among `data`. `log_with` names experiment trackers that
    follow the run: "tensorboard", "wandb" and "mlflow"; the key `training.log_with` of the settings does so too.
    `progress` is called with the number of steps done, their total and the losses.

    Example:
        >>> run = medzoo.train("cnn", data="scans", out="runs/cnn", preset="tiny")
        >>> run.record["notes"]["selection"]

    Raises:
        ConfigError, UnknownName: an argument or setting that cannot be taken; a model with nothing to learn.
        DataError: `out` holds another run or other files; images that cannot be read.
        PluginError, ResourceError: a broken plugin; no such device; out of memory or disk space.
    """
    from medzoo import config as configuration
    from medzoo.data.dataset import open_dataset
    from medzoo.models.loading import load_by_name, spec_to_train
    from medzoo.runs.progress import no_progress
    from medzoo.specs import ClassifierSpec
    from medzoo.training.trackers import LOG_WITH, requested_trackers
    from medzoo.training.train import train as run
    from medzoo.training.unlabeled import check_takes_unlabeled, open_unlabeled_images
    from medzoo.tuning.apply import classifier_settings, image_use, warn_of_policy

    require(str, "the name of a generator or a classifier", model=model)
    require((int, float, NoneType), "a share of the images", validation=validation)
    require(bool, "True or False", skip_bad=skip_bad)
    require((str, list, tuple), "the names of experiment trackers", log_with=log_with)
    path, folder = _existing("data", data), _existing("out", out)
    further, file = _path("unlabeled", unlabeled), _path("config", config)
    check_outside(folder, path, further)
    plugins = load_plugins()
    spec, implied = spec_to_train(model, plugins, kind=kind)
    if validation is not None and not isinstance(spec, ClassifierSpec):
        raise ConfigError(f"'{model}' is a generator, which needs no validation images", "leave `validation` out")
    advice, changed = None, _check_settings(settings)
    trackers = requested_trackers(log_with, file=file, overrides=changed)
    if policy is not None:
        if not isinstance(spec, ClassifierSpec):
            raise ConfigError(f"'{model}' is a generator, and a policy says how to train classifiers", "leave it out")
        advice = _policy(policy)
        changed = classifier_settings(advice, spec, changed)
    resolved = configuration.resolve(
        spec.config,
        presets=spec.presets,
        preset=preset,
        file=file,
        overrides={**implied, **changed},
        ignored=(LOG_WITH,),
    )
    if further is not None:
        check_takes_unlabeled(spec, resolved, plugins)
    images = open_dataset(
        path, skip_bad=skip_bad, classes=class_names(classes), masks=masks, reading=Reading.of(reading)
    )
    log_unreadable(images)
    use = None
    if isinstance(spec, ClassifierSpec):
        if advice is None:
            warn_of_policy(path)
        else:
            use = image_use(advice, images, spec, seed=whole_number("seed", seed))
    before = None
    if start is not None:
        before = load_by_name(
            str(start),
            kind="classifier" if isinstance(spec, ClassifierSpec) else "generator",
            registry=load_registry(plugins=plugins),
            plugins=plugins,
            device="cpu",
        )
    without_labels = None
    if further is not None:
        without_labels = open_unlabeled_images(
            further, images, skip_bad=skip_bad, masks=masks, reading=Reading.of(reading)
        )
    return run(
        spec,
        resolved,
        images,
        folder,
        plugins=plugins,
        progress=progress or no_progress,
        validation=validation,
        seed=whole_number("seed", seed),
        device=device,
        keep=whole_number("keep", keep),
        log_with=trackers,
        start=before,
        unlabeled=without_labels,
        use=use,
    )


@exits_as_errors()
def evaluate(
    gen: str | Path | None = None,
    *,
    real: str | Path,
    fake: str | Path | None = None,
    train: str | Path | None = None,
    other: str | Path | None = None,
    metrics: str | Sequence[str] = (),
    per_class: bool = False,
    n: int = 100,
    checkpoints: bool = False,
    size: int | None = None,
    crop: str = "none",
    classes: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    leave_out_seen: bool = False,
    allow_leak: bool = False,
    source: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare synthetic images with real ones: the images `fake`, or `n` per class sampled from the generator `gen`.

    `real` are held-out images, `train` those the generator was trained on (which enables the memorization check) and
    those that `gen` varies if it varies real images, `other` images of another kind, for the table of all pairs of
    sets. `metrics` are names such as "kid@cnn-busi" or "ssim"; without them, all that need no download. `per_class`
    measures each class as well. With `checkpoints`, each checkpoint of the training run `gen` is measured. `size` is
    the side in pixels at which images are compared and `crop` how real ones are cropped. Real images that a model was
    trained on are an error, unless `leave_out_seen` leaves them out or `allow_leak` allows them, which is recorded.
    `out` is a folder for the HTML report, its tables and figures. The other arguments are those of `load` and `sample`.

    Example:
        >>> result = medzoo.evaluate(real="split/test", fake="synthetic", metrics=["ssim", "intensity"])
        >>> for row in result.results:
        ...     print(row.name, row.score.value if row.score else row.missing)

    Raises:
        ConfigError, UnknownName: an argument that cannot be taken, an unknown metric or class.
        DataError: images that cannot be read or compared, or that a model was trained on; `out` holds other files.
        HubError, PluginError, ResourceError: a model or asset that cannot be had; a broken metric; no such device.
    """
    from medzoo.data.dataset import open_dataset
    from medzoo.evaluation.evaluate import EvaluateRequest
    from medzoo.evaluation.evaluate import evaluate as run
    from medzoo.evaluation.memorization import save_memorization_note
    from medzoo.evaluation.model_evaluation import evaluate_checkpoints, evaluate_model
    from medzoo.report.evaluation.report import check_output_folder, write_evaluation
    from medzoo.runs.progress import no_progress
    from medzoo.runs.record import RunRecord

    if (gen is None) == (fake is None):
        raise ConfigError("give either synthetic images or a generator to sample them from", "--fake DIR, or GEN")
    if checkpoints and (gen is None or train is None):
        raise ConfigError("--checkpoints needs a training run and its images", "medzoo evaluate RUN --train DIR ...")
    request = EvaluateRequest(
        real=_existing("real", real),
        fake=_path("fake", fake) or Path(),
        train=_path("train", train),
        other=_path("other", other),
        metrics=(metrics,) if isinstance(metrics, str) else names("metrics", metrics),
        per_class=per_class,
        size=None if size is None else whole_number("size", size),
        crop=crop,
        classes=class_names(classes),
        seed=whole_number("seed", seed),
        batch_size=whole_number("batch_size", batch_size),
        skip_bad=skip_bad,
        masks=masks,
        reading=Reading.of(reading),
        leave_out_seen=leave_out_seen,
        allow_leak=allow_leak,
    )
    folder = _path("out", out)
    if folder is not None:
        check_outside(folder, Path(real), *(None if each is None else Path(each) for each in (fake, train, other)))
        check_output_folder(folder)
        record = RunRecord(job="evaluate", folder=folder)
    chosen = _source(device=device, settings=settings, source=source)
    progress = progress or no_progress
    if gen is None:
        measured = run(request, chosen, progress=progress)
    elif checkpoints:
        assert train is not None  # checked above
        trained_on = open_dataset(
            Path(train), skip_bad=skip_bad, classes=request.classes, masks=masks, reading=Reading.of(reading)
        )
        measured = evaluate_checkpoints(Path(gen), request, chosen, train=trained_on, per_class=n, progress=progress)
    else:
        measured = evaluate_model(str(gen), request, chosen, per_class=n, progress=progress)
    evaluation = measured.evaluation
    if folder is not None:
        evaluation = write_evaluation(measured, folder, chosen, record)
    if gen is not None:
        save_memorization_note(Path(gen), evaluation)
    return evaluation


def plan_experiment(
    experiment: str | Path | None = None,
    *,
    data: str | Path,
    out: str | Path | None = None,
    test: str | Path | Sequence[str | Path] | None = None,
    folds: int | None = None,
    seeds: int | None = None,
    repeats: int | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    ray: str | None = None,
    gpus_per_task: float | None = None,
    shared_out: bool = False,
    source: str | None = None,
    allow_leak: bool = False,
    leave_out_seen: bool = False,
    allow_upload: bool = False,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    policy: str | Path | Policy | Sequence[str | Path | Policy] = (),
) -> ExperimentPlan:
    """Check an experiment on arms of real and synthetic images and return its plan; nothing is written.

    `experiment` is a preset or a TOML file, `settings` changes single values by dotted key, and `folds`, `seeds` and
    `repeats` those three. `test` are sets of test images: with `folds=0`, the first replaces the data's test part; the
    others, and with folds all, are external test sets, on which every classifier is tested too. `out` is the folder
    for the results, which a plan to run needs; tasks that are finished there are not planned again. Each `policy`, a
    policy.toml or what `read_policy` returns, adds its arm, and the controls with its levers; with one, `experiment`
    may be left out. `ray`, `gpus_per_task` and `shared_out` are those of `augment`: the cluster that does the tasks.
    The other arguments are those of `load` and `evaluate`.

    Example:
        >>> plan = medzoo.plan_experiment("udder-scale", data="scans", out="results", folds=2)
        >>> print(len(plan.cells), plan.warnings)

    Raises:
        ConfigError, UnknownName: an argument or setting that cannot be taken.
        DataError: images that cannot be read or split; a generator that was trained on test images; other files in
            `out`.
        HubError, PluginError: a model that cannot be had; a broken plugin.
    """
    from medzoo.data.dataset import open_dataset
    from medzoo.experiment.config import read_design
    from medzoo.experiment.plan import plan_experiment as plan
    from medzoo.tuning.apply import added_arms, check_generators

    cluster = _cluster(ray, gpus_per_task, shared_out=shared_out)
    options = {"folds": folds, "seeds": seeds, "repeats": repeats}
    several = policy if isinstance(policy, Sequence) and not isinstance(policy, str) else [policy]
    policies = [_policy(each) for each in several]
    if experiment is None and not policies:
        raise ConfigError("no experiment is given", "name a preset or a TOML file, or give --policy policy.toml")
    given, changed = None if experiment is None else str(experiment), _check_settings(settings)
    # Before the images are read; arms of policies depend on them.
    design = None if policies else read_design(given, overrides=changed, options=options)
    labels = class_names(classes)
    path, folder = _existing("data", data), _path("out", out)
    sets = [] if test is None else [test] if isinstance(test, str | Path) else list(test)
    tests = [_existing("test", each) for each in sets]
    if folder is not None:
        check_outside(folder, path, *tests)
    images = open_dataset(path, skip_bad=skip_bad, classes=labels, masks=masks, reading=Reading.of(reading))
    log_unreadable(images)
    if design is None:
        added = added_arms(policies, images, alone=experiment is None)
        design = read_design(given, overrides=changed, options=options, added=added)
    planned = plan(
        design,
        images,
        folder,
        source=_source(device=device, settings=None, source=source, cluster=cluster),
        tests=[
            open_dataset(each, skip_bad=skip_bad, classes=labels, masks=masks, reading=Reading.of(reading))
            for each in tests
        ],
        allow_leak=allow_leak,
        leave_out_seen=leave_out_seen,
        allow_upload=allow_upload,
    )
    check_generators(policies, planned)
    return planned


@exits_as_errors()
def run_experiment(plan: ExperimentPlan, *, jobs: int = 1, progress: Progress | None = None) -> Experiment:
    """Train and test the classifiers of an experiment, compare its arms, and write the report into its folder.

    `jobs` processes share the work. Running a plan of the same experiment again resumes it and repeats the tasks that
    failed. `progress` is called with the number of tasks done and their total.

    Example:
        >>> plan = medzoo.plan_experiment("udder-scale", data="scans", out="results", folds=2)
        >>> for comparison in medzoo.run_experiment(plan).comparisons:
        ...     print(comparison.sentence())

    Raises:
        ConfigError: a plan without a folder; `jobs` below 1.
        PluginError, ResourceError: a broken plugin; out of memory or disk space.
    """
    from medzoo.experiment.run import run
    from medzoo.report.experiment.report import write_experiment_report
    from medzoo.runs.progress import no_progress

    results = run(plan, jobs=whole_number("jobs", jobs), progress=progress or no_progress)
    write_experiment_report(results)
    return results


def load_experiment(folder: str | Path) -> Experiment:
    """Load the results of an experiment, finished or not, from its folder.

    Example:
        >>> for comparison in medzoo.load_experiment("results").comparisons:
        ...     print(comparison.sentence())

    Raises:
        DataError: the folder does not hold an experiment.
    """
    from medzoo.experiment.results import load_results

    return load_results(_existing("folder", folder))


@exits_as_errors()
def tune(
    *,
    data: str | Path,
    classifier: str,
    out: str | Path,
    gen: str | Path | Sequence[str] = (),
    test: str | Path | Sequence[str | Path] | None = None,
    trials: int | None = None,
    budget: float | None = None,
    jobs: int = 1,
    seed: int | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    ray: str | None = None,
    gpus_per_task: float | None = None,
    shared_out: bool = False,
    source: str | None = None,
    allow_leak: bool = False,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> TuningResult:
    """Find how to use which synthetic images on `data` with a `classifier`, or that they do not help, and prove it.

    `data` have a test part, or `test` gives one; of several, the others are external test sets. In inner folds of the
    training part, up to `trials` policies (200) are scored with a classifier on frozen features; the best few are
    trained for real beside the controls. The winner is tested on the test part, once. `gen` are generators as `load`
    takes them; without any, all published ones on this machine that know the classes and have seen no test image.
    The folder `out` gets policy.toml and report.html; the same call resumes it, wherever it was interrupted, and `jobs`
    processes share the work. `budget` is in minutes. `config` is a TOML file of settings, which `settings` change by
    dotted key. `progress` is called with what is done of a stage. `ray`, `gpus_per_task` and `shared_out` are those of
    `augment`: a cluster that draws images and trains classifiers. The other arguments are those of `load` and
    `evaluate`.

    Example:
        >>> result = medzoo.tune(data="split", classifier="cnn", out="tuned", gen="ddpm-var-busi", budget=60)
        >>> print(result.verdict, result.policy.augment)

    Raises:
        ConfigError, UnknownName: an argument or setting that cannot be taken; a budget that is too small.
        DataError: no test part; images that cannot be split; a generator that does not fit or has seen test images;
            a folder of another tuning.
        HubError, PluginError, ResourceError: a model that cannot be had; a broken plugin; out of memory or disk space.
    """
    from medzoo.data.dataset import open_dataset
    from medzoo.report.experiment.report import write_experiment_report
    from medzoo.report.tuning.report import write_report
    from medzoo.runs.progress import no_progress
    from medzoo.tuning.config import read_settings
    from medzoo.tuning.plan import prepare
    from medzoo.tuning.run import run

    require(str, "the name of a classifier", classifier=classifier)
    require((int, float, NoneType), "a number", budget=budget)
    require(bool, "True or False", allow_leak=allow_leak, skip_bad=skip_bad)
    cluster = _cluster(ray, gpus_per_task, shared_out=shared_out)
    options = {"trials": trials, "seed": seed}
    design = read_settings(
        file=_path("config", config),
        overrides=_check_settings(settings),
        options={name: whole_number(name, value) for name, value in options.items() if value is not None},
        classifier=classifier,
    )
    labels, path, folder = class_names(classes), _existing("data", data), _existing("out", out)
    given = [] if test is None else [test] if isinstance(test, str | Path) else list(test)
    read = partial(open_dataset, skip_bad=skip_bad, classes=labels, masks=masks, reading=Reading.of(reading))
    images = read(path)
    log_unreadable(images)
    job = prepare(
        images,
        design,
        folder,
        classifier=classifier,
        source=_source(device=device, settings=None, source=source, cluster=cluster),
        generators=(str(gen),) if isinstance(gen, str | Path) else names("gen", [str(each) for each in gen]),
        tests=[read(_existing("test", each)) for each in given],
        budget=budget,
        allow_leak=allow_leak,
    )
    result = run(job, jobs=whole_number("jobs", jobs), progress=progress or no_progress)
    for experiment in (result.finalists, result.held_out):
        if experiment is not None and not (experiment.folder / "report.html").is_file():
            write_experiment_report(experiment)
    write_report(result, result.folder)
    return result


def log_unreadable(data: Dataset) -> None:
    """Log a warning for each image of `data` that was left out because it cannot be read."""
    for name, reason in data.bad:
        logger.warning(f"left out {name}: {reason}")


def as_dataset(
    gen: str | Path | Model,
    *,
    per_class: int | Mapping[str, int],
    labels: str | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    data: str | Path | None = None,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
    memory_limit: int = 2 * 1024**3,
    progress: Progress | None = None,
) -> SyntheticImages:
    """Return a torch Dataset of synthetic images, sampled now; see `SyntheticImages` for its items.

    `per_class` is the number of images of each class, or a mapping from class to number; of a multi-label model, also
    from several classes joined as in "edema|effusion". `labels` are the classes to
    sample; a multi-label model shows all of them together. `classes` are the class names in the order of the items'
    label numbers: give those of the real images that are trained on too (ImageFolder's `classes`); by default the
    model's own. `batch_size` is the number of images sampled at once, whatever a DataLoader asks for. `progress` is
    called with the number of images sampled so far and that of all. The other arguments are those of `load`; with a
    loaded `Model`, leave out `data`, `masks`, `reading`, `device`, `settings` and `source`.

    The images are those that `medzoo sample` writes for the same counts, seed and batch size, and those that
    `medzoo augment` adds to classes that lack as many.

    Example:
        >>> synthetic = medzoo.as_dataset("ddpm-var-udder", per_class=100, classes=real.classes)
        >>> loader = DataLoader(ConcatDataset([real, synthetic]), batch_size=32, shuffle=True)

    Raises:
        UnknownName: a class that the model or `classes` does not have.
        ConfigError: a count or `batch_size` out of range; and as `load`.
        DataError, HubError: as `load`.
        ResourceError: more than `memory_limit` bytes of images, which are kept in memory; and as `load`.
    """
    from medzoo.generation.synthetic_dataset import Model, SyntheticImages

    if not isinstance(gen, Model):
        gen = load(gen, data=data, masks=masks, reading=reading, device=device, settings=settings, source=source)
    elif (
        data is not None
        or reading is not None
        or masks != "ignore"
        or device != "auto"
        or settings is not None
        or source is not None
    ):
        raise ConfigError(
            f"'{gen.name}' is loaded already, so data, masks, reading, device, settings and source have no effect",
            "give them to load",
        )
    return SyntheticImages(
        gen,
        per_class=per_class,
        labels=labels,
        classes=classes,
        transform=transform,
        target_transform=target_transform,
        seed=seed,
        batch_size=batch_size,
        memory_limit=memory_limit,
        progress=progress,
    )


@exits_as_errors()
def augment(
    gen: str | Path | Sequence[str] | Mapping[str, float] | None = None,
    *,
    to: int | None = None,
    policy: str | Path | Policy | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 32,
    originals: Literal["link", "copy", "gray", "omit"] = "link",
    shard: str = "1/1",
    device: str = "auto",
    ray: str | None = None,
    gpus_per_task: float | None = None,
    shared_out: bool = False,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    masks: str = "ignore",
    reading: Mapping[str, str] | None = None,
    allow_leak: bool = False,
    allow_upload: bool = False,
    select: str | Sequence[str] = (),
    pool: float | None = None,
    extractor: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
    on_plan: Callable[[Job], None] | None = None,
    format: Literal["png", "dicom"] = "png",
    c2pa: tuple[str | Path, str | Path] | None = None,
    progress: Progress | None = None,
) -> AugmentationResult:
    """Add synthetic images to every class of an image set, up to `to` images each; return the folder and its counts.

    The folder is the one that `medzoo augment` fills, run.json and metadata.csv included; the same call resumes it.
    `gen` is a generator as `load` takes it, several as "GEN=SHARE", or a mapping to their shares, which sum to 1.
    Without `data`, the real images are those of ./datasets/train, or the model's demonstration data set; without `out`,
    the folder is ./augmented-GEN-TO. `originals` says how the real images get into it. `shard` "K/N" makes the K-th of
    N parts. `classes` names the numbers of an npz, `skip_bad` leaves out unreadable images, `allow_leak` allows models
    that were trained on held-out images, and `allow_upload` lets real images leave this machine, for generators that
    send them to a service. `format` "dicom" writes synthetic images as Secondary Captures in place of PNGs, and
    `c2pa`, the PEM files of a certificate chain and its key, signs synthetic PNGs.

    `select` names criteria by which images are selected from a pool that is drawn first, `pool` times as many as are
    missing (2 by default): "agreement" keeps those that classifiers of the real images read as their class,
    "distance" those nearest to the real images of their class, "novelty" drops near copies of real images, and "random"
    is the control. Images are compared by features of `extractor`, by default "efficientnet-lite0" where it is
    installed, or else the published classifier of the same classes. The pool stays, in a folder beside the other, and a
    larger one continues it.

    `policy`, a policy.toml or what `read_policy` returns, gives the generator, its settings, the number of images and
    their selection; what is given beside it is used in place of its own. Its other levers are kept in run.json, for
    `classify.train(..., policy=policy)`.

    With `ray`, the address of a Ray cluster ("local", "auto", "ray://host:port" or "host:port"), its nodes sample the
    images, each task on `gpus_per_task` GPUs, or a fraction of one; `shared_out` says that all nodes see the folder, so
    that they write there. The images are the same.

    `on_plan` is called with what will be done, before anything is written; with `dry_run`,
    nothing is, and the result says what the folder would hold. `progress` is called with the number of images made and
    their total. The other arguments are those of `load`.

    Example:
        >>> result = medzoo.augment("ddpm-var-udder", data="scans", to=100, out="scans-100")
        >>> {row.label: row.synthetic for row in result.classes}
        >>> best = medzoo.augment("ddpm-var-udder", data="scans", to=100, select=["agreement", "novelty"], pool=3)
        >>> best.selection["classes"]["normal"]
        >>> medzoo.augment(policy="tuned/policy.toml", data="scans", out="scans-augmented")

    Raises:
        ConfigError, UnknownName: an argument that cannot be taken, as a loaded `Model`; a policy that says not to add
            images, or that was tuned with another version of its generator; images that would leave this
            machine without `allow_upload`.
        DataError: images that cannot be read, classes a model does not know, held-out images it was trained on, a
            folder with other files.
        HubError: weights that cannot be had or are damaged.
        ResourceError: no such device; a full or read-only disk; out of memory.
    """
    from medzoo.evaluation.features import dataset_extractor
    from medzoo.generation.augment import prepare, run
    from medzoo.generation.plan import parse_shard
    from medzoo.generation.run import AugmentationResult, ClassResult
    from medzoo.runs.progress import no_progress
    from medzoo.tuning.apply import augmentation, log_other_levers

    require((int, float, NoneType), "a number", pool=pool)
    require((str, NoneType), "the name of an extractor", extractor=extractor)
    require(bool, "True or False", skip_bad=skip_bad, allow_leak=allow_leak)
    require(bool, "True or False", allow_upload=allow_upload, dry_run=dry_run)
    require((Callable, NoneType), "a function", progress=progress, on_plan=on_plan)
    size, criteria = whole_number("batch_size", batch_size), (select,) if isinstance(select, str) else select
    generators, criteria = () if gen is None else _gens(gen), names("select", criteria)
    target: Any = None if to is None else whole_number("to", to)
    advice = None
    if policy is not None:
        advice = _policy(policy)
        asked = augmentation(
            advice,
            load_plugins(),
            generators=generators,
            settings=_check_settings(settings),
            to=target,
            criteria=criteria,
            pool=pool,
            extractor=extractor,
        )
        generators, settings, target = asked.generators, asked.settings, asked.target
        criteria, pool, extractor = asked.criteria, asked.pool, asked.extractor
    elif gen is None or to is None:
        missing = "--gen" if gen is None else "--to"
        raise ConfigError(f"{missing} is missing", "give --gen GEN and --to N, or --policy policy.toml")
    cluster = _cluster(ray, gpus_per_task, shared_out=shared_out)
    chosen = _source(device=device, settings=settings, source=source, cluster=cluster)
    job = prepare(
        generators,
        chosen,
        target=target,
        data=_path("data", data),
        out=_path("out", out),
        seed=whole_number("seed", seed),
        batch_size=size,
        originals=originals,
        shard=parse_shard(shard),
        classes=class_names(classes),
        skip_bad=skip_bad,
        masks=masks,
        reading=Reading.of(reading),
        allow_leak=allow_leak,
        allow_upload=allow_upload,
        criteria=criteria,
        pool=pool,
        find_extractor=lambda classes: dataset_extractor(extractor, chosen, classes, batch_size=size),
        policy=None if advice is None else advice.to_dict(),
        format=format,
        c2pa=_signing(c2pa),
    )
    if on_plan is not None:
        on_plan(job)
    if advice is not None:
        log_other_levers(advice, job.folder)
    if not dry_run:
        return run(job, progress=progress or no_progress)
    real = job.real.counts() if job.originals and job.real is not None else {}
    rows = tuple(
        ClassResult(label=label, real=real.get(label, 0), synthetic=job.plan.count(label), drawn=0, seconds=0.0)
        for label in job.labels
    )
    return AugmentationResult(
        folder=job.folder, sheet=None, classes=rows, missing=job.missing(), already_done=False, how=job.how
    )


def _policy(given: str | Path | Policy) -> Policy:
    """Return a policy, read from its file. Raises: as `read_policy`; ConfigError for anything else."""
    from medzoo.tuning.policy import Policy, read_policy

    require((str, Path, Policy), "a policy.toml", "", policy=given)
    return given if isinstance(given, Policy) else read_policy(given)


def _signing(given: tuple[str | Path, str | Path] | None) -> tuple[Path, Path] | None:
    """Return the paths of a certificate and a key. Raises: ConfigError for anything but two paths."""
    if given is None:
        return None
    hint = 'write c2pa=("chain.pem", "key.pem")'
    require((tuple, list), "the paths of a certificate chain and its key", hint, c2pa=given)
    if len(given) != 2:
        raise ConfigError(f"c2pa takes two paths, not {len(given)}", hint)
    for path in given:
        require((str, Path), "a path", hint, c2pa=path)
    return Path(given[0]), Path(given[1])


def _cluster(address: str | None, gpus_per_task: float | None, *, shared_out: bool) -> Cluster | None:
    """Return the Ray cluster to work on, None where no address is given. Raises: ConfigError."""
    from medzoo.distributed.workers import Cluster

    require((str, NoneType), "the address of a Ray cluster", ray=address)
    require((int, float, NoneType), "a number", gpus_per_task=gpus_per_task)
    require(bool, "True or False", shared_out=shared_out)
    if address is None:
        if given := ["--gpus-per-task"] * (gpus_per_task is not None) + ["--shared-out"] * shared_out:
            raise ConfigError(f"{given[0]} is about a Ray cluster, and none is given", "name it with --ray")
        return None
    return Cluster(address=address, gpus_per_task=float(gpus_per_task or 0), shared_out=shared_out)


def _source(
    *, device: str, settings: Mapping[str, Any] | None, source: str | None, cluster: Cluster | None = None
) -> Source:
    from medzoo.generation.mixture import make_source

    require(str, "a string", device=device)
    require((str, NoneType), "a string", source=source)
    require((Mapping, NoneType), "a mapping", 'write {"sampling.num_inference_steps": 20}', settings=settings)
    overrides = _check_settings(settings)
    return make_source(load_plugins(), device=device, overrides=overrides, mirror=source, cluster=cluster)


def _check_settings(settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return `settings`. Raises: ConfigError for a value that no setting can have."""
    for key, value in (settings or {}).items():
        if not _is_setting(value):
            raise ConfigError(
                f"settings cannot take {key}: {value!r}",
                "values are numbers, strings, true or false, and lists of them; keys are dotted: "
                '{"sampling.num_inference_steps": 20}',
            )
    return settings or {}


def _is_setting(value: object) -> bool:
    """Return whether a setting may have this value, by its type."""
    if isinstance(value, list | tuple):
        return all(map(_is_setting, value))
    return isinstance(value, bool | int | float | str)


def _gens(gen: str | Path | Sequence[str] | Mapping[str, float]) -> tuple[str, ...]:
    """Return the generators in the form of `--gen`. Raises: ConfigError for anything else, such as a loaded model."""
    several = gen if isinstance(gen, Mapping | Sequence) and not isinstance(gen, str) else [gen]
    hint = "give what `load` takes, several as a mapping to their shares"
    for each in several:
        require((str, Path), "a model's name or a folder", hint, gen=each)
    if isinstance(gen, Mapping):
        return tuple(f"{name}={share}" for name, share in gen.items())
    return tuple(map(str, several))


def _path(name: str, given: str | Path | None) -> Path | None:
    require((str, Path, NoneType), "a path", "", **{name: given})
    return None if given is None else Path(given)


def _existing(name: str, given: str | Path) -> Path:
    """Return the path of an argument that cannot be left out."""
    require((str, Path), "a path", "", **{name: given})
    return Path(given)


def _check_not_remote(model: LoadedModel[Generator]) -> None:
    """Raise ConfigError for a generator whose images are made by a remote service, from real images sent there."""
    generator = model.model
    if isinstance(generator, RemoteGenerator) and generator.service is not None:
        raise ConfigError(
            f"'{model.name}' would send real images to {generator.service.host}, which `load` does not do",
            f"medzoo sample {model.name} --data DIR --out DIR --allow-upload, or medzoo.sample(..., allow_upload=True)",
        )
