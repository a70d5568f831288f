"""Metrics given the parts of image sets they ask for, and measured: on whole sets, by class, between any two sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medzoo.data.dataset import Dataset
from medzoo.data.decoded_cache import Decoded
from medzoo.data.images import to_float, to_uint8
from medzoo.errors import DataError, MedzooError
from medzoo.evaluation.features import LoadedExtractor, Wanted, extract_all, load_extractor
from medzoo.evaluation.metric_selection import Measurement
from medzoo.evaluation.results import FAKE, REAL, TRAIN, Baseline, MetricResult, PairwiseResult
from medzoo.generation.mixture import Source
from medzoo.plugins.foreign_errors import failure
from medzoo.protocols import PerceptualExtractor, Sample, Score
from medzoo.runs.progress import Progress
from medzoo.seeds import derive_seed

FLOOR_DRAWS = 4
LEAST_OF_A_CLASS = 50
"""Below this many images a side, a distance in an extractor's features says nothing of one class."""


class FloatPixels:
    """Decoded images as metrics read them (`protocols.Pixels`): float32 in [0, 1], those at `indices` alone."""

    def __init__(self, images: Decoded, indices: np.ndarray) -> None:
        self._images = images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        """Images float32 (n, C, H, W) at `index`."""
        chosen = self._indices[index if isinstance(index, slice) else np.asarray(index, np.int64)]
        return torch.from_numpy(to_float(self._images[chosen]))


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSet:
    """A set's images with their labels in the common classes, and what extractors gave of them, by their names."""

    role: str
    data: Dataset
    images: Decoded
    classes: tuple[str, ...]
    features: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 (N,), label k meaning `classes[k]`."""
        places = np.array([self.classes.index(name) for name in self.data.classes])
        return np.asarray(places[self.data.labels])

    @property
    def everything(self) -> np.ndarray:
        """Where all its images are."""
        return np.arange(len(self.data))

    def of_class(self, label: str) -> np.ndarray:
        """Where the images of a class are."""
        return np.flatnonzero(self.labels == self.classes.index(label))


class Measurer:
    """Measures sets against each other, with one loading of each extractor and one extraction from each set."""

    def __init__(
        self,
        measurements: Sequence[Measurement],
        source: Source,
        *,
        pairwise: Sequence[Measurement] = (),
        seed: int,
        batch_size: int,
    ) -> None:
        self.measurements = measurements
        self.pairwise = pairwise
        self.extractors: dict[str, LoadedExtractor] = {}
        self._source = source
        self.errors: dict[str, str] = {}
        """By name, the metrics that raised what no metric may, and what that was."""
        self._seed = seed
        self._batch_size = batch_size

    def extract(self, sets: Iterable[MeasuredSet], *, progress: Progress) -> None:
        """Nothing; each set then has the features that the measurements need of it."""
        wanted: list[Wanted] = []
        takers: list[MeasuredSet] = []
        for name in dict.fromkeys(one.extractor for one in self.measurements if one.extractor):
            if name not in self.extractors:
                self.extractors[name] = load_extractor(name, self._source)
            own = [one for one in self.measurements if one.extractor == name]
            for images in sets:
                layers = tuple(dict.fromkeys(layer for one in own for layer in self._layers(one, images.role)))
                if layers:
                    wanted.append(Wanted(images=images.images, extractor=self.extractors[name], layers=layers))
                    takers.append(images)
        for job, taker, layers_found in zip(
            wanted, takers, extract_all(wanted, batch_size=self._batch_size, progress=progress), strict=True
        ):
            taker.features[job.extractor.name] = layers_found

    def _layers(self, one: Measurement, role: str) -> tuple[str, ...]:
        """What is extracted from the images in that role; those trained on are compared as a set in pairs alone."""
        if role in (REAL, FAKE):
            return one.spec.needs_features
        of_pairs = one.spec.needs_features if one in self.pairwise else ()
        return (*of_pairs, *(one.spec.needs_train if role == TRAIN else ()))

    def row(self, one: Measurement, sets: Mapping[str, MeasuredSet], *, fake: str, label: str = "") -> MetricResult:
        """The measurement of a class, or of all ("" for `label`), with its floor.

        Of a class, only distances of features have one: those of pixels take long, and hang on n less.
        """
        real, synthetic = sets[REAL], sets[fake]
        chosen = [one_set.of_class(label) if label else one_set.everything for one_set in (real, synthetic)]
        of_class = bool(label and one.spec.needs_features and one.spec.baseline)
        least = max(one.spec.min_samples, LEAST_OF_A_CLASS if of_class else 0)
        score, missing = self._score(one, real, synthetic, *chosen, train=sets.get(TRAIN), least=least)
        floor = None
        if score is not None and one.spec.baseline and (one.spec.needs_features or not label):
            floor = self._floor(one, real, synthetic, *chosen)
        extractor = self.extractors.get(one.extractor)
        return MetricResult(
            name=one.name,
            unit=one.spec.unit,
            better=one.spec.better,
            label=label,
            score=score,
            missing=missing,
            baseline=floor,
            preprocessing=extractor.preprocessing if extractor else "",
            weights=extractor.weights if extractor else "",
            warnings=score.warnings if score else (),
        )

    def pair(self, one: Measurement, first: MeasuredSet, second: MeasuredSet) -> PairwiseResult:
        """The measurement between two sets, the first in the place of the real one."""
        score, missing = self._score(
            one, first, second, first.everything, second.everything, train=None, least=one.spec.min_samples
        )
        return PairwiseResult(first=first.role, second=second.role, name=one.name, score=score, missing=missing)

    def _score(
        self,
        one: Measurement,
        real: MeasuredSet,
        fake: MeasuredSet,
        of_real: np.ndarray,
        of_fake: np.ndarray,
        *,
        train: MeasuredSet | None,
        least: int,
    ) -> tuple[Score | None, str]:
        """The score of the images at `of_real` and `of_fake`, or why there is none."""
        counts = {real.role: len(of_real), fake.role: len(of_fake)}
        if one.spec.needs_train and train is not None:
            counts[train.role] = len(train.data)
        if few := [f"{count} {role}" for role, count in counts.items() if count < least]:
            return None, f"insufficient: it needs {least} images per set, there are {' and '.join(few)}"
        try:
            first, second = self._sample(one, real, of_real), self._sample(one, fake, of_fake)
            return self._measure(one, first, second, train, seed=derive_seed(self._seed, one.name)), ""
        except DataError as error:
            return None, error.message
        except Exception as error:  # noqa: BLE001 - the plugin boundary: the other metrics go on
            return None, self._note_error(one, error)

    def _note_error(self, one: Measurement, error: Exception) -> str:
        """What is told of a metric that raised."""
        return self.errors.setdefault(one.name, f"it failed: {failure(error)}")

    def _measure(self, one: Measurement, real: Sample, fake: Sample, train: MeasuredSet | None, *, seed: int) -> Score:
        metric = one.spec.build()
        if not one.spec.needs_train:
            return metric(real, fake, seed=seed)  # type: ignore[call-arg]  # the spec says which of the two it is
        assert train is not None  # `choose` has seen to it
        known = self._sample(one, train, train.everything, layers=one.spec.needs_train)
        return metric(real, fake, train=known, seed=seed)  # type: ignore[call-arg]

    def _sample(
        self, one: Measurement, images: MeasuredSet, indices: np.ndarray, *, layers: Sequence[str] | None = None
    ) -> Sample:
        """Select a set's images at `indices`, with `layers` or those the metric needs of real and synthetic images.

        Raises:
            DataError: features that are NaN or infinite.
        """
        spec = one.spec
        found = images.features.get(one.extractor, {})
        rows = torch.from_numpy(indices)
        features = {layer: found[layer][rows] for layer in (spec.needs_features if layers is None else layers)}
        for layer, vectors in features.items():
            if not bool(torch.isfinite(vectors).all()):
                raise DataError(f"the {layer} of the {images.role} images have values that are NaN or infinite")
        return Sample(
            size=len(indices),
            pixels=FloatPixels(images.images, indices) if spec.needs_pixels or spec.needs_distance else None,
            labels=torch.from_numpy(images.labels[indices]) if spec.needs_labels else None,
            features=features,
            distance=self._distance(one) if spec.needs_distance else None,
        )

    def _distance(self, one: Measurement) -> Callable[[Tensor, Tensor], Tensor]:
        loaded = self.extractors[one.extractor]

        @torch.inference_mode()
        def distance(first: Tensor, second: Tensor) -> Tensor:
            assert isinstance(loaded.extract, PerceptualExtractor)  # `choose` and loading have seen to it
            pair = (torch.from_numpy(to_uint8(images)).to(loaded.device) for images in (first, second))
            return loaded.extract.distance(*pair).float().cpu()

        return distance

    def _floor(
        self, one: Measurement, real: MeasuredSet, fake: MeasuredSet, of_real: np.ndarray, of_fake: np.ndarray
    ) -> Baseline | None:
        """The metric between halves of the real images, and between a half and as many synthetic ones."""
        n = min(len(of_real) // 2, len(of_fake))
        if n < one.spec.min_samples:
            return None
        values: dict[str, list[float]] = {"real": [], "fake": []}
        for draw in range(FLOOR_DRAWS):
            random = np.random.default_rng(derive_seed(self._seed, "floor", draw))
            shuffled, others = random.permutation(of_real), random.permutation(of_fake)
            half = self._sample(one, real, shuffled[:n])
            for kind, against in (
                ("real", self._sample(one, real, shuffled[n : 2 * n])),
                ("fake", self._sample(one, fake, others[:n])),
            ):
                seed = derive_seed(self._seed, one.name, "floor", draw)
                try:
                    values[kind].append(self._measure(one, half, against, None, seed=seed).value)
                except MedzooError:
                    raise
                except Exception as error:  # noqa: BLE001 - the plugin boundary, as for the score
                    self._note_error(one, error)
                    return None
        return Baseline(
            n=n,
            draws=FLOOR_DRAWS,
            real=float(np.mean(values["real"])),
            real_spread=float(np.std(values["real"])),
            fake=float(np.mean(values["fake"])),
            fake_spread=float(np.std(values["fake"])),
        )
