"""Pools of a tuning: the images of each generator setting, drawn once over the whole training part."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo import config
from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, DataError
from medzoo.generation.mixture import Mixture, Source, alone, check_classes, split_strength, with_strength
from medzoo.generation.plan import PlannedImage, distinct, file_safe
from medzoo.generation.run import Job
from medzoo.generation.run import run as run_job
from medzoo.generation.writer import listing_digest
from medzoo.hub.registry import GENERATOR, resolve
from medzoo.hub.sources import AT_HAND, locate
from medzoo.models.loading import LoadedModel, load_by_name, name_with_strength
from medzoo.protocols import Generator
from medzoo.runs.progress import Progress
from medzoo.specs import GeneratorSpec
from medzoo.tuning.config import TuningDesign
from medzoo.tuning.results import PoolInfo

logger = logging.getLogger(__name__)

_GUIDANCE = "sampling.guidance_scale"
# A fold's training part must have one image of each class; a variation of it is drawn again and again if need be.
_MOST_TURNS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The images of one generator setting; `name` is that of its folder.

    `generator` is text as `--gen` takes it, with its strength; `settings` are other sampling settings that were given,
    by dotted key. `strength` is None for a generator that takes none.
    """

    name: str
    generator: str
    strength: float | None
    settings: Mapping[str, Any]
    model: LoadedModel[Generator]

    @property
    def mixture(self) -> Mixture:
        """The generator alone, as the jobs that draw take it."""
        return alone(self.model)

    def describe(self) -> dict[str, Any]:
        """Return what its images depend on, apart from the real images and the seed."""
        return {"generator": self.generator, **self.mixture.describe()}

    def job(
        self, folder: Path, real: Dataset, counts: Mapping[str, int], *, source: Source, seed: int, batch_size: int
    ) -> Job:
        """Return the job that draws `counts` images of each class into `folder`; a larger one continues a smaller."""
        real = real.with_depth(self.model.depth)
        return Job(
            folder=folder,
            sampler=self.mixture.sampler(counts, real=real, batch_size=batch_size, seed=seed),
            labels=real.classes,
            identity={
                "job": "pool",
                "medzoo": __version__,
                "seed": seed,
                "batch_size": batch_size,
                "device": source.device.partition(":")[0],
                "data": {
                    "counts": real.counts(),
                    "fingerprint": real.fingerprint(),
                    "listing": listing_digest(real),
                },
                "generators": self.mixture.describe(),
            },
            plugins=source.plugins,
            device=source.device,
            cluster=source.cluster,
            data={"path": str(real.path), "fingerprint": real.fingerprint(), "counts": real.counts()},
        )

    def counts(
        self, real: Dataset, needs: Sequence[tuple[Set[str], Mapping[str, int]]], *, seed: int
    ) -> dict[str, int]:
        """Return how many images of each class to draw, so that every fold has as many as the policies need.

        `needs` are, fold by fold, the fingerprints of its training images and the most images of each class: variations
        of other images cannot be used there.
        Raises: DataError for a class none of whose images is among a fold's training images.
        """
        found: dict[str, int] = {}
        for _, counts in needs:
            found |= {label: max(count, found.get(label, 0)) for label, count in counts.items()}
        if not self.model.needs_init_images:
            return found
        digests = real.fingerprints()
        trained = [{index for index, digest in enumerate(digests) if digest in own} for own, _ in needs]
        sampler = self.mixture.sampler(dict.fromkeys(found, 1), real=real, batch_size=1, seed=seed)
        (name,) = sampler.plan.names
        for label, count in found.items():
            owed = [counts.get(label, 0) for _, counts in needs]
            of_label = real.counts()[label]
            for index in range(_MOST_TURNS * of_label):
                if not any(owed):
                    break
                source = sampler.source(PlannedImage(generator=0, generator_name=name, label=label, index=index))
                owed = [left - (left > 0 and source in own) for left, own in zip(owed, trained, strict=True)]
                found[label] = max(count, index + 1)
            if any(owed):
                raise DataError(
                    f"{real.path}: a fold has no training image of class '{label}' to vary", "use fewer folds"
                )
        return found


def find_pools(
    given: Sequence[str],
    design: TuningDesign,
    source: Source,
    data: Dataset,
    *,
    held_out: Mapping[str, Set[str]],
    allow_leak: bool,
) -> tuple[Pool, ...]:
    """Load the generators that `given` names, or those on this machine that fit, in each of their settings.

    `held_out` are the fingerprints of the held-out images, by what they are called.
    Raises:
        ConfigError, UnknownName: a name or setting is wrong.
        DataError: a generator knows other classes or channels, or was trained on held-out images and not `allow_leak`;
            none fits.
        HubError: weights that are not available or damaged.
    """
    if given:
        models = [(text, _load(text, design, source)) for text in dict.fromkeys(given)]
        for _, model in models:
            _check_fits(model, data)
            check_lineage(model, held_out, allow_leak=allow_leak)
    else:
        models = list(_at_hand(design, source, data, held_out=held_out))
    design.check_generators([name for text, _ in models for name in (text, split_strength(text)[0])])
    pools = [pool for text, model in models for pool in _settings(text, model, design, source)]
    names = distinct([file_safe(pool.name) for pool in pools])
    return tuple(
        Pool(name=name, generator=pool.generator, strength=pool.strength, settings=pool.settings, model=pool.model)
        for name, pool in zip(names, pools, strict=True)
    )


