"""Select synthetic images from a pool by named criteria, from features of the pool and of the real training images.

Filters come first: `novelty` drops near copies. Then the images of each class that are left are ranked by the other
criteria, by the sum of the ranks where there are several, and the best are kept; with `novelty` alone, the first are.
`random` keeps as many at random, which is the control for `agreement` and `distance`: a gain that it shares is not
theirs.

Sources of the criteria: confidence in the label together with the distance to the class is the selection of HistoGAN
(Xue et al., Medical Image Analysis 67, 2021, arXiv:1912.03837); keeping what a classifier reads as its class is the
CLIP filter of He et al. (arXiv:2210.07574) and of DISEF (arXiv:2312.03046). CLIP has not learned the labels of the
training images by heart; `agreement` sees to that with folds.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medzoo.data.splits import assign_groups
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.seeds import derive_seed
from medzoo.toolkit.nearest import lower_tail, nearest

AGREEMENT, DISTANCE, NOVELTY, RANDOM = "agreement", "distance", "novelty", "random"
CRITERIA: Mapping[str, str] = {
    AGREEMENT: "keep the images that classifiers of the real images read as their class",
    DISTANCE: "keep the images nearest to the real images of their class",
    NOVELTY: "drop near copies of real images",
    RANDOM: "keep images at random, as a control",
}
"""What each criterion does, by name."""

NEAR_COPY, RANKED_LOWER = "near copy", "ranked lower"
"""Why an image is not kept: it is too near to a real one, or others of its class ranked higher."""

FOLDS = 5
NEIGHBORS = 5
# The strength of the regularization, fit for some hundred images and a thousand standardized features.
_INVERSE_REGULARIZATION = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolFeatures:
    """The synthetic images to select from, by their features, float32 (N, D).

    `labels`, int64 (N,), are indices into the classes of the real images, and `sources`, int64 (N,), say which real
    image each one varies, -1 for none.
    """

    features: np.ndarray
    labels: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class RealFeatures:
    """The real training images by their features, float32 (M, D), and those of their mirror images.

    `labels`, int64 (M,), are indices into `classes`. Images of equal `groups`, int64 (M,), such as those of a patient,
    are seen together by a classifier, or not at all. `mirrored` is needed by `novelty` alone.
    """

    classes: tuple[str, ...]
    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    mirrored: np.ndarray | None = None
    fitted: dict[tuple[int, int], tuple[np.ndarray, list[Any]]] = field(default_factory=dict, init=False, repr=False)
    """The classifiers of `agreement`, which depend on no pool, by their number and seed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What the criteria measure on each image of a pool, whichever others are in it: the `values` of `Selection`."""

    values: Mapping[str, np.ndarray]
    threshold: float | None = None

    def at(self, rows: np.ndarray) -> Measured:
        """Return what was measured on the images at `rows`."""
        return Measured(values={name: own[rows] for name, own in self.values.items()}, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Which images of a pool were kept.

    `kept`, int64, are their indices in the pool's order; `reasons` says of each image why it was not kept: `NEAR_COPY`
    or `RANKED_LOWER`, "" where it was. `ranks`, int64 (N,), count from 0, the best image of a class that passed the
    filters; those that did not pass have -1. `values`, float (N,), are by name "probability" (of the label, by
    `agreement`), "agrees" (1 where the label is the most probable class), "distance" (to the class), "nearest"
    (distance to the nearest real image) and "source" (distance to the image's own source, NaN for none), of the
    criteria that were asked for.
    `threshold` is the distance up to which an image is a near copy.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    kept: np.ndarray
    reasons: tuple[str, ...]
    ranks: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    threshold: float | None = None

    def summary(self) -> dict[str, dict[str, float]]:
        """Return, by class, the images looked at ("pool"), the kept ones, and the others by reason.

        "agreed" and "kept_agreed" are how many of them are read as their class, and "source_distance" is the median
        distance of kept variations to their sources.
        """
        found: dict[str, dict[str, float]] = {}
        of_kept = np.isin(np.arange(len(self.labels)), self.kept)
        for label in np.unique(self.labels).tolist():
            own = self.labels == label
            reasons = Counter(self.reasons[index] for index in np.flatnonzero(own))
            row: dict[str, float] = {"pool": int(own.sum()), "kept": reasons[""]}
            row["ranked_lower"] = reasons[RANKED_LOWER]
            if self.threshold is not None:
                row["near_copies"] = reasons[NEAR_COPY]
            if "agrees" in self.values:
                row["agreed"] = int(self.values["agrees"][own].sum())
                row["kept_agreed"] = int(self.values["agrees"][own & of_kept].sum())
            if "source" in self.values:
                distances = self.values["source"][own & of_kept]
                if np.isfinite(distances).any():
                    row["source_distance"] = float(np.nanmedian(distances))
            found[self.classes[label]] = row
        return found

    def best_rejected(self, label: int, count: int) -> list[int]:
        """Return up to `count` images of a class that were not kept, the best first, near copies last."""
        own = [index for index, reason in enumerate(self.reasons) if reason and self.labels[index] == label]
        return sorted(own, key=lambda index: (self.ranks[index] < 0, self.ranks[index]))[:count]


def check_criteria(names: Sequence[str]) -> tuple[str, ...]:
    """Return the criteria in `names`, each once. Raises: UnknownName; ConfigError for two that exclude each other."""
    for name in names:
        if name not in CRITERIA:
            raise UnknownName("criterion", name, CRITERIA)
    found = tuple(dict.fromkeys(names))
    if RANDOM in found and (others := [name for name in (AGREEMENT, DISTANCE) if name in found]):
        raise ConfigError(
            f"--select {RANDOM} is the control for {others[0]}, and not one of its kind",
            f"select by one of the two; both go with {NOVELTY}",
        )
    return found


def needs_features(criteria: Sequence[str]) -> bool:
    """Return whether the criteria compare images by features."""
    return bool(set(criteria) - {RANDOM})


def pool_counts(keep: Mapping[str, int], factor: float) -> dict[str, int]:
    """Return how many images of each class to draw for keeping `keep`: `factor` times as many, rounded up.

    Raises: ConfigError for a factor that leaves nothing to choose.
    """
    if not 1 < factor < math.inf:
        raise ConfigError(
            f"--pool {factor:g} leaves nothing to select from",
            "use more than 1: --pool 2 draws 2 images for each one that is kept",
        )
    return {label: math.ceil(round(count * factor, 6)) for label, count in keep.items()}


def select(
    pool: PoolFeatures, real: RealFeatures, *, criteria: Sequence[str], keep: Mapping[str, int], seed: int
) -> Selection:
    """Select `keep` images of each class from the pool; the same features and seed select the same images.

    - `agreement` trains `FOLDS` logistic regressions on standardized features of the real images, each on all folds but
      one, with classes weighted alike. They read an image that varies a real one by the classifier that has not seen
      this source (nor its group), and any other by the mean of all. It ranks by the probability of the label, and does
      not ask for it to be the most probable one: what all synthetic images have in common, such as missing grain,
      shifts all of a class alike.
    - `distance` is the mean Euclidean distance of standardized features to the `NEIGHBORS` nearest real images of the
      class, an image's own source excluded. It ranks the nearest first. Distances to a class's mean, as HistoGAN uses,
      favor images between modes of a class; distances to neighbors do not (Sun et al., arXiv:2204.06507).
    - `novelty` drops images that are as near to a real one, mirrored or not, as the nearest 1 % of the real images are
      to another: the threshold of the memorization check, `toolkit.nearest.lower_tail`. An image's own source does not
      count.
    - `random` ranks at random.

    Raises:
        DataError: fewer images than `keep` pass; classes with too few real images for the criteria.
    """
    wanted = [name for name in real.classes if keep.get(name)]
    measured = measure(pool, real, criteria=criteria, wanted=wanted, seed=seed)
    return rank(pool.labels, real.classes, measured, criteria=criteria, keep=keep, seed=seed)


def measure(
    pool: PoolFeatures, real: RealFeatures, *, criteria: Sequence[str], wanted: Sequence[str], seed: int
) -> Measured:
    """Measure what the criteria rank by, on every image of the pool, for selecting images of the classes `wanted`.

    Raises: DataError for classes with too few real images for the criteria.
    """
    chosen, labels = check_criteria(criteria), [real.classes.index(name) for name in wanted]
    _check_features(pool, real)
    values: dict[str, np.ndarray] = {}
    threshold: float | None = None
    if (pool.sources >= 0).any():
        values["source"] = _distance_to_source(pool, real)
    if NOVELTY in chosen:
        values["nearest"], threshold = _nearest_real(pool, real)
    if AGREEMENT in chosen:
        values["probability"], values["agrees"] = _agreement(pool, real, labels, seed=seed)
    if DISTANCE in chosen:
        values["distance"] = _distance_to_class(pool, real, labels)
    return Measured(values=values, threshold=threshold)


def rank(
    labels: np.ndarray,
    classes: tuple[str, ...],
    measured: Measured,
    *,
    criteria: Sequence[str],
    keep: Mapping[str, int],
    seed: int,
) -> Selection:
    """Select by what was measured on a pool of these `labels`, int64 (N,), indices into `classes`: see `select`.

    Raises: DataError for fewer images than `keep` that pass.
    """
    chosen, values, threshold = check_criteria(criteria), measured.values, measured.threshold
    wanted = [label for label, name in enumerate(classes) if keep.get(name)]
    passed = values["nearest"] > threshold if threshold is not None else np.ones(len(labels), np.bool_)
    scores: list[np.ndarray] = []  # higher is better
    if AGREEMENT in chosen:
        scores.append(values["probability"])
    if DISTANCE in chosen:
        scores.append(-values["distance"])
    if RANDOM in chosen:
        scores.append(np.random.default_rng(derive_seed(seed, "selection")).random(len(labels)))
    ranks = np.full(len(labels), -1, np.int64)
    reasons = np.where(passed, RANKED_LOWER, NEAR_COPY).astype(object)
    short: list[str] = []
    factor = 0.0
    for label in wanted:
        own = np.flatnonzero(labels == label)
        left = own[passed[own]]
        if len(left) < keep[classes[label]]:
            short.append(f"{len(left)} of {len(own)} of class '{classes[label]}'")
            factor = max(factor, len(own) / len(left) if len(left) else math.inf)
            continue
        # Equal sums of ranks, as without any criterion that ranks, leave the order of the pool.
        total = np.zeros(len(left), np.int64)
        for score in scores:
            total += np.argsort(np.argsort(-score[left], kind="stable"), kind="stable")
        ranks[left[np.argsort(total, kind="stable")]] = np.arange(len(left))
        reasons[left[ranks[left] < keep[classes[label]]]] = ""
    if short:
        needed = "; ".join(f"{classes[label]} {keep[classes[label]]}" for label in wanted)
        larger = f", such as --pool {math.ceil(11 * factor) / 10:g}," if math.isfinite(factor) else ""
        raise DataError(
            f"too few images pass {NOVELTY}: {', '.join(short)} (to keep: {needed})",
            f"nothing is lost: draw a larger pool{larger} which continues this one, or select without {NOVELTY}",
        )
    return Selection(
        classes=classes,
        labels=labels,
        kept=np.flatnonzero(reasons == ""),
        reasons=tuple(reasons.tolist()),
        ranks=ranks,
        values=values,
        threshold=threshold,
    )


def _check_features(pool: PoolFeatures, real: RealFeatures) -> None:
    """Raise DataError for features that are not finite: they have no distance."""
    for what, rows in (("synthetic", pool.features), ("real", real.features)):
        if bad := int((~np.isfinite(rows)).any(axis=1).sum()):
            raise DataError(f"the features of {bad} {what} images are not finite", "select with another extractor")


def _check_classes(real: RealFeatures, wanted: Sequence[int], criterion: str) -> int:
    """Return the smallest number of groups of a class. Raises: DataError where it is less than 2."""
    groups = {label: len(np.unique(real.groups[real.labels == label])) for label in wanted}
    for label, count in groups.items():
        if count < 2:
            number = int((real.labels == label).sum())
            of = " of one patient, or near-duplicates" if number > 1 else ""
            raise DataError(
                f"class '{real.classes[label]}' has {number} real image{'s' * (number != 1)}{of}, "
                f"too few to select by {criterion}",
                f"give more real images, or select by {NOVELTY} alone",
            )
    return min(groups.values(), default=FOLDS)


def _agreement(
    pool: PoolFeatures, real: RealFeatures, wanted: Sequence[int], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each image's label, and whether it is the most probable class: float64 (N,) each."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    number = min(FOLDS, _check_classes(real, wanted, AGREEMENT))
    if len(np.unique(real.labels)) < 2:
        raise DataError(f"{AGREEMENT} needs real images of two classes or more", f"select by {DISTANCE}")
    if (number, seed) not in real.fitted:
        hot = real.labels[:, None] == np.arange(len(real.classes))
        folds = assign_groups(hot, real.groups, shares=np.full(number, 1 / number), seed=derive_seed(seed, AGREEMENT))
        models = []
        for fold in range(number):
            seen = folds != fold
            model = make_pipeline(
                StandardScaler(),
                LogisticRegression(C=_INVERSE_REGULARIZATION, class_weight="balanced", max_iter=1000),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # it ranks well before it has converged
                models.append(model.fit(real.features[seen].astype(np.float64), real.labels[seen]))
        real.fitted[number, seed] = folds, models
    folds, models = real.fitted[number, seed]
    by_fold = np.zeros((number, len(pool.labels), len(real.classes)))
    for fold, model in enumerate(models):
        by_fold[fold][:, model.classes_] = model.predict_proba(pool.features.astype(np.float64))
    probabilities = by_fold.mean(axis=0)
    varied = np.flatnonzero(pool.sources >= 0)
    probabilities[varied] = by_fold[folds[pool.sources[varied]], varied]
    own = probabilities[np.arange(len(pool.labels)), pool.labels]
    return own, (probabilities.argmax(axis=1) == pool.labels).astype(np.float64)


def _distance_to_class(pool: PoolFeatures, real: RealFeatures, wanted: Sequence[int]) -> np.ndarray:
    """Return each image's distance to its class: float64 (N,), NaN for classes that are not `wanted`."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    _check_classes(real, wanted, DISTANCE)
    scaler = StandardScaler().fit(real.features.astype(np.float64))
    found = np.full(len(pool.labels), np.nan)
    for label in wanted:
        own, members = np.flatnonzero(pool.labels == label), np.flatnonzero(real.labels == label)
        search = NearestNeighbors(n_neighbors=min(NEIGHBORS + 1, len(members)))
        search.fit(scaler.transform(real.features[members].astype(np.float64)))
        distances, places = search.kneighbors(scaler.transform(pool.features[own].astype(np.float64)))
        distances = np.where(members[places] == pool.sources[own][:, None], np.nan, distances)
        nearest_first = np.sort(distances, axis=1)[:, :NEIGHBORS]  # NaN sorts to the end
        found[own] = np.nanmean(nearest_first, axis=1)
    return found


def _nearest_real(pool: PoolFeatures, real: RealFeatures) -> tuple[np.ndarray, float]:
    """Return the distance of each image to the nearest real one, (N,), and that up to which it is a near copy."""
    assert real.mirrored is not None  # novelty needs it
    if len(real.labels) < 2:
        raise DataError(f"one real image is too few to select by {NOVELTY}", "give more real images")
    ways = [real.features, real.mirrored]
    _, apart = nearest(real.features, ways, exclude=np.arange(len(real.features)))
    _, reach = lower_tail(apart)
    return nearest(pool.features, ways, exclude=pool.sources)[1], reach


def _distance_to_source(pool: PoolFeatures, real: RealFeatures) -> np.ndarray:
    """Return the distance of each image to the real one it varies: (N,), NaN for none."""
    apart = np.linalg.norm(pool.features - real.features[np.maximum(pool.sources, 0)], axis=1)
    return np.where(pool.sources >= 0, apart, np.nan)
