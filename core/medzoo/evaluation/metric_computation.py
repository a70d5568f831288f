"""Compute metrics: on whole sets, by class, and between any two sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medzoo.assets import LoadedExtractor
from medzoo.data.decoded_cache import Decoded
from medzoo.data.pixels import to_float, to_uint8
from medzoo.errors import OUT_OF_MEMORY, DataError, MedzooError, ResourceError, is_out_of_memory
from medzoo.evaluation.features import Extraction, extract_all, load_extractor
from medzoo.evaluation.image_sets import EvaluationSet, source_indices
from medzoo.evaluation.metric_selection import SelectedMetric
from medzoo.evaluation.results import FAKE, REAL, TRAIN, Baseline, MetricResult, PairwiseResult
from medzoo.evaluation.score_cache import Measurement, read_score, write_score
from medzoo.generation.mixture import Source
from medzoo.plugins.foreign_errors import failure
from medzoo.protocols import PerceptualExtractor, Sample, Score
from medzoo.runs.progress import Progress
from medzoo.seeds import derive_seed

BASELINE_DRAWS = 4
MIN_PER_CLASS = 50
"""Below this many images per set, a distance in feature space says nothing about one class."""


class FloatPixels:
    """The decoded images at `indices`, as metrics read them (`protocols.Pixels`): float32 in [0, 1]."""

    def __init__(self, images: Decoded, indices: np.ndarray) -> None:
        self._images = images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: slice | Sequence[int]) -> Tensor:
        """Return the images at `index`, float32 (n, C, H, W)."""
        chosen = self._indices[index if isinstance(index, slice) else np.asarray(index, np.int64)]
        return torch.from_numpy(to_float(self._images[chosen]))


class MetricComputer:
    """Compute metrics between sets, loading each extractor once and extracting the features of each set once.

    Scores are read from the cache where they were computed before; `cached` and `computed` count them.
    """

    def __init__(
        self,
        metrics: Sequence[SelectedMetric],
        source: Source,
        *,
        pairwise: Sequence[SelectedMetric] = (),
        seed: int,
        batch_size: int,
    ) -> None:
        self.metrics = metrics
        self.pairwise = pairwise
        self.extractors: dict[str, LoadedExtractor] = {}
        self._source = source
        self.cached = self.computed = 0
        self.errors: dict[str, str] = {}
        """Messages of metrics that raised what no metric may, by name."""
        self._seed = seed
        self._batch_size = batch_size

    def extract(self, sets: Iterable[EvaluationSet], *, progress: Progress) -> None:
        """Extract the features that the metrics need into each set."""
        wanted: list[Extraction] = []
        for name in dict.fromkeys(one.extractor for one in self.metrics if one.extractor):
            loaded = self.extractors[name] = load_extractor(name, self._source)
            own = [one for one in self.metrics if one.extractor == name]
            for images in sets:
                layers = dict.fromkeys(layer for one in own for layer in self._layers(one, images.role))
                wanted += [Extraction(images=images, extractor=loaded, layers=tuple(layers))] if layers else []
        extract_all(wanted, batch_size=self._batch_size, progress=progress)

    def _layers(self, one: SelectedMetric, role: str) -> tuple[str, ...]:
        """Return the layers that a metric needs of the set in a role; features of the training set serve pairs only."""
        if role in (REAL, FAKE):
            return one.spec.needs_features
        of_pairs = one.spec.needs_features if one in self.pairwise else ()
        return (*of_pairs, *(one.spec.needs_train if role == TRAIN else ()))

    def compute(self, one: SelectedMetric, sets: Mapping[str, EvaluationSet], *, label: str = "") -> MetricResult:
        """Compute a metric of a class, or of all images ("" for `label`), with its baseline.

        Of a class, only feature distances have a baseline: pixel distances take long, and depend on n less.
        """
        real, synthetic = sets[REAL], sets[FAKE]
        chosen = [one_set.indices(label) for one_set in (real, synthetic)]
        of_class = bool(label and one.spec.needs_features and one.spec.baseline)
        min_samples = max(one.spec.min_samples, MIN_PER_CLASS if of_class else 0)
        train = sets.get(TRAIN) if one.spec.needs_train else None
        involved = [real, synthetic, *([train] if train is not None else [])]

        def measure() -> tuple[Score | None, str, Baseline | None]:
            score, missing = self._score(one, real, synthetic, *chosen, train=train, min_samples=min_samples)
            with_baseline = score is not None and one.spec.baseline and (one.spec.needs_features or not label)
            return score, missing, self._baseline(one, real, synthetic, *chosen) if with_baseline else None

        score, missing, baseline = self._cached(one, involved, measure, label=label, what="score")
        extractor = self.extractors.get(one.extractor)
        return MetricResult(
            name=one.name,
            unit=one.spec.unit,
            better=one.spec.better,
            label=label,
            score=score,
            missing=missing,
            baseline=baseline,
            ideal=one.spec.ideal,
            preprocessing=extractor.preprocessing if extractor else "",
            weights=extractor.weights if extractor else "",
            warnings=score.warnings if score else (),
        )

    def compute_pair(self, one: SelectedMetric, first: EvaluationSet, second: EvaluationSet) -> PairwiseResult:
        """Compute a metric between two sets, the first in place of the real one."""

        def measure() -> tuple[Score | None, str, Baseline | None]:
            whole = first.indices(), second.indices()
            score, missing = self._score(one, first, second, *whole, train=None, min_samples=one.spec.min_samples)
            return score, missing, None

        score, missing, _ = self._cached(one, [first, second], measure, label="", what="pair")
        return PairwiseResult(first=first.role, second=second.role, name=one.name, score=score, missing=missing)

    def _cached(
        self,
        one: SelectedMetric,
        sets: Sequence[EvaluationSet],
        measure: Callable[[], tuple[Score | None, str, Baseline | None]],
        *,
        label: str,
        what: str,
    ) -> tuple[Score | None, str, Baseline | None]:
        """Return score, reason why there is none, and baseline, from the cache or as `measure` computes them."""
        path = Measurement(
            metric=one,
            extractor=self.extractors.get(one.extractor),
            images=sets,
            label=label,
            seed=self._seed,
            what=what,
        ).path(self._source.plugins)
        if (found := read_score(path)) is not None:
            self.cached += 1
            return found[0], "", found[1]
        before = len(self.errors)
        score, missing, baseline = measure()
        self.computed += score is not None
        if score is not None and len(self.errors) == before:
            write_score(path, score, baseline)
        return score, missing, baseline

    def _score(
        self,
        one: SelectedMetric,
        real: EvaluationSet,
        fake: EvaluationSet,
        of_real: np.ndarray,
        of_fake: np.ndarray,
        *,
        train: EvaluationSet | None,
        min_samples: int,
    ) -> tuple[Score | None, str]:
        """Return the score of the images at `of_real` and `of_fake`, or the reason why there is none."""
        counts = {real.role: len(of_real), fake.role: len(of_fake)}
        if one.spec.needs_train and train is not None:
            counts[train.role] = len(train.data)
        if few := [f"{count} {role}" for role, count in counts.items() if count < min_samples]:
            return None, f"insufficient: it needs {min_samples} images per set, there are {' and '.join(few)}"
        try:
            first, second = self._sample(one, real, of_real), self._sample(one, fake, of_fake)
            if one.spec.needs_train:
                second = replace(second, sources=self._varied(fake, of_fake, train))
            return self._measure(one, first, second, train, seed=derive_seed(self._seed, one.name)), ""
        except DataError as error:
            for one_set in (real, fake, *([train] if train is not None else [])):
                one_set.images.fingerprints()  # an image that cannot be read is no peculiarity of this metric
            return None, error.message
        except Exception as error:  # noqa: BLE001 - the plugin boundary: the other metrics go on
            return None, self._note_error(one, error)

    def _note_error(self, one: SelectedMetric, error: Exception) -> str:
        """Record and return the message of a metric that raised. Raises: ResourceError if it ran out of memory."""
        if is_out_of_memory(error):
            raise ResourceError(
                f"{OUT_OF_MEMORY} computing '{one.name}'", "lower --size, or give fewer images"
            ) from error
        return self.errors.setdefault(one.name, f"it failed: {failure(error)}")

    def _measure(
        self, one: SelectedMetric, real: Sample, fake: Sample, train: EvaluationSet | None, *, seed: int
    ) -> Score:
        metric = one.spec.build()
        if not one.spec.needs_train:
            return metric(real, fake, seed=seed)  # type: ignore[call-arg]  # the spec says which of the two it is
        assert train is not None  # checked by `select_metrics`
        known = self._sample(one, train, train.indices(), layers=one.spec.needs_train)
        return metric(real, fake, train=known, seed=seed)  # type: ignore[call-arg]

    def _varied(self, fake: EvaluationSet, of_fake: np.ndarray, train: EvaluationSet | None) -> Tensor | None:
        """Return the sources of the images at `of_fake` among the training images; None if they vary none of them."""
        if train is None or not fake.sources:
            return None
        found = source_indices([fake.sources[index] for index in of_fake], train.data.names)
        return torch.from_numpy(found) if (found >= 0).any() else None

    def _sample(
        self, one: SelectedMetric, images: EvaluationSet, indices: np.ndarray, *, layers: Sequence[str] | None = None
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
            classes=images.classes if spec.needs_labels else (),
            features=features,
            distance=self._distance(one) if spec.needs_distance else None,
        )

    def _distance(self, one: SelectedMetric) -> Callable[[Tensor, Tensor], Tensor]:
        loaded = self.extractors[one.extractor]

        @torch.inference_mode()
        def distance(first: Tensor, second: Tensor) -> Tensor:
            assert isinstance(loaded.extract, PerceptualExtractor)  # checked by `select_metrics` and loading
            pair = (torch.from_numpy(to_uint8(images)).to(loaded.device) for images in (first, second))
            return loaded.extract.distance(*pair).float().cpu()

        return distance

    def _baseline(
        self, one: SelectedMetric, real: EvaluationSet, fake: EvaluationSet, of_real: np.ndarray, of_fake: np.ndarray
    ) -> Baseline | None:
        """Compute the metric between halves of the real images, and between a half and as many synthetic ones."""
        n = min(len(of_real) // 2, len(of_fake))
        if n < one.spec.min_samples:
            return None
        values: dict[str, list[float]] = {"real": [], "fake": []}
        for draw in range(BASELINE_DRAWS):
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
                except DataError:  # halves that it cannot measure, such as of a single class
                    return None
                except MedzooError:
                    raise
                except Exception as error:  # noqa: BLE001 - the plugin boundary, as for the score
                    self._note_error(one, error)
                    return None
        return Baseline(
            n=n,
            draws=BASELINE_DRAWS,
            real=float(np.mean(values["real"])),
            real_spread=float(np.std(values["real"])),
            fake=float(np.mean(values["fake"])),
            fake_spread=float(np.std(values["fake"])),
        )
