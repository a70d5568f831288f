"""medzoo from Python: list, load and sample models, augment image sets, and have synthetic ones as a torch Dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from medzoo.arguments import names, require, whole_number
from medzoo.errors import ConfigError, UnknownName
from medzoo.hub.registry import ModelEntry, load_registry
from medzoo.hub.search import EntryKind, search
from medzoo.plugins.lookup import load_plugins
from medzoo.toolkit.remote import RemoteGenerator

if TYPE_CHECKING:
    from medzoo.generation.mixture import Source
    from medzoo.generation.run import Outcome
    from medzoo.generation.synthetic_dataset import Model, SyntheticImages
    from medzoo.models.loading import LoadedModel
    from medzoo.protocols import Generator

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
    """The published models that have all of this, as `medzoo list` shows them; neither torch nor numpy is imported.

    `words` are looked for in everything a row says, `classes` among those a model makes or tells; letters' case does
    not matter. `ModelEntry.name` is what `load` takes. Broken plugins, and registry files of theirs that
    are left out, are logged as warnings.

    Raises:
        UnknownName: a fact, class or kind that no model has.
        ConfigError: a registry file of the user's that cannot be read; an argument of another type.
    """
    names("words", words)
    require((str, NoneType), "a text", modality=modality, plugin=plugin, dataset=dataset, kind=kind, license=license)
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


def load(
    gen: str | Path,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Model:
    """The generator that `gen` means, with its weights, ready to sample.

    `gen` is a model's name, a generator's (its default model), a training run's folder or `hf:org/name[@revision]`, and
    `source` the only place to take it from ("bundled", "hub" or a folder), as `--from`. `data` are real images, for
    generators that vary them and for no other. `settings` change single ones by their dotted keys, as in
    `{"sampling.num_inference_steps": 20}`. `device` is "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        UnknownName, ConfigError: a name, setting or device that cannot be taken; a classifier; images that a service
            would make, to which real ones had to be sent.
        DataError: real images that are missing or cannot be read.
        HubError: weights that cannot be had or are damaged.
        ResourceError: a device this machine does not have.
    """
    from medzoo.generation.sample import load_alone
    from medzoo.generation.synthetic_dataset import Model

    require((str, Path), "a model's name or a folder", gen=gen)
    chosen = _source(device=device, settings=settings, source=source)
    mixture, real = load_alone(str(gen), chosen, data=_path("data", data))
    for model in mixture.models:
        _refuse_service(model)
    return Model(mixture, real, device=chosen.device)


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
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
    memory_limit: int = 2 * 1024**3,
) -> SyntheticImages:
    """A torch Dataset of synthetic images, drawn when first asked for; `SyntheticImages` says what its items are.

    `per_class` images of each class, or as many as it maps a class to. `labels` are the classes to draw; a multi-label
    model shows all of them together. `classes` are the class names in the order of the numbers that items carry, which
    should be those of the real images beside them (ImageFolder's `classes`); the model's own without. `batch_size` is
    how many are drawn at once, whatever a DataLoader asks for. The other arguments are those of `load`; with a `Model`,
    which is loaded already, `data`, `device`, `settings` and `source` are left out.

    The images are those that `medzoo sample` writes for the same counts, seed and batch size, and those with which
    `medzoo augment` fills classes that lack so many.

    Raises:
        UnknownName: a class that the model or `classes` does not have.
        ConfigError: a count or `batch_size` out of range; and as `load`.
        DataError, HubError: as `load`.
        ResourceError: more than `memory_limit` bytes of images, which are kept in memory; and as `load`.
    """
    from medzoo.generation.synthetic_dataset import Model, SyntheticImages

    if not isinstance(gen, Model):
        gen = load(gen, data=data, device=device, settings=settings, source=source)
    elif data is not None or device != "auto" or settings is not None or source is not None:
        raise ConfigError(
            f"'{gen.name}' is loaded already, so data, device, settings and source come too late", "give them to load"
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
    )


def augment(
    gen: str | Path | Sequence[str] | Mapping[str, float],
    *,
    to: int,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 32,
    originals: Literal["link", "copy", "omit"] = "link",
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    allow_leak: bool = False,
    source: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """What filling every class of an image set up to `to` images left: the folder, and what each class has now.

    The folder is the one that `medzoo augment` fills, run.json and metadata.csv included; stopped at any moment, the
    same call goes on. `gen` is a generator as `load` takes it, several as "GEN=SHARE", or a mapping to their shares,
    which sum to 1. Without `data`, the real images are those of ./datasets/train, or the set medzoo makes for the
    model; without `out`, the folder is ./augmented-GEN-TO. `originals` says how the real images come into it. `classes`
    names an npz's numbers, `skip_bad` goes on without unreadable images, and `allow_leak` with models that were trained
    on held-out ones. `progress` is told how many pictures of how many are there. The other arguments are those of
    `load`.

    Raises:
        ConfigError, UnknownName: an argument that cannot be taken, as a loaded `Model`; images that would leave this
            machine.
        DataError: images that cannot be read, classes a model does not know, held-out images it was trained on, a
            folder with other files.
        HubError: weights that cannot be had or are damaged.
        ResourceError: no such device; the disk is full or read-only; memory ran out.
    """
    from medzoo.generation.augment import Request, prepare
    from medzoo.generation.run import run
    from medzoo.runs.progress import no_progress

    require((Callable, NoneType), "a function", progress=progress)
    require(bool, "True or False", skip_bad=skip_bad, allow_leak=allow_leak)
    request = Request(
        generators=_gens(gen),
        target=whole_number("to", to),
        data=_path("data", data),
        out=_path("out", out),
        seed=whole_number("seed", seed),
        batch_size=whole_number("batch_size", batch_size),
        originals=originals,
        classes=None if classes is None else names("classes", classes),
        skip_bad=skip_bad,
        allow_leak=allow_leak,
    )
    job = prepare(request, _source(device=device, settings=settings, source=source))
    return run(job, progress=progress or no_progress)


def _source(*, device: str, settings: Mapping[str, Any] | None, source: str | None) -> Source:
    from medzoo.generation.mixture import make_source

    require(str, "a text", device=device)
    require((str, NoneType), "a text", source=source)
    require((Mapping, NoneType), "a mapping", 'write {"sampling.num_inference_steps": 20}', settings=settings)
    return make_source(load_plugins(), device=device, overrides=_check_settings(settings or {}), mirror=source)


def _check_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `settings`. Raises: ConfigError for a value that no setting can have."""
    for key, value in settings.items():
        if not _is_setting(value):
            raise ConfigError(
                f"settings cannot take {key}: {value!r}",
                "values are numbers, texts, true or false, and lists of them; keys are dotted: "
                '{"sampling.num_inference_steps": 20}',
            )
    return settings


def _is_setting(value: object) -> bool:
    """Whether a setting may have this value, by its type."""
    if isinstance(value, list | tuple):
        return all(map(_is_setting, value))
    return isinstance(value, bool | int | float | str)


def _gens(gen: str | Path | Sequence[str] | Mapping[str, float]) -> tuple[str, ...]:
    """The generators as `--gen` takes them. Raises: ConfigError for what is none, as a loaded model."""
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


def _refuse_service(model: LoadedModel[Generator]) -> None:
    """Nothing. Raises: ConfigError for a generator whose images a service makes, from real ones sent there."""
    generator = model.model
    if isinstance(generator, RemoteGenerator) and generator.service is not None:
        raise ConfigError(
            f"'{model.name}' would send real images to {generator.service.host}: only the command line asks for that",
            f"medzoo sample {model.name} --data DIR --out DIR --allow-upload",
        )
