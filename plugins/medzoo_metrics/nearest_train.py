"""Memorization: are synthetic images nearer to the training images than new real ones are?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medzoo import MetricSpec, Sample, Score
from medzoo.protocols import Histogram, Pair, TrainMetric
from medzoo.specs import DOMAIN

if TYPE_CHECKING:
    import numpy as np

SIGNIFICANCE = 0.01
SHOWN, BINS = 16, 40
_FAR = 1e6  # stands for the ratio of any distance to none


@dataclass(frozen=True)
class _Tail:
    """The synthetic images in the lower tail of the held-out distances."""

    threshold: float
    rank: int
    count: int
    p_value: float


def nearest_train(real: Sample, fake: Sample, *, train: Sample, seed: int) -> Score:
    """Compute the share of synthetic images as near to a training image as the nearest 1 % of held-out `real` images.

    If the synthetic images were as new as the held-out ones, their count below the k-th smallest of n held-out
    distances would be beta-binomial with k and n + 1 - k; "p_value" is the probability of as many. Smooth and typical
    images are near to all images, so the same test is made of the distance to the nearest training image over that to
    the nearest held-out one ("relative share", "relative p_value"), which is small for copies only. It fails if both
    probabilities are below 0.01. Mirrored training images count as copies too. `seed` is not used.

    A variation is not compared with its own source, `fake.sources`, but with all other training images; how far it is
    from its source stands by itself in "source median", "source closest" and "source share", the share of variations
    within the threshold of their source.
    """
    import numpy as np

    from medzoo.toolkit.metric_samples import features_of
    from medzoo.toolkit.nearest import nearest

    ways = [features_of(train, layer).numpy() for layer in ("features", "mirrored")]
    of_real, of_fake = features_of(real).numpy(), features_of(fake).numpy()
    _, held_out = nearest(of_real, ways)
    sources = np.full(fake.size, -1) if fake.sources is None else fake.sources.numpy()
    index, distances = nearest(of_fake, ways, exclude=sources)
    absolute = _tail(held_out, distances)
    _, to_others = nearest(of_real, [of_real], exclude=np.arange(real.size))
    relative = _tail(_ratio(held_out, to_others), _ratio(distances, nearest(of_fake, [of_real])[1]))
    closest = np.argsort(distances, kind="stable")[:SHOWN]
    varied = np.flatnonzero(sources >= 0)
    to_source = np.linalg.norm(of_fake[varied] - ways[0][sources[varied]], axis=1)
    return Score(
        value=absolute.count / fake.size,
        n_real=real.size,
        n_fake=fake.size,
        details={
            "threshold": absolute.threshold,
            "expected share": absolute.rank / (real.size + 1),
            "p_value": absolute.p_value,
            "relative share": relative.count / fake.size,
            "relative p_value": relative.p_value,
            "detectable share": _detectable(relative.rank, real.size, fake.size) / fake.size,
            "real median": float(np.median(held_out)),
            "synthetic median": float(np.median(distances)),
            **_source_details(to_source, absolute.threshold),
        },
        method=_method(absolute.rank, real.size, train.size),
        warnings=(*_warnings(absolute, relative, real.size), *_source_warnings(to_source, fake.size)),
        histogram=_histogram(held_out, distances),
        pairs=tuple(Pair(fake=int(k), train=int(index[k]) % train.size, distance=float(distances[k])) for k in closest),
        failed=max(absolute.p_value, relative.p_value) < SIGNIFICANCE,
    )


def _tail(held_out: np.ndarray, synthetic: np.ndarray) -> _Tail:
    """Return the lower tail of the held-out values and the synthetic ones in it."""
    from medzoo.toolkit.nearest import lower_tail

    threshold, reach = lower_tail(held_out)
    rank = int((held_out <= reach).sum())  # more than asked for where values are equal
    count = int((synthetic <= reach).sum())
    p_value = float(_null_distribution(rank, len(held_out), len(synthetic)).sf(count - 1))
    return _Tail(threshold=threshold, rank=rank, count=count, p_value=p_value)


def _null_distribution(rank: int, held_out: int, synthetic: int) -> Any:
    """Return the null distribution: the number of new images below the `rank`-th smallest held-out distance."""
    from scipy import stats

    return stats.betabinom(synthetic, rank, held_out + 1 - rank)


def _detectable(rank: int, held_out: int, synthetic: int) -> int:
    """Return the smallest number of copies that makes the check fail."""
    return min(int(_null_distribution(rank, held_out, synthetic).isf(SIGNIFICANCE)) + 1, synthetic)


def _ratio(to_train: np.ndarray, to_held_out: np.ndarray) -> np.ndarray:
    """Return the ratio of distances, at most `_FAR`; 1 where both are 0."""
    import numpy as np

    ratio: np.ndarray = np.divide(to_train, to_held_out, out=np.full(len(to_train), _FAR), where=to_held_out > 0)
    return np.where((to_train == 0) & (to_held_out == 0), 1.0, np.minimum(ratio, _FAR))


def _warnings(absolute: _Tail, relative: _Tail, held_out: int) -> Iterator[str]:
    from medzoo.toolkit.nearest import PERCENTILE

    if absolute.p_value < SIGNIFICANCE <= relative.p_value:
        yield (
            "its images are nearer to training images than held-out ones are, but as near to held-out images: they are "
            "smoother or more typical than real ones, which is not copying"
        )
    if held_out < 1 / PERCENTILE:
        yield f"{held_out} held-out images are too few to estimate the 1st percentile of their distances"


def _source_details(to_source: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the distances of variations to their sources (N,) in numbers; none without variations."""
    import numpy as np

    if not len(to_source):
        return {}
    return {
        "variations": len(to_source),
        "source median": float(np.median(to_source)),
        "source closest": float(to_source.min()),
        "source share": float((to_source <= threshold).mean()),
    }


def _source_warnings(to_source: np.ndarray, count: int) -> Iterator[str]:
    if len(to_source):
        yield (
            f"{len(to_source)} of {count} synthetic images are variations of training images, each compared with all "
            "but its own source: they show what their sources show, whatever this check says"
        )


def _method(rank: int, held_out: int, trained_on: int) -> str:
    return (
        f"Euclidean distance to the nearest of {trained_on} training images, mirrored ones included, against that of "
        f"{held_out} held-out images; threshold: distance {rank} of theirs; relative: over the distance to the nearest "
        "held-out image; exact beta-binomial tests"
    )


def _histogram(held_out: np.ndarray, distances: np.ndarray) -> Histogram:
    import numpy as np

    from medzoo.toolkit.metric_samples import FAKE, REAL

    largest = max(held_out.max(), distances.max()) or 1.0
    edges = np.linspace(0.0, largest, BINS + 1)
    return Histogram(
        title="Distance to the nearest training image",
        unit="Euclidean distance of features",
        edges=tuple(edges.tolist()),
        shares={
            role: tuple((np.histogram(values, edges)[0] / len(values)).tolist())
            for role, values in ((REAL, held_out), (FAKE, distances))
        },
    )


def build() -> TrainMetric:
    """Return the metric, and import scikit-learn before it is called, for that changes the global random state."""
    import sklearn.neighbors  # noqa: F401

    return nearest_train


NEAREST_TRAIN = MetricSpec(
    contract=2,
    name="nearest-train",
    summary="memorization check: fraction of synthetic images closer to a training image than 99 % of held-out images",
    unit="share",
    higher_is_better=False,
    needs_features=("features",),
    needs_train=("features", "mirrored"),
    extractors=("pixels", "efficientnet-lite0", DOMAIN),
    build=build,
)