def check_lineage(model: LoadedModel[Generator], held_out: Mapping[str, Set[str]], *, allow_leak: bool) -> None:
    """Raise DataError if a generator was trained on held-out images, unless `allow_leak`; warn if that is unknown."""
    if not model.check_lineage():
        return
    for name, digests in held_out.items():
        if (count := len(model.trained_on & digests)) and not allow_leak:
            raise DataError(
                f"'{model.name}' was trained on {count} of the {len(digests)} {name}, so a verdict on them would be "
                "invalid",
                "use a generator trained on the training part only, or --allow-leak, which is recorded",
            )


def draw(job: Job, pool: Pool, *, progress: Progress) -> PoolInfo:
    """Draw what is missing of a pool. Raises: as `generation.run.run`."""
    result = run_job(job, progress=progress)
    return PoolInfo(
        name=pool.name,
        generator=pool.generator,
        strength=pool.strength,
        settings=pool.settings,
        images=job.plan.total,
        seconds=round(sum(row.seconds for row in result.classes), 1),
    )


def _load(text: str, design: TuningDesign, source: Source, **changed: Any) -> LoadedModel[Generator]:
    """Load the model that `text`, "GEN" or "GEN@STRENGTH", means, with its settings of the tuning and the `changed`."""
    base = split_strength(text)[0]
    found = resolve(base, source.registry, source.plugins)
    if found.entry is None and found.folder is None:
        raise ConfigError(
            f"'{base}' has no weights, and a tuning takes trained models",
            f"train one: medzoo train {base} --data DIR --out DIR"
            if isinstance(found.spec, GeneratorSpec) and found.spec.trainable
            else "duplicate and classic are its controls anyway",
        )
    assert isinstance(found.spec, GeneratorSpec)
    own = {**design.of_generator(base, text), **changed}
    return load_by_name(
        base,
        registry=source.registry,
        plugins=source.plugins,
        device=source.device,
        overrides=with_strength(text, found.spec, own, source.plugins),
        source=source.mirror,
    )


def _check_fits(model: LoadedModel[Generator], data: Dataset) -> None:
    """Raise DataError for a generator of other classes or channels than the data."""
    check_classes(alone(model), data, [label for label, count in data.counts().items() if count])
    if model.image.channels != data.channels:
        words = {1: "gray", 3: "color"}
        raise DataError(
            f"{data.path} is in {words[data.channels]}, but '{model.name}' makes images in "
            f"{words[model.image.channels]}",
            f"use a model trained on such images: medzoo train {model.spec.name} --data {data.path} --out DIR",
        )


def _at_hand(
    design: TuningDesign, source: Source, data: Dataset, *, held_out: Mapping[str, Set[str]]
) -> Iterator[tuple[str, LoadedModel[Generator]]]:
    """Yield the published models on this machine that know the data and have seen no held-out image, and log which."""
    taken, left_out = [], []
    for row in source.registry.entries:
        fits = set(data.classes) <= set(row.classes) and row.channels == data.channels
        if row.kind != GENERATOR or not row.newest or row.deprecated or not fits or locate(row)[0] not in AT_HAND:
            continue
        model = _load(row.id, design, source)
        seen = sum(len(model.trained_on & digests) for digests in held_out.values())
        if seen or not model.lineage_known:
            reason = f"trained on {seen} held-out images" if seen else "its training images are unknown"
            left_out.append(f"{row.id} ({reason})")
            continue
        taken.append(row.id)
        yield row.id, model
    others = f"; not {', '.join(left_out)}" if left_out else ""
    if not taken:
        raise DataError(
            f"no model on this machine makes images of {', '.join(data.classes)} and has seen no held-out image"
            + others.replace("; not", ": not"),
            f"train one: medzoo train ddpm-var --data {data.path} --out runs/ddpm-var, then --gen runs/ddpm-var",
        )
    logger.info(f"generators: {', '.join(taken)}, which are on this machine and know these classes{others}; --gen "
                "names others")  # fmt: skip


def _settings(text: str, model: LoadedModel[Generator], design: TuningDesign, source: Source) -> Iterator[Pool]:
    """Yield a generator in each strength and guidance that the tuning looks at."""
    base, strength = split_strength(text)
    assert isinstance(model.spec, GeneratorSpec)
    strengths: list[float | None] = [None]
    if model.spec.varies_images:
        strengths = [strength] if strength is not None else list(design.value.strength)
    guides: list[dict[str, Any]] = [{}]
    if _GUIDANCE in config.keys(model.spec.config):
        known = model.config.flat()[_GUIDANCE]
        guides += [{_GUIDANCE: value} for value in dict.fromkeys(design.value.guidance) if value != known]
    given = design.of_generator(base, text)
    for own, guide in itertools.product(strengths, guides):
        name = base if own is None else name_with_strength(base, own)
        label = "".join(f"-guidance-{value:g}" for value in guide.values())
        # The folder's name is the model's: of a training run, the path says more than is needed.
        short = file_safe(name_with_strength(model.name, own if own is not None else 1.0)) + label
        loaded = model if (own == strength or own is None) and not guide else _load(name, design, source, **guide)
        yield Pool(name=short, generator=name, strength=own, settings={**given, **guide}, model=loaded)
